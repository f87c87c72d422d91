"""Small functions of every room: files that are written whole, suggestions for misspelt names, rows of installed packages."""
