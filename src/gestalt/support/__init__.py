"""Utilities for all other packages: atomic files, suggestions for misspelt names, plug-ins of
installed packages.
"""
