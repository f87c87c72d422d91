"""sweep: one checkpoint at several image sizes, as one JSON and one plot."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gestalt.building.evaluation import build_evaluation
from gestalt.commands.process import quiet
from gestalt.commands.scoring import Target, open_target, score
from gestalt.config.schema import ConfigError
from gestalt.ledger.record import provenance, write_record
from gestalt.runs.folders import new_evaluation

DRAWN = ("miou", "matched_miou", "jaccard", "accuracy", "adjusted_accuracy", "top_5", "worst_group", "mean_group", "recall_at_10")
"""Metrics that get a line, and with them what begins with ``accuracy/`` or ``delta/``."""

QUIET = "#8a8a8a"


def sweep(target: str, *, sizes: Sequence[int], overrides: list[str]) -> Path | None:
    """Score a checkpoint at each size; every score is an evaluation of its own, and ``sweeps/<n>.json`` and ``.png`` hold them together.

    Args:
        target: a checkpoint, a run's folder, or an experiment's name for its newest run.
        sizes: pixels a side, ascending.
        overrides: ``key=value`` words on the saved config.

    Returns:
        The JSON, on the first rank.

    Raises:
        ConfigError: a size that the tower's patches do not divide, a protocol that fixes its own size, or a calibrated threshold.
    """
    quiet()
    model = open_target(target, overrides=overrides)
    _check(model, sizes=sizes)
    found = [score(_sized(model, size), overrides=[*overrides, f"image.eval_size={size}"]) for size in sizes]
    if found[0].path is None:
        return None
    path = new_evaluation(model.folder, kind="sweeps")
    keys = dict.fromkeys(key for one in found for key in one.metrics)  # what is nan at one size is left out there
    values = {key: [one.metrics.get(key) for one in found] for key in keys}
    record = {
        **model.identity,
        "overrides": overrides,
        "sizes": list(sizes),
        "trained_at": model.trained_at,
        "metrics": values,
        "images": found[0].images,
        "evaluations": [str(one.path.relative_to(model.folder)) for one in found if one.path is not None],
        "provenance": provenance(),
    }
    write_record(path, record)
    title = f"{model.config.name}, {model.config.scale}"
    plot(values, sizes=sizes, trained_at=model.trained_at, title=title, images=found[0].images).savefig(path.with_suffix(".png"))
    return path


def _sized(model: Target, size: int) -> Target:
    return model._replace(config=replace(model.config, image=replace(model.config.image, eval_size=size)))


def _check(model: Target, *, sizes: Sequence[int]) -> None:
    """Refuse before the first hour is spent."""
    file = model.config.evaluation.calibration
    if file is not None:
        raise ConfigError(
            f"evaluation.calibration={file}: a threshold is calibrated at one size; score each size with its own by `gestalt eval`"
        )
    for size in sizes:
        try:
            model.model.image_tower.grid(size, size)
        except ValueError as error:
            raise ConfigError(f"--sizes {size}: {error}") from error
    for callback in build_evaluation(_sized(model, sizes[0]).config)[1]:
        protocol: Any = getattr(callback, "protocol", None)
        if protocol is not None and protocol.input_size != sizes[0]:
            fixed = f"protocol {protocol.name} has {protocol.input_size} px at every size"
            raise ConfigError(f"--sizes: {fixed}; choose one that the tower sizes, such as whole_square")


def plot(
    values: Mapping[str, Sequence[float | None]], *, sizes: Sequence[int], trained_at: int | None, title: str, images: Mapping[str, str]
) -> Figure:
    """A panel a benchmark with how many images it stands on, a line a metric over the sizes; a dotted line where training was."""
    panels: dict[str, list[str]] = {}
    for key in values:
        name, _, what = key.partition("/")
        if what in DRAWN or what.startswith(("accuracy/", "delta/")):
            panels.setdefault(name, []).append(key)
    figure = Figure(figsize=(6.5 * max(1, len(panels)), 4.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    drawn = figure.subplots(1, max(1, len(panels)), squeeze=False)[0]
    for axes, (name, keys) in zip(drawn, panels.items(), strict=False):
        _panel(axes, {key.partition("/")[2]: values[key] for key in keys}, sizes=sizes, trained_at=trained_at)
        axes.set_title(f"{title}: {name}, {images[name]}", fontsize=11, loc="left")
    return figure


def _panel(axes: Axes, lines: Mapping[str, Sequence[float | None]], *, sizes: Sequence[int], trained_at: int | None) -> None:
    for what, scores in lines.items():
        points = [(size, value) for size, value in zip(sizes, scores, strict=True) if value is not None]
        style = "--" if what.startswith("delta/") else "-"
        axes.plot([size for size, _ in points], [value for _, value in points], marker="o", markersize=4, label=what, linestyle=style)
    if trained_at is not None:
        axes.axvline(trained_at, color=QUIET, linestyle=":", linewidth=1)
    axes.axhline(0, color=QUIET, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xticks(list(sizes), [str(size) for size in sizes])
    axes.set_xlabel("test size, pixels a side   (dotted: training)")
    axes.legend(frameon=False, fontsize=8)
