"""The command `msgd measure`: the instruments of `msgd.diagnostics` over the parameters that runs kept."""
