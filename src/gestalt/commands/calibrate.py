"""calibrate: choose the threshold of a background rule, and report what the choice costs."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gestalt.building.evaluation import build_image_sets, open_unlabelled
from gestalt.building.targets import TRAINED, open_target
from gestalt.commands.process import announce, quiet
from gestalt.config.calibration_file import protocol_fields, shares_images
from gestalt.config.check_evaluation import check_has_masks
from gestalt.config.schema import ConfigError, Experiment
from gestalt.encoders.dense_model import DenseModel
from gestalt.evaluation.benchmarks import BENCHMARKS, Benchmark
from gestalt.evaluation.images import sizes_of
from gestalt.evaluation.weights import weights_hash
from gestalt.measures.context import Context
from gestalt.measures.segmentation.calibration import Sweep
from gestalt.measures.segmentation.callback import Segmentation, build
from gestalt.measures.segmentation.engine import top_down
from gestalt.results.record import provenance, write_record
from gestalt.results.text import images_text
from gestalt.runs.folders import check_writable, claimed, new_evaluation

LEAST = 1e-9
"""Threshold in place of 0 on probabilities: at 0 they would not be computed."""


@dataclass(frozen=True)
class Swept:
    """A split and the counts of its sweep over thresholds.

    Attributes:
        split: its name, for display.
        scorer: the benchmark's, with protocol and classes.
        images: image set, number of images and of official images, for the record.
        sweep: the counts.
    """

    split: str
    scorer: Segmentation
    images: dict[str, Any]
    sweep: Sweep


def calibrate(target: str, *, benchmark: str, split: str | None, overrides: list[str], output: str | None = None) -> Path:
    """Choose the threshold of a benchmark's background rule on images that are not reported, and report what it costs.

    Args:
        target: as ``building.targets.open_target``; a model with text.
        benchmark: the name of a benchmark that measures segmentation.
        split: to choose on; None for train, or tune for scenes.
        overrides: ``key=value`` words on the saved config; ``evaluation.protocol`` names the protocol whose threshold is chosen.
        output: folder for the record; None for the run's.

    Returns:
        The record, ``calibrations/<n>.json`` in the run's folder.

    Raises:
        ValueError: there is no threshold to calibrate, or the split shares images with the reported one.
    """
    quiet()
    check_has_masks(benchmark)
    row = BENCHMARKS[benchmark]
    split = split or ("tune" if row.source == "scenes" else "train")
    words = ["evaluation.calibration=null", *overrides, f"evaluation.benchmarks=[{benchmark}]"]
    opened = open_target(target, overrides=words, check=partial(_check_split, split=split))
    config, model, folder, identity, *_ = opened
    announce(opened.origin)
    if not model.has_text:
        raise ConfigError(f"--calibrate {benchmark}: {target} is vision-only and has no names for classes; choose a model with text")
    records = folder if output is None else Path(output)
    check_writable(records)
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    chosen = _swept(replace(config, evaluation=replace(config.evaluation, split=split)), row, model=model)
    reported = _swept(config, row, model=model)
    record = {
        **_record(chosen, reported),
        **{key: identity[key] for key in ("checkpoint", *TRAINED) if key in identity},
        **{"benchmark": benchmark, "weights_sha256": weights_hash(model), "provenance": provenance()},
    }
    with claimed(new_evaluation(records, kind="calibrations")) as path:
        write_record(path, record)
    _print(record, path=path, replaces_threshold=config.evaluation.threshold is not None)
    return path


def _check_split(config: Experiment, split: str) -> None:
    """Refuse a split that shares images with the one that is reported."""
    if shares_images(split, config.evaluation.split or "val"):
        raise ConfigError(
            f"--split {split}: it shares images with the reported split, which would flatter the score; choose a split that shares none"
        )


@torch.no_grad()
def _swept(config: Experiment, benchmark: Benchmark, *, model: DenseModel) -> Swept:
    """Count all thresholds in one pass over the config's split."""
    image_set = build_image_sets(config)[benchmark.image_set]
    scorer = build(Context(config, benchmark, image_set, open_unlabelled=partial(open_unlabelled, config)))
    scorer.fit_to(model)
    background = scorer.labels.background
    if background is None:
        raise ConfigError(f"--calibrate {benchmark.name}: its label set has no background class, so there is no threshold to calibrate")
    sweep = Sweep(scorer.protocol, classes=len(scorer.labels.names), background=background)
    protocol = scorer.protocol if scorer.protocol.threshold else replace(scorer.protocol, threshold=LEAST)
    prompts = scorer.embed(model, protocol=protocol)
    device = prompts.vectors.device
    for start in range(0, len(image_set), config.evaluation.batch_size):
        samples: list[Any] = [image_set.sample(index) for index in range(start, min(start + config.evaluation.batch_size, len(image_set)))]
        labels = scorer.truth({"labels": {scorer.label_set: [sample["labels"][scorer.label_set].to(device) for sample in samples]}})
        images = [sample["image"].to(device) for sample in samples]
        scorer.check_unseen(images)
        segmented = top_down(model, images, prompts=prompts, protocol=protocol, sizes=sizes_of(labels))
        for image, label in zip(segmented, labels, strict=True):
            sweep.update(image, label)
    counted = {"image_set": image_set.name, "images": len(image_set), "images_official": image_set.official_length}
    return Swept(config.evaluation.split or "the reported split", scorer=scorer, images=counted, sweep=sweep)


