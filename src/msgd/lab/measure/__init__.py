"""The command `msgd measure`: applies `msgd.diagnostics` to the saved parameters of finished runs."""
