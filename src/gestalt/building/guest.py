"""Open other people's models, named as ``open_clip:FOLDER``, with the configuration that they are scored by."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from gestalt.building.model import build_model
from gestalt.config.identity import flatten, to_plain
from gestalt.config.loading import LOGS, load
from gestalt.config.schema import ConfigError, Experiment
from gestalt.encoders.dense_model import DenseModel
from gestalt.runs.names import guest_of
from gestalt.support.names import file_name
from gestalt.zoo import clippy
from gestalt.zoo.early import check_guest
from gestalt.zoo.kinds import adapter

SCORING = ("data.source=scenes", "trainer.precision=32-true", "evaluation.benchmarks=[scenes]", "projection.order=none")
"""Overrides of the schema's defaults, before those of the command line."""


READ = (
    *("evaluation.", "benchmark_root=", "benchmark_subset=", "image.eval_size=", "trainer.accelerator=", "trainer.devices="),
    *("trainer.strategy=", "trainer.num_nodes=", "trainer.precision=", "trainer.profiler=", "trainer.enable_progress_bar="),
    *("trainer.deterministic=", "trainer.benchmark=", "data.source=", "data.root=", "data.recipe=", "data.workers="),
)
"""Prefixes of the overrides that scoring a model of the zoo reads."""

READ_BY_CLIPPY = ("image.", "text.", "projection.")
"""Further prefixes for the public CLIPpy, whose towers are built from the configuration."""


class Guest(NamedTuple):
    """A model of another library, with what scoring needs.

    Attributes:
        model: with its weights.
        config: configuration of its evaluation; the image and text sections are placeholders, except for CLIPpy.
        file: its weights, if they are one file.
        folder: where its evaluations go.
        description: library, version and architecture, for the record.
    """

    model: DenseModel
    config: Experiment
    file: Path | None
    folder: Path
    description: dict[str, Any]

    def settings(self) -> dict[str, Any]:
        """Return the part of the configuration that scoring reads, flat, for the record; the other keys are placeholders."""
        flat = flatten(to_plain(self.config))
        read = READ + (READ_BY_CLIPPY if self.file is not None else ())
        return {key: value for key, value in flat.items() if f"{key}=".startswith(read)}


def open_guest(target: str, *, overrides: list[str]) -> Guest:
    """Open a model of another library.

    Args:
        target: ``kind:name``, as ``runs.names.guest_of`` reads it; the kinds are those of ``zoo/kinds.py``, and ``clippy:FILE``.
        overrides: ``key=value`` words.

    Raises:
        ValueError: an unknown kind, or a model that cannot be opened or scored.
    """
    parts = guest_of(target)
    assert parts is not None, target
    kind, name = parts
    _refuse_unread(target, overrides, kind=kind)
    folder = LOGS / "zoo" / kind / file_name(name)
    if kind == "clippy":
        config = load(None, scale=None, overrides=[*SCORING, *overrides])
        fresh = replace(config, image=replace(config.image, init="random", weights=None, eval_size=224))
        check_guest(kind, name)  # before the text model, which may have to be downloaded
        description = {"library": "kahnchana/clippy", "architecture": {"backbone": fresh.image.backbone, "text": fresh.text.model}}
        return Guest(clippy.load_into(build_model(fresh), Path(name)), config, Path(name), folder, description)
    module = adapter(kind)
    model = module.open_model(name)
    config = load(None, scale=None, overrides=[*SCORING, f"image.eval_size={model.size}", *overrides])
    return Guest(model, config, None, folder, module.describe(name))


def _refuse_unread(target: str, overrides: list[str], *, kind: str) -> None:
    """Refuse keys that scoring this model does not read: the record would state a setting that had no effect."""
    read = READ + (READ_BY_CLIPPY if kind == "clippy" else ())
    for word in overrides:
        if not word.startswith(read):
            raise ConfigError(f"{word}: scoring {target} does not read it; leave it out (read: {', '.join(read)})")
