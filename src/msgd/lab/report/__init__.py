"""What comes out of an experiment: verdicts, tables, figures, and the page."""
