"""eval: score a checkpoint, at several sizes or under several protocols, or calibrate a background
threshold for it.
"""

from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gestalt.building.evaluation import build_evaluation
from gestalt.building.targets import TRAINED, Target
from gestalt.commands.process import quiet
from gestalt.commands.scoring import open_target, score
from gestalt.commands.sweep import sweep_protocols, sweep_sizes
from gestalt.config.calibration_file import protocol_fields, shares_images
from gestalt.config.schema import ConfigError, Experiment
from gestalt.encoders.dense_model import DenseModel
from gestalt.evaluation.benchmarks import BENCHMARKS
from gestalt.evaluation.images import sizes_of
from gestalt.evaluation.weights import weights_hash
from gestalt.measures.segmentation.calibration import Sweep
from gestalt.measures.segmentation.callback import Segmentation
from gestalt.measures.segmentation.engine import top_down
from gestalt.results.record import provenance, write_record
from gestalt.results.text import images_text
from gestalt.runs.folders import new_evaluation

LEAST = 1e-9
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
    preset = None if protocol.threshold is None else reported.at(protocol.threshold)._asdict()
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
        "protocols_own": preset,
        "oracle": oracle._asdict(),
        "gap_to_oracle": oracle.miou - scored.miou,
        **{key: identity[key] for key in ("checkpoint", *TRAINED) if key in identity},
        "benchmark": row.name,
        "weights_sha256": weights_hash(model),
        "provenance": provenance(),
    }
    with new_evaluation(target.folder, "calibrations") as path:
        write_record(path, record)
    _print(record)
    here = path.relative_to(Path.cwd()) if Path.cwd() in path.parents else path
    words = f"evaluation.calibration={here}"
    if config.evaluation.threshold is not None:
        words += " evaluation.threshold=null"
    print(f"score with it, under the same settings: {words}")
    return path


@torch.no_grad()
def _count_thresholds(
    config: Experiment, model: DenseModel
) -> tuple[Segmentation, Sweep, dict[str, Any]]:
    """Count all thresholds in one pass over the config's split.

    Returns:
        The benchmark's callback, with protocol and classes; the counts; and split, image set,
        number of images and of official images.
    """
    data, callbacks = build_evaluation(config, has_text=model.has_text, only="segmentation")
    (scorer,) = (callback for callback in callbacks if isinstance(callback, Segmentation))
    (image_set,) = data.image_sets
    (loader,) = data.val_dataloader()
    scorer.fit_to(model)
    background = scorer.labels.background
    if background is None:
        raise ConfigError(
            f"--calibrate {scorer.name}: its label set has no background class, so there is no "
            "threshold to calibrate"
        )
    sweep = Sweep(scorer.protocol, classes=len(scorer.labels.names), background=background)
    protocol = replace(scorer.protocol, threshold=scorer.protocol.threshold or LEAST)
    prompts = scorer.embed(model, protocol=protocol)
    device = prompts.vectors.device
    for batch in loader:
        labels = [label.to(device) for label in scorer.truth(batch)]
        images = [image.to(device) for image in batch["image"]]
        scorer.check_unseen(images)
        segmented = top_down(
            model, images, prompts=prompts, protocol=protocol, sizes=sizes_of(labels)
        )
        for image, label in zip(segmented, labels, strict=True):
            sweep.update(image, label)
    counted = {
        "split": config.evaluation.split or "the reported split",
        "image_set": image_set.name,
        "images": len(image_set),
        "images_official": image_set.official_length,
    }
    return scorer, sweep, counted


def _print(record: dict[str, Any]) -> None:
    chosen = record["chosen_on"]
    reported = record["reported_on"]
    oracle = record["oracle"]
    preset = record["protocols_own"]
    print(
        f"protocol {record['protocol']['name']}, background by {record['protocol']['background']}"
    )
    print(
        f"chosen on {chosen['split']} ({images_text(chosen)}): threshold "
        f"{record['threshold']:.3f}, mIoU {chosen['miou']:.4f}"
    )
    print(f"on {reported['split']} ({images_text(reported)}):")
    print(f"  chosen threshold          {record['threshold']:7.3f}  mIoU {reported['miou']:.4f}")
    if preset is not None:
        print(
            f"  the protocol's threshold  {preset['threshold']:7.3f}  mIoU {preset['miou']:.4f}  "
            "(the nearest that was tried)"
        )
    print(
        f"  best on this split        {oracle['threshold']:7.3f}  mIoU {oracle['miou']:.4f}  gap "
        f"{record['gap_to_oracle']:.4f}"
    )


def run(arguments: Namespace) -> int:
    """Score, sweep sizes or protocols, or calibrate; print the metrics, and the record."""
    quiet()
    words = arguments.overrides
    target = open_target(arguments.target, overrides=words, output=arguments.output)
    if arguments.calibrate is not None:
        print("record:", calibrate(target, arguments.calibrate, arguments.split))
    elif arguments.sizes is not None:
        sweep_sizes(target, arguments.sizes, words)
    elif arguments.protocols is not None:
        sweep_protocols(target, arguments.protocols, words)
    else:
        score(target, overrides=words, predictions=arguments.predictions)
    return 0
