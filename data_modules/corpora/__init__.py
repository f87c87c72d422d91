"""Corpora: how stored pairs are found, read, captioned and counted when they are bad."""
