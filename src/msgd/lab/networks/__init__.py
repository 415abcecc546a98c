"""The networks of the experiments, in plain torch."""
