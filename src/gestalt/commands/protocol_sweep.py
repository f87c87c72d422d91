"""protocol sweep: score one checkpoint's segmentation under several protocols; write one JSON, one plot and a table."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gestalt.building.targets import Target
from gestalt.commands.process import quiet
from gestalt.commands.scoring import Scored, open_target, score
from gestalt.config.check_evaluation import check_evaluation
from gestalt.config.schema import ConfigError
from gestalt.evaluation.benchmarks import BENCHMARKS
from gestalt.ledger.intervals import Interval
from gestalt.ledger.plots import DPI, QUIET
from gestalt.ledger.record import provenance, write_record
from gestalt.ledger.result import read_result
from gestalt.ledger.text import OVER_IMAGES
from gestalt.runs.folders import claimed, new_evaluation

Rows = Mapping[str, tuple[float, Interval | None]]
"""Protocol to mIoU and its 95 % interval over images."""


def protocol_sweep(target: str, *, protocols: Sequence[str], overrides: list[str], output: str | None = None) -> Path | None:
    """Score a checkpoint's segmentation under each protocol; each score is its own evaluation.

    Args:
        target: as ``open_target``.
        protocols: names; equal settings otherwise.
        overrides: ``key=value`` words on the saved config.
        output: folder for the records; None for the run's.

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
        check_evaluation(_under(model, name).config)
    scored = {name: _scored(model, name, overrides=overrides) for name in protocols}
    if next(iter(scored.values())).path is None:
        return None
    rows = {name: _rows(scored, f"{name}/miou") for name in names}
    record = {**model.identity, "overrides": overrides, **_record(scored, rows, folder=model.folder), "provenance": provenance()}
    with claimed(new_evaluation(model.folder, kind="protocols")) as path:
        write_record(path, record)
    title = f"{model.config.name}, {model.config.scale}" if model.config.scale else target
    plot(rows, title=title, images=next(iter(scored.values())).images).savefig(path.with_suffix(".png"))
    print_rows(rows)
    return path


def _scored(model: Target, name: str, *, overrides: list[str]) -> Scored:
    """Score the segmentation under a protocol."""
    return score(_under(model, name), overrides=[*overrides, f"evaluation.protocol={name}"], only=frozenset({"segmentation"}))


def _under(model: Target, name: str) -> Target:
    return model._replace(config=replace(model.config, evaluation=replace(model.config.evaluation, protocol=name)))


def _rows(scored: Mapping[str, Scored], metric: str) -> Rows:
    """Return the metric under each protocol with its interval, in the order given."""
    rows = {}
    for name, result in scored.items():
        assert result.path is not None
        rows[name] = (result.metrics[metric], read_result(result.path).interval(metric))
    return rows


def _record(scored: Mapping[str, Scored], rows: Mapping[str, Rows], *, folder: Path) -> dict[str, Any]:
    """Return the fields of the record: each benchmark's numbers, and the evaluations that they come from."""
    return {
        "miou": {
            benchmark: {name: {"miou": value, "interval": interval} for name, (value, interval) in by_protocol.items()}
            for benchmark, by_protocol in rows.items()
        },
        "intervals": OVER_IMAGES,
        "evaluations": {name: str(row.path.relative_to(folder)) for name, row in scored.items() if row.path is not None},
    }


def print_rows(rows: Mapping[str, Rows]) -> None:
    """Print a table for each benchmark: protocol, mIoU, interval; then how the intervals are computed."""
    for benchmark, by_protocol in rows.items():
        print(f"{benchmark}: mIoU, 95 % interval over images")
        for name, (value, interval) in by_protocol.items():
            print(f"  {name:28} {value:.4f}" + (f"  [{interval.low:.4f}, {interval.high:.4f}]" if interval else ""))
    print(OVER_IMAGES)


def plot(rows: Mapping[str, Rows], *, title: str, images: Mapping[str, str]) -> Figure:
    """Draw a panel for each benchmark: a point and an interval for each protocol."""
    count = max(len(by_protocol) for by_protocol in rows.values())
    figure = Figure(figsize=(7.5, 0.6 + len(rows) * (0.9 + 0.3 * count)), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axes, (benchmark, by_protocol) in zip(panels, rows.items(), strict=True):
        _panel(axes, by_protocol)
        axes.set_title(f"{title}: {benchmark}, {images.get(benchmark, '')}", fontsize=11, loc="left")
    return figure


def _panel(axes: Axes, by_protocol: Rows) -> None:
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
