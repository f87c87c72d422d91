"""A further auxiliary loss."""