def _record(chosen: Swept, reported: Swept) -> dict[str, Any]:
    """Return the chosen threshold, its score on both splits, and the best that a choice on the reported split could have scored."""
    protocol = chosen.scorer.protocol
    best, oracle = chosen.sweep.best(), reported.sweep.best()
    scored = reported.sweep.at(best.threshold)
    preset = None if protocol.threshold is None else reported.sweep.at(protocol.threshold)
    return {
        "protocol": {
            **{"name": protocol.name, "digest": protocol.digest(), "background": protocol.background},
            "fields": protocol_fields(protocol),
        },
        "label_set": chosen.scorer.labels.digest(),
        "threshold": best.threshold,
        "chosen_on": {"split": chosen.split, **chosen.images, "miou": best.miou},
        "reported_on": {"split": reported.split, **reported.images, "miou": scored.miou},
        "protocols_own": None if preset is None else {"threshold": preset.threshold, "miou": preset.miou},
        "oracle": {"threshold": oracle.threshold, "miou": oracle.miou},
        "gap_to_oracle": oracle.miou - scored.miou,
    }


def _print(record: dict[str, Any], *, path: Path, replaces_threshold: bool) -> None:
    chosen, reported, oracle, preset = (record[key] for key in ("chosen_on", "reported_on", "oracle", "protocols_own"))
    print(f"protocol {record['protocol']['name']}, background by {record['protocol']['background']}")
    print(f"chosen on {chosen['split']} ({images_text(chosen)}): threshold {record['threshold']:.3f}, mIoU {chosen['miou']:.4f}")
    print(f"on {reported['split']} ({images_text(reported)}):")
    print(f"  chosen threshold          {record['threshold']:7.3f}  mIoU {reported['miou']:.4f}")
    if preset is not None:
        print(f"  the protocol's threshold  {preset['threshold']:7.3f}  mIoU {preset['miou']:.4f}  (the nearest that was tried)")
    print(f"  best on this split        {oracle['threshold']:7.3f}  mIoU {oracle['miou']:.4f}  gap {record['gap_to_oracle']:.4f}")
    folder = Path.cwd()
    words = f"evaluation.calibration={path.relative_to(folder) if folder in path.parents else path}"
    print(f"score with it, under the same settings: {words}{' evaluation.threshold=null' if replaces_threshold else ''}")
