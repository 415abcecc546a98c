"""The networks that experiments train, in plain torch."""
