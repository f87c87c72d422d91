"""Two things that every room needs: files that are written whole, and suggestions for misspelt names."""
