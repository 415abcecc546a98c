"""Recipes: experiments described in TOML files, their validation, and the laws built from them."""
