"""Zero-shot classification: one class per image."""
