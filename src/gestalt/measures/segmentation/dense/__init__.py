"""Dense prediction: windows, placement, scores, background, refinement."""
