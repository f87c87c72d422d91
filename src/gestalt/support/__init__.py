"""Small functions for all other packages: atomic files, suggestions for misspelt names, rows of
installed packages.
"""
