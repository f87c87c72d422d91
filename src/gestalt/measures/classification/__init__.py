"""Zero-shot classification: one class an image."""
