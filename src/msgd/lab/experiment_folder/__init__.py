"""The folder of an experiment: each file that it holds has its module here."""
