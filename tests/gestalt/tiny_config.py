"""The configuration of an experiment at scale tiny."""

from gestalt.config.loading import load


def tiny_config(*words, name="clippy_dino_max"):
    """Load it with these overrides."""
    return load(name, scale="tiny", overrides=list(words))
