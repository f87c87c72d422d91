"""Cached outputs of frozen towers: the key that they are valid for."""
