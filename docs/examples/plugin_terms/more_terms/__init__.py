"""A further term of the loss."""
