"""Record fields and closing printout shared by ``train`` and ``eval``."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback, Trainer

from gestalt.config.identity import config_hash, to_plain
from gestalt.config.schema import Experiment
from gestalt.ledger.record import provenance
from gestalt.ledger.text import images_text
from gestalt.measures.measured import Measured
from gestalt.model import DualEncoder


def scorers_of(callbacks: list[Callback]) -> list[Measured]:
    """Return the callbacks that have an entry in a record."""
    return [callback for callback in callbacks if isinstance(callback, Measured)]


def metrics_of(callbacks: list[Callback]) -> dict[str, float]:
    """Return the metrics of all scorers, ``<benchmark>/<metric>`` -> value."""
    return {key: value for callback in scorers_of(callbacks) for key, value in callback.result()["metrics"].items()}


def describe(config: Experiment, trainer: Trainer, model: DualEncoder, *, kept: str, overrides: list[str]) -> dict[str, Any]:
    """Return the record fields that ``train`` and ``eval`` share; ``kept`` describes the number of image tokens in a step."""
    scorers = scorers_of(trainer.callbacks)  # type: ignore[attr-defined]
    origin = model.image_tower.origin
    return {
        "experiment": config.name,
        "scale": config.scale,
        "seed": config.seed,
        "overrides": overrides,
        "config": to_plain(config),
        "config_hash": config_hash(config),
        "image_init": {"asked": config.image.init, **origin.record()},
        "text_init": {"asked": config.text.init, "used": model.text_tower.origin.init, "source": model.text_tower.origin.source},
        "tokens_kept": kept,
        "benchmarks": [{key: value for key, value in callback.result().items() if key != "metrics"} for callback in scorers],
        "ranks": trainer.world_size,
        "provenance": provenance(trainer.strategy.root_device),
    }


def scored_images(benchmarks: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return how many images of each benchmark were scored, in words, by its name."""
    return {entry["set"]: images_text(entry) for entry in benchmarks if "images" in entry}


def print_metrics(metrics: dict[str, float], *, images: Mapping[str, str]) -> None:
    """Print how many images of each benchmark were scored, then a line for each metric."""
    for name, text in images.items():
        print(f"{name}: {text}")
    for key, value in metrics.items():
        print(f"{key} {value:.4f}")
