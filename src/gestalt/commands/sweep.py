"""eval --sizes, --protocols: score a checkpoint at several sizes or under several protocols; write
one JSON and one plot.
"""

from dataclasses import replace
from typing import Any

from matplotlib.figure import Figure

from gestalt.building.evaluation import build_evaluation
from gestalt.building.targets import Target
from gestalt.commands.scoring import ScoringResult, score
from gestalt.config.check_evaluation import check_evaluation
from gestalt.config.schema import ConfigError
from gestalt.evaluation.benchmarks import BENCHMARKS
from gestalt.measures.callback import Scorer
from gestalt.results.plots import QUIET, Point, bars, lines, render_figure
from gestalt.results.reading import read_result
from gestalt.results.record import provenance, write_record
from gestalt.results.result import Score, headlines_of
from gestalt.results.text import OVER_IMAGES
from gestalt.runs.folders import new_evaluation
from gestalt.support.files import write_whole

Rows = dict[str, dict[str, Any]]
"""Protocol -> its ``miou``, and the 95 % ``interval`` over images or None."""


def sweep_sizes(target: Target, sizes: list[int], overrides: list[str]) -> None:
    """Score a checkpoint at each size; each score is its own evaluation, and ``sweeps/<n>.json``
    and ``.png``, which are named at the end, hold them together.

    Args:
        target: the model.
        sizes: pixels a side, ascending.
        overrides: the words that it was opened with.

    Raises:
        ConfigError: a size that the tower's patches do not divide, a protocol that fixes its own
            size, or a calibrated threshold.
    """
    _check_sizes(target, sizes)
    scored = {
        size: score(_at_size(target, size), overrides=[*overrides, f"image.eval_size={size}"])
        for size in sizes
    }
    evaluations = _evaluations(target, scored)
    if not evaluations:
        return
    # a metric is missing at a size where it is nan
    keys = dict.fromkeys(key for result in scored.values() for key in result.metrics)
    values = {key: [result.metrics.get(key) for result in scored.values()] for key in keys}
    trained_at = target.trained_at
    fields = {
        "sizes": sizes,
        "trained_at": trained_at,
        "metrics": values,
        "images": scored[sizes[0]].images,
        "evaluations": list(evaluations.values()),
    }
    figure = plot_sizes(values, sizes=sizes, trained_at=trained_at, title=_title(target))
    print(f"sweep: {_write(target, fields, figure, overrides, kind='sweeps')}")


def sweep_protocols(target: Target, protocols: list[str], overrides: list[str]) -> None:
    """Score a checkpoint's segmentation under each protocol, as :func:`sweep_sizes`, into
    ``protocols/<n>.json`` and ``.png``; print a table for each benchmark.

    Args:
        target, overrides: as there.
        protocols: names; equal settings otherwise.

    Raises:
        ConfigError: no benchmark that measures segmentation, a calibrated threshold, which fits one
            protocol only, or settings that a protocol does not take.
    """
    evaluation = target.config.evaluation
    benchmarks = [BENCHMARKS[name] for name in evaluation.benchmarks]
    names = [row.name for row in benchmarks if "segmentation" in row.measures]
    if not names:
        raise ConfigError(
            f"--protocols: evaluation.benchmarks={evaluation.benchmarks}: none measures "
            "segmentation; name one that does"
        )
    if evaluation.calibration is not None:
        raise ConfigError(
            "--protocols: evaluation.calibration fits one protocol only; leave it out"
        )
    under = {}
    for name in protocols:  # all of them before the first is scored
        config = replace(target.config, evaluation=replace(evaluation, protocol=name))
        check_evaluation(config)
        under[name] = target._replace(config=config)
    scored = {
        name: score(
            each, overrides=[*overrides, f"evaluation.protocol={name}"], only="segmentation"
        )
        for name, each in under.items()
    }
    evaluations = _evaluations(target, scored)
    if not evaluations:
        return
    rows = {name: _rows(scored, f"{name}/miou") for name in names}
    fields = {"miou": rows, "intervals": OVER_IMAGES, "evaluations": evaluations}
    figure = plot_protocols(rows, title=_title(target))
    written = _write(target, fields, figure, overrides, kind="protocols")
    print_rows(rows)
    print(f"protocols: {written}")


