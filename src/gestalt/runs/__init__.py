"""Run folders: names, numbers, locks."""
