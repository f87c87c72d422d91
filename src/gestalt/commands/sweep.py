"""sweep: score one checkpoint at several image sizes; write one JSON and one plot."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gestalt.building.evaluation import build_evaluation
from gestalt.building.targets import Target
from gestalt.commands.process import quiet
from gestalt.commands.scoring import open_target, score
from gestalt.config.schema import ConfigError
from gestalt.evaluation.measures import MEASURES
from gestalt.ledger.plots import DPI, QUIET
from gestalt.ledger.record import provenance, write_record
from gestalt.measures.callback import Scorer
from gestalt.runs.folders import claimed, new_evaluation
from gestalt.support.files import replacing

HEADLINE = tuple(dict.fromkeys(key for row in MEASURES.values() for key in row.headline))
"""Metrics that are drawn as lines."""


def sweep(target: str, *, sizes: Sequence[int], overrides: list[str], output: str | None = None) -> Path | None:
    """Score a checkpoint at each size; each score is its own evaluation, and ``sweeps/<n>.json`` and ``.png`` hold them together.

    Args:
        target: a checkpoint, a run's folder, or an experiment's name for its newest finished plain run.
        sizes: pixels a side, ascending.
        overrides: ``key=value`` words on the saved config.
        output: folder for the records; None for the run's.

    Returns:
        The JSON, on the first rank.

    Raises:
        ConfigError: a size that the tower's patches do not divide, a protocol that fixes its own size, or a calibrated threshold.
    """
    quiet()
    model = open_target(target, overrides=overrides, output=output)
    _check(model, sizes=sizes)
    scored = [score(_sized(model, size), overrides=[*overrides, f"image.eval_size={size}"]) for size in sizes]
    if scored[0].path is None:
        return None
    path = new_evaluation(model.folder, kind="sweeps")
    keys = dict.fromkeys(key for result in scored for key in result.metrics)  # a metric is missing at a size where it is nan
    values = {key: [result.metrics.get(key) for result in scored] for key in keys}
    record = {
        **model.identity,
        "overrides": overrides,
        "sizes": list(sizes),
        "trained_at": model.trained_at,
        "metrics": values,
        "images": scored[0].images,
        "evaluations": [str(result.path.relative_to(model.folder)) for result in scored if result.path is not None],
        "provenance": provenance(),
    }
    with claimed(path):
        write_record(path, record)
    title = f"{model.config.name}, {model.config.scale}"
    figure = plot(values, sizes=sizes, trained_at=model.trained_at, title=title, images=scored[0].images)
    with replacing(path.with_suffix(".png")) as partial:
        figure.savefig(partial, format="png")
    return path


def _sized(model: Target, size: int) -> Target:
    return model._replace(config=replace(model.config, image=replace(model.config.image, eval_size=size)))


def _check(model: Target, *, sizes: Sequence[int]) -> None:
    """Check the sizes before the first is scored."""
    file = model.config.evaluation.calibration
    if file is not None:
        raise ConfigError(
            f"evaluation.calibration={file}: a threshold is calibrated at one size; score each size with its own by `gestalt eval`"
        )
    for size in sizes:
        try:
            model.model.grid(size, size)
        except ValueError as error:
            raise ConfigError(f"--sizes {size}: {error}") from error
    for scorer in build_evaluation(_sized(model, sizes[0]).config, has_text=model.model.has_text)[1]:
        if isinstance(scorer, Scorer) and scorer.protocol.input_size != sizes[0]:
            fixed = f"protocol {scorer.protocol.name} fixes the size at {scorer.protocol.input_size} px"
            raise ConfigError(f"--sizes: {fixed}; choose one without a size of its own, such as whole_square")


def plot(
    values: Mapping[str, Sequence[float | None]], *, sizes: Sequence[int], trained_at: int | None, title: str, images: Mapping[str, str]
) -> Figure:
    """Draw a panel for each benchmark and a line for each metric over the sizes; a dotted line marks the training size."""
    panels: dict[str, dict[str, Sequence[float | None]]] = {}
    for key, scores in values.items():
        benchmark, _, metric = key.partition("/")
        if any(metric.startswith(line) if line.endswith("/") else metric == line for line in HEADLINE):
            panels.setdefault(benchmark, {})[metric] = scores
    figure = Figure(figsize=(6.5 * max(1, len(panels)), 4.6), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    drawn = figure.subplots(1, max(1, len(panels)), squeeze=False)[0]
    for axes, (benchmark, lines) in zip(drawn, panels.items(), strict=False):
        _panel(axes, lines, sizes=sizes, trained_at=trained_at)
        axes.set_title(f"{title}: {benchmark}, {images[benchmark]}", fontsize=11, loc="left")
    return figure


def _panel(axes: Axes, lines: Mapping[str, Sequence[float | None]], *, sizes: Sequence[int], trained_at: int | None) -> None:
    for metric, scores in lines.items():
        points = [(size, value) for size, value in zip(sizes, scores, strict=True) if value is not None]
        style = "--" if metric.startswith("delta/") else "-"
        axes.plot([size for size, _ in points], [value for _, value in points], marker="o", markersize=4, label=metric, linestyle=style)
    if trained_at is not None:
        axes.axvline(trained_at, color=QUIET, linestyle=":", linewidth=1)
    axes.axhline(0, color=QUIET, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xticks(list(sizes), [str(size) for size in sizes])
    axes.set_xlabel("test size, pixels a side   (dotted: training)")
    axes.legend(frameon=False, fontsize=8)
