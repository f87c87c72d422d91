"""Score one model many times: at several sizes or under several protocols, each score an evaluation
of its own, held together by one JSON and one plot; or at all thresholds at once, to choose that of
a background rule.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from gestalt.config.check import check_scoring
from gestalt.config.schema import Experiment
from gestalt.encoders.dense_model import DenseModel
from gestalt.encoders.weights import weights_hash
from gestalt.measures.callback import Scorer
from gestalt.measures.evaluation.benchmarks import BENCHMARKS
from gestalt.measures.evaluation.images import sizes_of
from gestalt.measures.segmentation.calibration import Sweep
from gestalt.measures.segmentation.calibration_file import protocol_fields, shares_images
from gestalt.measures.segmentation.callback import Segmentation
from gestalt.measures.segmentation.engine import top_down
from gestalt.models.opening import TRAINED, Target
from gestalt.results.plots import QUIET, Point, bars, lines, render_figure
from gestalt.results.record import provenance, write_record
from gestalt.results.result import Score, headlines_of, read_result
from gestalt.results.run_record import scored_images
from gestalt.results.text import OVER_IMAGES, images_text
from gestalt.runs.evaluation import build_evaluation
from gestalt.runs.folders import new_evaluation
from gestalt.runs.score import Scored, score
from gestalt.support.files import Fields, write_whole
from gestalt.support.ranks import first_rank
from gestalt.support.typed import ConfigError

Rows = dict[str, Fields]
"""Protocol -> its ``miou``, and the 95 % ``interval`` over images or None."""


def sweep_sizes(target: Target, sizes: list[int], overrides: list[str]) -> None:
    """Score a checkpoint at each size, and write ``sweeps/<n>.json`` and ``.png``, which are named
    at the end.

    Args:
        target: the model.
        sizes: pixels a side, ascending.
        overrides: the words that it was opened with.

    Raises:
        ConfigError: a size that the tower's patches do not divide, a protocol that fixes its own
            size, or a calibrated threshold.
    """
    image = target.config.image
    configs = {size: replace(target.config, image=replace(image, eval_size=size)) for size in sizes}
    _check_sizes(target, configs)
    scored = _score_each(target, configs, key="image.eval_size", overrides=overrides)
    if not first_rank():
        return
    metrics = [result.record["metrics"] for result in scored.values()]
    # A metric is missing at a size where it is nan.
    keys = dict.fromkeys(key for values in metrics for key in values)
    by_key = {key: [values.get(key) for values in metrics] for key in keys}
    fields = {
        "sizes": sizes,
        "trained_at": target.trained_at,
        "metrics": by_key,
        "images": scored_images(scored[sizes[0]].record),
        "evaluations": [result.file for result in scored.values()],
    }
    figure = plot_sizes(by_key, sizes, target.trained_at, _title(target))
    print(f"sweep: {_write(target, fields, figure, overrides, kind='sweeps')}")


def sweep_protocols(target: Target, protocols: list[str], overrides: list[str]) -> None:
    """Score a checkpoint's segmentation under each protocol, and write ``protocols/<n>.json`` and
    ``.png``.  Print a table for each benchmark.

    Args:
        target: the model.
        overrides: the words that it was opened with.
        protocols: names; equal settings otherwise.

    Raises:
        ConfigError: no benchmark that measures segmentation, a threshold that was calibrated under
            another protocol, or settings that a protocol does not take.
    """
    evaluation = target.config.evaluation
    benchmarks = [BENCHMARKS[name] for name in evaluation.benchmarks]
    names = [row.name for row in benchmarks if "segmentation" in row.measures]
    if not names:
        raise ConfigError(
            f"--protocols: evaluation.benchmarks={evaluation.benchmarks}: none measures "
            "segmentation; name one that does"
        )
    configs = {
        name: replace(target.config, evaluation=replace(evaluation, protocol=name))
        for name in protocols
    }
    for config in configs.values():  # All are checked before the first is scored.
        check_scoring(config)
    scored = _score_each(
        target, configs, key="evaluation.protocol", overrides=overrides, only="segmentation"
    )
    if not first_rank():
        return
    rows = {name: _rows(target, scored, f"{name}/miou") for name in names}
    evaluations = {name: result.file for name, result in scored.items()}
    fields = {"miou": rows, "intervals": OVER_IMAGES, "evaluations": evaluations}
    figure = plot_protocols(rows, _title(target))
    written = _write(target, fields, figure, overrides, kind="protocols")
    print_rows(rows)
    print(f"protocols: {written}")


def _score_each(
    target: Target,
    configs: dict[Any, Experiment],
    *,
    key: str,
    overrides: list[str],
    only: str | None = None,
) -> dict[Any, Scored]:
    """Score a model with each value of a key, by which the configurations are listed."""
    return {
        value: score(
            target._replace(config=config), overrides=[*overrides, f"{key}={value}"], only=only
        )
        for value, config in configs.items()
    }


def _write(target: Target, fields: Fields, figure: Figure, overrides: list[str], kind: str) -> str:
    """Write the record and the plot of a sweep.  Returns their names."""
    with new_evaluation(target.folder, kind) as path:
        write_record(
            path, {**target.identity, "overrides": overrides, **fields, "provenance": provenance()}
        )
    plot = path.with_suffix(".png")
    write_whole(plot, render_figure(figure))
    return f"{path} and {plot.name}"


def _title(target: Target) -> str:
    config = target.config
    return f"{config.name}, {config.scale}" if config.scale else str(target.identity["checkpoint"])


def _check_sizes(target: Target, configs: dict[int, Experiment]) -> None:
    """Check the sizes before the first is scored."""
    file = target.config.evaluation.calibration
    if file is not None:
        raise ConfigError(
            f"evaluation.calibration={file}: a threshold is calibrated at one size; score each "
            "size with its own by `gestalt eval`"
        )
    for size in configs:
        try:
            target.model.grid(size, size)
        except ValueError as error:
            raise ConfigError(f"--sizes {size}: {error}") from error
    smallest, config = next(iter(configs.items()))
    _, scorers = build_evaluation(config, has_text=target.model.has_text)
    for scorer in scorers:
        if isinstance(scorer, Scorer) and scorer.protocol.input_size != smallest:
            raise ConfigError(
                f"--sizes: protocol {scorer.protocol.name} fixes the size at "
                f"{scorer.protocol.input_size} px; choose one without a size of its own, such as "
                "whole_square"
            )


def _rows(target: Target, scored: dict[str, Scored], metric: str) -> Rows:
    """Return the metric under each protocol with its interval, in the order given."""
    return {
        name: {
            "miou": result.record["metrics"][metric],
            "interval": read_result(target.folder / result.file).interval(metric),
        }
        for name, result in scored.items()
    }


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
    values: dict[str, list[float | None]], sizes: list[int], trained_at: int | None, title: str
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
    if trained_at:
        figure.axes[0].axvline(trained_at, color=QUIET, linestyle=":", linewidth=1)
    return figure


def plot_protocols(rows: dict[str, Rows], title: str) -> Figure:
    """Draw a bar with its interval for each protocol of each benchmark."""
    scores = {
        f"{benchmark}, {name}": Score({0: row["miou"]}, row["interval"])
        for benchmark, by_protocol in rows.items()
        for name, row in by_protocol.items()
    }
    return bars(scores, title=title, x_label="mIoU, with its 95 % interval over images")


MIN_PROBABILITY = 1e-9
"""Threshold in place of 0 on probabilities: at 0 they would not be computed."""


def calibrate(target: Target, benchmark: str, split: str | None) -> Path:
    """Choose the threshold of a benchmark's background rule on images that are not reported, and
    report what it costs.

    Args:
        target: a model with text, with a configuration that scores the benchmark alone;
            ``evaluation.protocol`` names the protocol whose threshold is chosen.
        benchmark: the name of a benchmark that measures segmentation.
        split: to choose on; None for train, or tune for scenes.

    Returns:
        The record, ``calibrations/<n>.json`` in the run's folder.

    Raises:
        ValueError: there is no threshold to calibrate, or the split shares images with the reported
            one.
    """
    row = BENCHMARKS[benchmark]
    split = split or ("tune" if row.source == "scenes" else "train")
    config = target.config
    identity = target.identity
    if shares_images(split, config.evaluation.split or "val"):
        raise ConfigError(
            f"--split {split}: it shares images with the reported split, which would flatter the "
            "score; choose a split that shares none"
        )
    model = target.model.to("cuda" if torch.cuda.is_available() else "cpu")
    scorer, chosen, chosen_on = _count_thresholds(
        replace(config, evaluation=replace(config.evaluation, split=split)), model
    )
    _, reported, reported_on = _count_thresholds(config, model)
    protocol = scorer.protocol
    best = chosen.best()
    oracle = reported.best()
    scored = reported.at(best.threshold)
    own = None if protocol.threshold is None else reported.at(protocol.threshold)
    record = {
        "protocol": {
            "name": protocol.name,
            "digest": protocol.digest(),
            "background": protocol.background,
            "fields": protocol_fields(protocol),
        },
        "label_set": scorer.labels.digest(),
        "threshold": best.threshold,
        "chosen_on": {**chosen_on, "miou": best.miou},
        "reported_on": {**reported_on, "miou": scored.miou},
        "protocols_own": own and own._asdict(),
        "oracle": oracle._asdict(),
        "gap_to_oracle": oracle.miou - scored.miou,
        **{key: identity[key] for key in ("checkpoint", *TRAINED) if key in identity},
        "benchmark": row.name,
        "weights_sha256": weights_hash(model),
        "provenance": provenance(),
    }
    with new_evaluation(target.folder, "calibrations") as path:
        write_record(path, record)
    print(f"protocol {protocol.name}, background by {protocol.background}")
    print(
        f"chosen on {chosen_on['split']} ({images_text(chosen_on)}): threshold "
        f"{best.threshold:.3f}, mIoU {best.miou:.4f}"
    )
    print(f"on {reported_on['split']} ({images_text(reported_on)}):")
    print(f"  chosen threshold          {best.threshold:7.3f}  mIoU {scored.miou:.4f}")
    if own:
        print(
            f"  the protocol's threshold  {own.threshold:7.3f}  mIoU {own.miou:.4f}  (the nearest "
            "that was tried)"
        )
    print(
        f"  best on this split        {oracle.threshold:7.3f}  mIoU {oracle.miou:.4f}  gap "
        f"{oracle.miou - scored.miou:.4f}"
    )
    here = path.relative_to(Path.cwd()) if Path.cwd() in path.parents else path
    words = f"evaluation.calibration={here}"
    if config.evaluation.threshold is not None:
        words += " evaluation.threshold=null"
    print(f"score with it, under the same settings: {words}")
    return path


@torch.no_grad()
def _count_thresholds(config: Experiment, model: DenseModel) -> tuple[Segmentation, Sweep, Fields]:
    """Count all thresholds in one pass over the config's split.

    Returns:
        The benchmark's callback, with protocol and classes; the counts; and split, image set,
        number of images and of official images.
    """
    data, callbacks = build_evaluation(config, has_text=model.has_text, only="segmentation")
    (scorer,) = (callback for callback in callbacks if isinstance(callback, Segmentation))
    (image_set,) = data.image_sets
    (loader,) = data.val_dataloader()
    background = scorer.labels.background
    if background is None:
        raise ConfigError(
            f"--calibrate {scorer.name}: its label set has no background class, so there is no "
            "threshold to calibrate"
        )
    scorer.begin(model)
    sweep = Sweep(scorer.protocol, classes=len(scorer.labels.names), background=background)
    protocol = replace(scorer.protocol, threshold=scorer.protocol.threshold or MIN_PROBABILITY)
    device = scorer.prompts.vectors.device
    for batch in loader:
        labels = [label.to(device) for label in scorer.truth(batch)]
        images = [image.to(device) for image in batch["image"]]
        scorer.check_unseen(images)
        segmented = top_down(model, images, scorer.prompts, protocol, sizes=sizes_of(labels))
        for image, label in zip(segmented, labels, strict=True):
            sweep.update(image, label)
    counted = {
        "split": config.evaluation.split or "the reported split",
        "image_set": image_set.name,
        "images": len(image_set),
        "images_official": image_set.official_length,
    }
    return scorer, sweep, counted
