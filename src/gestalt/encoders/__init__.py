"""Towers: pixels and strings to ``Tokens``."""
