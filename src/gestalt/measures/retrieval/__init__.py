"""Image-text retrieval: recall at k."""
