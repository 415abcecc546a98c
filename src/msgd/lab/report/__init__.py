"""The report of an experiment: verdicts, tables, figures, and the HTML page."""
