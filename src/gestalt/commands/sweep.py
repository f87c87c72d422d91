"""sweep: score one checkpoint at several image sizes, or under several protocols; write one JSON and one plot."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gestalt.building.evaluation import build_evaluation
from gestalt.building.targets import Target
from gestalt.commands.process import quiet
from gestalt.commands.scoring import Scored, open_target, score
from gestalt.config.check_evaluation import check_evaluation
from gestalt.config.schema import ConfigError
from gestalt.evaluation.benchmarks import BENCHMARKS
from gestalt.evaluation.measures import MEASURES
from gestalt.ledger.plots import DPI, QUIET
from gestalt.ledger.record import provenance, write_record
from gestalt.ledger.result import read_result
from gestalt.ledger.statistics import Interval
from gestalt.ledger.text import OVER_IMAGES
from gestalt.measures.callback import Scorer
from gestalt.runs.folders import claimed, new_evaluation
from gestalt.support.files import replacing

HEADLINE = tuple(dict.fromkeys(key for row in MEASURES.values() for key in row.headline))
"""Metrics that are drawn as lines over sizes."""

Rows = Mapping[str, tuple[float, Interval | None]]
"""Protocol to mIoU and its 95 % interval over images."""


def sweep_sizes(target: str, *, sizes: Sequence[int], overrides: list[str], output: str | None = None) -> Path | None:
    """Score a checkpoint at each size; each score is its own evaluation, and ``sweeps/<n>.json`` and ``.png`` hold them together.

    Args:
        target: as ``open_target``.
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
    _check_sizes(model, sizes=sizes)
    scored = [score(_at_size(model, size), overrides=[*overrides, f"image.eval_size={size}"]) for size in sizes]
    if scored[0].path is None:
        return None
    keys = dict.fromkeys(key for result in scored for key in result.metrics)  # a metric is missing at a size where it is nan
    values = {key: [result.metrics.get(key) for result in scored] for key in keys}
    fields = {
        "sizes": list(sizes),
        "trained_at": model.trained_at,
        "metrics": values,
        "images": scored[0].images,
        "evaluations": [str(result.path.relative_to(model.folder)) for result in scored if result.path is not None],
    }
    title = f"{model.config.name}, {model.config.scale}"
    figure = plot_sizes(values, sizes=sizes, trained_at=model.trained_at, title=title, images=scored[0].images)
    return _write(model, fields, figure, kind="sweeps", overrides=overrides)


def sweep_protocols(target: str, *, protocols: Sequence[str], overrides: list[str], output: str | None = None) -> Path | None:
    """Score a checkpoint's segmentation under each protocol, as :func:`sweep_sizes`; print a table for each benchmark.

    Args:
        target, overrides, output: as there.
        protocols: names; equal settings otherwise.

    Returns:
        The JSON, ``protocols/<n>.json`` beside its plot, on the first rank.

    Raises:
        ConfigError: no benchmark that measures segmentation, a calibrated threshold, which fits one protocol only, or settings that a
            protocol does not take.
    """
    quiet()
    model = open_target(target, overrides=overrides, output=output)
    names = [name for name in model.config.evaluation.benchmarks if "segmentation" in BENCHMARKS[name].measures]
    if not names or not model.model.has_text:
        raise ConfigError(f"--protocols: {target} has no segmentation to score on {', '.join(model.config.evaluation.benchmarks)}")
    if model.config.evaluation.calibration is not None:
        raise ConfigError("--protocols: evaluation.calibration fits one protocol only; leave it out")
    for name in protocols:  # all of them before the first is scored
        check_evaluation(_under_protocol(model, name).config)
    scored: dict[str, Scored] = {}
    for name in protocols:
        words = [*overrides, f"evaluation.protocol={name}"]
        scored[name] = score(_under_protocol(model, name), overrides=words, only=frozenset({"segmentation"}))
    first = scored[protocols[0]]
    if first.path is None:
        return None
    rows = {name: _rows(scored, f"{name}/miou") for name in names}
    fields = {
        "miou": {
            benchmark: {name: {"miou": value, "interval": interval} for name, (value, interval) in by_protocol.items()}
            for benchmark, by_protocol in rows.items()
        },
        "intervals": OVER_IMAGES,
        "evaluations": {name: str(row.path.relative_to(model.folder)) for name, row in scored.items() if row.path is not None},
    }
    title = f"{model.config.name}, {model.config.scale}" if model.config.scale else target
    path = _write(model, fields, plot_protocols(rows, title=title, images=first.images), kind="protocols", overrides=overrides)
    print_rows(rows)
    return path


