"""Corpora: locate, read, caption and check stored pairs."""
