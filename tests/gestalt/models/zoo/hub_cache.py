"""A folder in place of the hub's cache, with models of timm."""

import timm
from huggingface_hub import constants


def save_for_hub(name, folder, **options):
    """Save a model with random weights as the hub's client would; returns it."""
    model = timm.create_model(name, **options)
    place = folder / f"models--timm--{name}"
    timm.models.save_for_hf(model, place / "snapshots/a1", safe_serialization=True)
    (place / "refs").mkdir()
    (place / "refs/main").write_text("a1")
    return model.eval()


def as_hub(folder, monkeypatch):
    """Let a folder be the hub's cache; beside it, the names' vectors are kept for all tests."""
    monkeypatch.setenv("GESTALT_CACHE", str(folder.parent))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    return folder
