"""Score several models or settings, and print the metrics in one table.

Each row is a separate evaluation. Rows are several models or checkpoints; or one model at several
sizes or under several protocols, for which a JSON file and a plot are written. ``calibrate`` scores
all thresholds at once, to choose the threshold of a background rule.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from gestalt.config.check import check_scoring
from gestalt.config.schema import Experiment
from gestalt.encoders.weights import weights_hash
from gestalt.measures.callback import Scorer
from gestalt.measures.evaluation.benchmarks import BENCHMARKS
from gestalt.measures.evaluation.images import sizes_of
from gestalt.measures.segmentation.calibration import Sweep
from gestalt.measures.segmentation.callback import Segmentation
from gestalt.measures.segmentation.configured import protocol_fields, shares_images
from gestalt.measures.segmentation.engine import top_down
from gestalt.models.opening import TRAINED, Target
from gestalt.results.compare import Column, Comparison, compare
from gestalt.results.plots import QUIET, bars, lines, render_figure
from gestalt.results.record import provenance, write_record
from gestalt.results.result import measured
from gestalt.results.run_record import print_result, scored_images
from gestalt.results.text import OVER_IMAGES, images_text
from gestalt.runs.evaluation import build_evaluation
from gestalt.runs.folders import new_evaluation
from gestalt.runs.score import score
from gestalt.support.files import Fields, write_whole
from gestalt.support.process import tell
from gestalt.support.typed import ConfigError


def score_each(
    rows: Iterable[tuple[str, Target, list[str]]],
    *,
    of: int,
    always: bool = False,
    verbose: bool = False,
    **options: str | None,
) -> Comparison | None:
    """Score each row, and print the metrics of several rows in one table.

    Returns the table; None if there is none, and on ranks other than the first.

    Args:
        rows: label, model, and the words that the model was opened with.  Labels differ.  A model
            is opened only when its row is scored.
        of: number of rows.
        always: True to print the table of a single row too.
        verbose: see ``print_result``.
        options: options of ``score``.
    """
    results = []
    for number, (label, target, words) in enumerate(rows, start=1):
        if of > 1:
            tell(f"{number} of {of}: {label}")
        result = score(target, overrides=words, **options).result
        if result:
            results.append(replace(result, label=label))
            if of == 1 or verbose:
                print_result(results[-1], verbose=verbose)
    if not results or (of == 1 and not always):
        return None
    compared = compare(results, allow_mixed=True)
    table = compared.table()
    print(table.markdown(aligned=True), *table.notes, sep="\n\n")
    return compared


def sweep_sizes(
    target: Target, sizes: list[int], overrides: list[str], *, verbose: bool = False
) -> None:
    """Score a checkpoint at each size, print a table, and write ``sweeps/<n>.json`` and ``.png``.
    Their paths are printed at the end.

    Args:
        target: the model.
        sizes: sides of the images in pixels, ascending.
        overrides: the words that it was opened with.
        verbose: see ``print_result``.

    Raises:
        ConfigError: a size is not a multiple of the tower's patches, the protocol fixes the size,
            or the threshold was calibrated.
    """
    image = target.config.image
    configs = {size: replace(target.config, image=replace(image, eval_size=size)) for size in sizes}
    _check_sizes(target, configs)
    compared = _score_values(
        target, configs, key="image.eval_size", overrides=overrides, verbose=verbose
    )
    if compared is None:
        return
    results = compared.results
    fields = {
        "sizes": sizes,
        "trained_at": target.trained_at,
        # None at a size where a metric is nan
        "metrics": {key: [one.value(key) for one in results] for key in measured(results)},
        "images": scored_images(results[0].record),
        "evaluations": _files(target, compared),
    }
    figure = plot_sizes(compared.columns, target.trained_at, target.origin)
    _write(target, fields, figure, overrides, kind="sweeps")


def sweep_protocols(
    target: Target, protocols: list[str], overrides: list[str], *, verbose: bool = False
) -> None:
    """Score a checkpoint's segmentation under each protocol, print a table, and write
    ``protocols/<n>.json`` and ``.png``.

    Args:
        target: the model.
        overrides: the words that it was opened with.
        protocols: names of the protocols; all other settings are equal.
        verbose: see ``print_result``.

    Raises:
        ConfigError: no benchmark measures segmentation, a threshold was calibrated under another
            protocol, or a protocol does not take the settings.
    """
    evaluation = target.config.evaluation
    if not any("segmentation" in BENCHMARKS[name].measures for name in evaluation.benchmarks):
        raise ConfigError(
            f"--protocols: evaluation.benchmarks={evaluation.benchmarks}: none measures "
            "segmentation; name one that does"
        )
    configs = {
        name: replace(target.config, evaluation=replace(evaluation, protocol=name))
        for name in protocols
    }
    for config in configs.values():  # All settings are checked before the first is scored.
        check_scoring(config)
    compared = _score_values(
        target,
        configs,
        key="evaluation.protocol",
        overrides=overrides,
        verbose=verbose,
        only="segmentation",
    )
    if compared is None:
        return
    fields = {
        "miou": {
            column.metric.partition("/")[0]: {
                _value(label): {"miou": score.mean, "interval": score.over_images}
                for label, score in column.scores.items()
            }
            for column in compared.columns
        },
        "intervals": OVER_IMAGES,
        "evaluations": dict(zip(protocols, _files(target, compared), strict=True)),
    }
    figure = plot_protocols(compared.columns, target.origin)
    _write(target, fields, figure, overrides, kind="protocols")


def _score_values(
    target: Target,
    configs: dict[Any, Experiment],
    *,
    key: str,
    overrides: list[str],
    **options: Any,
) -> Comparison | None:
    """Score a model with each value of a key.  ``configs`` maps values to configurations, and rows
    are labelled ``key=value``.
    """
    words = {f"{key}={value}": target._replace(config=config) for value, config in configs.items()}
    rows = ((word, changed, [*overrides, word]) for word, changed in words.items())
    return score_each(rows, of=len(words), always=True, **options)


def _files(target: Target, compared: Comparison) -> list[str]:
    return [str(result.path.relative_to(target.folder)) for result in compared.results]


def _value(label: str) -> str:
    """Return the value of ``key=value``."""
    return label.partition("=")[2]


def _write(target: Target, fields: Fields, figure: Figure, overrides: list[str], kind: str) -> None:
    """Write the JSON file and the plot of a sweep, and print their paths."""
    with new_evaluation(target.folder, kind) as path:
        write_record(
            path, {**target.identity, "overrides": overrides, **fields, "provenance": provenance()}
        )
    plot = path.with_suffix(".png")
    write_whole(plot, render_figure(figure))
    print(f"{kind}: {path} and {plot.name}")


def _check_sizes(target: Target, configs: dict[int, Experiment]) -> None:
    """Check all sizes before the first is scored."""
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
    _, scorers = build_evaluation(config, has_text=target.model.has_text, places=target.places)
    for scorer in scorers:
        if isinstance(scorer, Scorer) and scorer.protocol.input_size != smallest:
            raise ConfigError(
                f"--sizes: protocol {scorer.protocol.name} fixes the size at "
                f"{scorer.protocol.input_size} px; choose a protocol without its own size, such "
                "as whole_square"
            )


def plot_sizes(columns: Sequence[Column], trained_at: int | None, title: str) -> Figure:
    """Plot each headline metric over the sizes.  A dotted line marks the training size."""
    series = {
        column.metric: {int(_value(label)): score for label, score in column.scores.items()}
        for column in columns
    }
    figure = lines(
        series,
        title=title,
        x_label="test size, pixels a side" + (", dotted: that of training" if trained_at else ""),
        y_label="score",
    )
    if trained_at:
        figure.axes[0].axvline(trained_at, color=QUIET, linestyle=":", linewidth=1)
    return figure


def plot_protocols(columns: Sequence[Column], title: str) -> Figure:
    """Plot a bar with an interval for each protocol of each benchmark."""
    scores = {
        f"{column.metric.partition('/')[0]}, {_value(label)}": score
        for column in columns
        for label, score in column.scores.items()
    }
    return bars(scores, title=title, x_label="mIoU")


MIN_PROBABILITY = 1e-9
"""Threshold on probabilities that replaces 0, because at 0 the probabilities would not be
computed.
"""


def calibrate(target: Target, benchmark: str, split: str | None) -> Path:
    """Choose the threshold of a benchmark's background rule on images that are not used for the
    reported score, and report its effect.

    Args:
        target: a model with a text tower.  Its configuration scores only this benchmark, and
            ``evaluation.protocol`` names the protocol whose threshold is chosen.
        benchmark: the name of a benchmark that measures segmentation.
        split: split to choose on; None for ``train``, and for scenes ``tune``.

    Returns:
        Path of the results file, ``calibrations/<n>.json`` in the run's folder.

    Raises:
        ValueError: there is no threshold to calibrate, or the split shares images with the split of
            the reported score.
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
    on_split = replace(config, evaluation=replace(config.evaluation, split=split))
    scorer, chosen, chosen_on = _count_thresholds(target._replace(config=on_split))
    _, reported, reported_on = _count_thresholds(target)
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
def _count_thresholds(target: Target) -> tuple[Segmentation, Sweep, Fields]:
    """Count all thresholds in one pass over the split of the target's configuration.

    Returns:
        The benchmark's callback, with protocol and classes; the counts; and split, image set,
        number of images and of official images.
    """
    config, model = target.config, target.model
    data, callbacks = build_evaluation(
        config, has_text=model.has_text, only="segmentation", places=target.places
    )
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
