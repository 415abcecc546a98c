"""Tasks: data, network, loss and scores, built in or from the user's own code."""
