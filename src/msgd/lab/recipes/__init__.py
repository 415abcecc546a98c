"""Recipes: experiments as TOML files, found, validated, and built into laws."""
