"""Measures of what a student costs and what it retrieves."""
