"""Robustness to misleading backgrounds: accuracy of each group."""
