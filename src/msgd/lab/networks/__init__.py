"""Networks of the experiments, in plain torch."""
