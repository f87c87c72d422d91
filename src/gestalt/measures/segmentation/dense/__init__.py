"""Dense prediction: windows and scores, placement, winners."""