def _evaluations(target: Target, scored: dict[Any, ScoringResult]) -> dict[Any, str]:
    """Return the record of each score, relative to the folder of the records; empty on ranks after
    the first.
    """
    return {
        key: str(result.path.relative_to(target.folder))
        for key, result in scored.items()
        if result.path is not None
    }


def _write(
    model: Target, fields: dict[str, Any], figure: Figure, overrides: list[str], *, kind: str
) -> str:
    """Write the record and the plot of a sweep.  Returns their names."""
    with new_evaluation(model.folder, kind) as path:
        write_record(
            path, {**model.identity, "overrides": overrides, **fields, "provenance": provenance()}
        )
    plot = path.with_suffix(".png")
    write_whole(plot, render_figure(figure))
    return f"{path} and {plot.name}"


def _title(target: Target) -> str:
    config = target.config
    return f"{config.name}, {config.scale}" if config.scale else str(target.identity["checkpoint"])


def _at_size(model: Target, size: int) -> Target:
    return model._replace(
        config=replace(model.config, image=replace(model.config.image, eval_size=size))
    )


def _check_sizes(model: Target, sizes: list[int]) -> None:
    """Check the sizes before the first is scored."""
    file = model.config.evaluation.calibration
    if file is not None:
        raise ConfigError(
            f"evaluation.calibration={file}: a threshold is calibrated at one size; score each "
            "size with its own by `gestalt eval`"
        )
    for size in sizes:
        try:
            model.model.grid(size, size)
        except ValueError as error:
            raise ConfigError(f"--sizes {size}: {error}") from error
    smallest = _at_size(model, sizes[0]).config
    _, scorers = build_evaluation(smallest, has_text=model.model.has_text)
    for scorer in scorers:
        if isinstance(scorer, Scorer) and scorer.protocol.input_size != sizes[0]:
            raise ConfigError(
                f"--sizes: protocol {scorer.protocol.name} fixes the size at "
                f"{scorer.protocol.input_size} px; choose one without a size of its own, such as "
                "whole_square"
            )


def _rows(scored: dict[str, ScoringResult], metric: str) -> Rows:
    """Return the metric under each protocol with its interval, in the order given."""
    rows = {}
    for name, result in scored.items():
        assert result.path is not None
        interval = read_result(result.path).interval(metric)
        rows[name] = {"miou": result.metrics[metric], "interval": interval}
    return rows


def print_rows(rows: dict[str, Rows]) -> None:
    """Print a table for each benchmark: protocol, mIoU, interval; then how the intervals are
    computed.
    """
    for benchmark, by_protocol in rows.items():
        print(f"{benchmark}: mIoU, 95 % interval over images")
        for name, row in by_protocol.items():
            bounds = ", ".join(f"{bound:.4f}" for bound in row["interval"] or ())
            print(f"  {name:28} {row['miou']:.4f}" + (f"  [{bounds}]" if bounds else ""))
    print(OVER_IMAGES)


def plot_sizes(
    values: dict[str, list[float | None]], *, sizes: list[int], trained_at: int | None, title: str
) -> Figure:
    """Draw a line for each headline over the sizes; a dotted line marks the training size."""
    series = {
        key: [
            Point(size, value)
            for size, value in zip(sizes, values[key], strict=True)
            if value is not None
        ]
        for key in headlines_of(values)
    }
    figure = lines(
        series,
        title=title,
        x_label="test size, pixels a side   (dotted: training)",
        y_label="score",
    )
    if trained_at is not None:
        figure.axes[0].axvline(trained_at, color=QUIET, linestyle=":", linewidth=1)
    return figure


def plot_protocols(rows: dict[str, Rows], *, title: str) -> Figure:
    """Draw a bar with its interval for each protocol of each benchmark."""
    scores = {
        f"{benchmark}, {name}": Score({0: row["miou"]}, row["interval"])
        for benchmark, by_protocol in rows.items()
        for name, row in by_protocol.items()
    }
    return bars(scores, title=title, x_label="mIoU, with its 95 % interval over images")
