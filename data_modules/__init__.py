"""What a batch is, and where images and texts come from.  Knows nothing of the model."""
