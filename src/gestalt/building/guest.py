"""Open other people's models, named as ``zoo:open_clip:FOLDER``, with the configuration that they are scored by."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from gestalt.building.model import build_model
from gestalt.config.loading import LOGS, load
from gestalt.config.schema import ConfigError, Experiment
from gestalt.model import DualEncoder
from gestalt.support.names import nearest
from gestalt.zoo import clippy, open_clip

KINDS = ("open_clip", "clippy")
SCORING = ("data.source=scenes", "trainer.precision=32-true", "evaluation.benchmarks=[scenes]", "projection.order=none")
"""Overrides of the schema's defaults, before those of the command line."""


class Guest(NamedTuple):
    """A model of the zoo.

    Attributes:
        model: with its weights.
        config: how it is scored; the image and text sections are placeholders, except for CLIPpy.
        file: its weights, if they are one file.
        folder: where its evaluations go.
    """

    model: DualEncoder
    config: Experiment
    file: Path | None
    folder: Path


def is_guest(target: str) -> bool:
    """Return True if a target of ``eval`` is a model of the zoo."""
    return target.startswith("zoo:")


def open_guest(target: str, *, overrides: list[str]) -> Guest:
    """Open a model of the zoo.

    Args:
        target: ``zoo:open_clip:NAME`` as ``zoo.open_clip.open_model`` takes it, or ``zoo:clippy:FILE``.
        overrides: ``key=value`` words.

    Raises:
        ValueError: an unknown kind, or a model that cannot be opened or scored.
    """
    _, _, rest = target.partition(":")
    kind, _, name = rest.partition(":")
    if kind not in KINDS or not name:
        raise ConfigError(f"{target}: a model of the zoo is zoo:open_clip:NAME or zoo:clippy:FILE; {nearest(kind, list(KINDS))}")
    folder = LOGS / "zoo" / kind / "".join(letter if letter.isalnum() or letter in "-._" else "_" for letter in name)
    if kind == "clippy":
        config = load(None, scale=None, overrides=[*SCORING, *overrides])
        fresh = replace(config, image=replace(config.image, init="random", weights=None, eval_size=224))
        clippy.check_file(Path(name))  # before the text model, which may have to be downloaded
        return Guest(clippy.load_into(build_model(fresh), Path(name)), config, Path(name), folder)
    model = open_clip.open_model(name)
    size = int(model.image_tower.trunk.visual.image_size[0])
    config = load(None, scale=None, overrides=[*SCORING, f"image.eval_size={size}", *overrides])
    return Guest(model, config, None, folder)