def _write(model: Target, fields: dict[str, Any], figure: Figure, *, kind: str, overrides: list[str]) -> Path:
    """Write the record and the plot of a sweep; return the record's path."""
    with claimed(new_evaluation(model.folder, kind=kind)) as path:
        write_record(path, {**model.identity, "overrides": overrides, **fields, "provenance": provenance()})
    with replacing(path.with_suffix(".png")) as partial:
        figure.savefig(partial, format="png")
    return path


def _at_size(model: Target, size: int) -> Target:
    return model._replace(config=replace(model.config, image=replace(model.config.image, eval_size=size)))


def _under_protocol(model: Target, name: str) -> Target:
    return model._replace(config=replace(model.config, evaluation=replace(model.config.evaluation, protocol=name)))


def _check_sizes(model: Target, *, sizes: Sequence[int]) -> None:
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
    for scorer in build_evaluation(_at_size(model, sizes[0]).config, has_text=model.model.has_text)[1]:
        if isinstance(scorer, Scorer) and scorer.protocol.input_size != sizes[0]:
            fixed = f"protocol {scorer.protocol.name} fixes the size at {scorer.protocol.input_size} px"
            raise ConfigError(f"--sizes: {fixed}; choose one without a size of its own, such as whole_square")


def _rows(scored: Mapping[str, Scored], metric: str) -> Rows:
    """Return the metric under each protocol with its interval, in the order given."""
    rows = {}
    for name, result in scored.items():
        assert result.path is not None
        rows[name] = (result.metrics[metric], read_result(result.path).interval(metric))
    return rows


def print_rows(rows: Mapping[str, Rows]) -> None:
    """Print a table for each benchmark: protocol, mIoU, interval; then how the intervals are computed."""
    for benchmark, by_protocol in rows.items():
        print(f"{benchmark}: mIoU, 95 % interval over images")
        for name, (value, interval) in by_protocol.items():
            print(f"  {name:28} {value:.4f}" + (f"  [{interval.low:.4f}, {interval.high:.4f}]" if interval else ""))
    print(OVER_IMAGES)


def plot_sizes(
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
        for metric, scores in lines.items():
            points = [(size, value) for size, value in zip(sizes, scores, strict=True) if value is not None]
            style = "--" if metric.startswith("delta/") else "-"
            axes.plot([size for size, _ in points], [value for _, value in points], "o", markersize=4, label=metric, linestyle=style)
        if trained_at is not None:
            axes.axvline(trained_at, color=QUIET, linestyle=":", linewidth=1)
        axes.axhline(0, color=QUIET, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xticks(list(sizes), [str(size) for size in sizes])
        axes.set_xlabel("test size, pixels a side   (dotted: training)")
        axes.legend(frameon=False, fontsize=8)
        axes.set_title(f"{title}: {benchmark}, {images[benchmark]}", fontsize=11, loc="left")
    return figure


def plot_protocols(rows: Mapping[str, Rows], *, title: str, images: Mapping[str, str]) -> Figure:
    """Draw a panel for each benchmark: a point and an interval for each protocol."""
    count = max(len(by_protocol) for by_protocol in rows.values())
    figure = Figure(figsize=(7.5, 0.6 + len(rows) * (0.9 + 0.3 * count)), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axes, (benchmark, by_protocol) in zip(panels, rows.items(), strict=True):
        _draw_protocols(axes, by_protocol)
        axes.set_title(f"{title}: {benchmark}, {images.get(benchmark, '')}", fontsize=11, loc="left")
    return figure


def _draw_protocols(axes: Axes, by_protocol: Rows) -> None:
    for place, (value, interval) in enumerate(by_protocol.values()):
        if interval is not None:
            axes.plot([interval.low, interval.high], [place, place], color="tab:blue", linewidth=2)
        axes.plot([value], [place], marker="o", color="tab:blue", markersize=5)
        axes.annotate(f"{value:.3f}", (value, place), textcoords="offset points", xytext=(0, 6), ha="center", fontsize=8)
    axes.set_yticks(range(len(by_protocol)), list(by_protocol), fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.grid(axis="x", color=QUIET, linewidth=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("mIoU, with its 95 % interval over images")
