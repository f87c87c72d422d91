"""calibrate, vocabulary: what the command line calls to choose a threshold, and to look at the words that name classes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gestalt.building.checkpoint import load_model
from gestalt.building.evaluation import build_image_sets, build_segmentation
from gestalt.commands.process import quiet
from gestalt.config.calibration_file import flatters, protocol_fields
from gestalt.config.check_evaluation import check_has_masks
from gestalt.config.loading import WHOLE, load_saved
from gestalt.config.schema import ConfigError, Experiment
from gestalt.evaluation.benchmarks import BENCHMARKS
from gestalt.evaluation.dense.windows import PatchCache
from gestalt.evaluation.prompts import class_embeddings
from gestalt.evaluation.protocols import TopDownProtocol
from gestalt.ledger.record import provenance, weights_hash, write_record
from gestalt.ledger.text import images_text
from gestalt.measures.segmentation.calibration import Sweep
from gestalt.measures.segmentation.callback import Segmentation
from gestalt.measures.segmentation.engine import top_down
from gestalt.model import DualEncoder
from gestalt.runs.folders import new_evaluation
from gestalt.runs.names import resolve_checkpoint, run_folder

LEAST = 1e-9
"""In place of a probability of 0, below which nothing is, so that probabilities are computed at all."""


def calibrate(target: str, *, benchmark: str, split: str | None, overrides: list[str]) -> Path:
    """Choose the threshold of a benchmark's background rule on images that are not reported, and say what it costs.

    Args:
        target: a checkpoint, a run's folder, or an experiment's name for its newest run.
        benchmark: a row of ``BENCHMARKS`` that measures segmentation.
        split: to choose on; None for train, or tune for scenes.
        overrides: ``key=value`` words on the saved config; ``evaluation.protocol`` says whose threshold.

    Returns:
        The record, ``calibrations/<n>.json`` in the run's folder.

    Raises:
        ValueError: nothing to calibrate, or a split that is the reported one.
    """
    quiet()
    check_has_masks(benchmark)
    checkpoint = resolve_checkpoint(target)
    folder = run_folder(checkpoint)
    config = load_saved(
        folder / "config.yaml", overrides=[WHOLE, "evaluation.calibration=null", *overrides, f"evaluation.benchmarks=[{benchmark}]"]
    )
    choosing = split or ("tune" if BENCHMARKS[benchmark].source == "scenes" else "train")
    reported_split = config.evaluation.split or "val"
    if flatters(choosing, reported_split):
        raise ConfigError(
            f"--split {choosing}: a threshold that is chosen on the images that are reported flatters; choose a split that shares none"
        )
    model = load_model(checkpoint, replace(config, image=replace(config.image, eval_size=_trained_size(folder)))).eval()
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    chosen = _swept(replace(config, evaluation=replace(config.evaluation, split=choosing)), benchmark, model=model)
    reported = _swept(config, benchmark, model=model)
    record = _record(chosen, reported, split=choosing, reported_split=config.evaluation.split or "the reported split")
    path = new_evaluation(folder, kind="calibrations")
    more = {"benchmark": benchmark, "checkpoint": str(checkpoint), "weights_sha256": weights_hash(model), "provenance": provenance()}
    write_record(path, {**record, **more})
    _print(record, path=path, given=config.evaluation.threshold is not None)
    return path


def _trained_size(folder: Path) -> int:
    """The size that the position embeddings of a run's image tower were made for."""
    return load_saved(folder / "config.yaml").image.eval_size


class _Swept:
    """A split and what its sweep counted."""

    def __init__(self, scorer: Segmentation, *, images: dict[str, Any]) -> None:
        self.protocol: TopDownProtocol = scorer.protocol
        self.label_set = scorer.labels.digest()
        self.images = images
        assert scorer.labels.background is not None
        self.sweep = Sweep(scorer.protocol, classes=len(scorer.labels.names), background=scorer.labels.background)


@torch.no_grad()
def _swept(config: Experiment, benchmark: str, *, model: DualEncoder) -> _Swept:
    """One pass over a split."""
    image_set = build_image_sets(config)[BENCHMARKS[benchmark].image_set]
    scorer = build_segmentation(config, benchmark, image_set=image_set, cache=PatchCache())
    if scorer.labels.background is None:
        raise ConfigError(f"--calibrate {benchmark}: its label set has no background class, so that there is no threshold to calibrate")
    images = {"image_set": image_set.name, "images": len(image_set), "images_official": image_set.official_length}
    swept = _Swept(scorer, images=images)
    protocol = scorer.protocol if scorer.protocol.threshold else replace(scorer.protocol, threshold=LEAST)
    prompts = class_embeddings(model, scorer.labels, protocol=protocol)
    device = prompts.vectors.device
    for start in range(0, len(image_set), config.evaluation.batch_size):
        samples = [image_set.sample(index) for index in range(start, min(start + config.evaluation.batch_size, len(image_set)))]
        labels = scorer.truth({"labels": {scorer.label_set: [sample["labels"][scorer.label_set].to(device) for sample in samples]}})
        sizes = [(label.shape[0], label.shape[1]) for label in labels]
        found = top_down(model, [sample["image"].to(device) for sample in samples], prompts=prompts, protocol=protocol, sizes=sizes)
        for one, label in zip(found, labels, strict=True):
            swept.sweep.update(one, label)
    return swept


def _record(chosen: _Swept, reported: _Swept, *, split: str, reported_split: str) -> dict[str, Any]:
    best, oracle = chosen.sweep.best(), reported.sweep.best()
    there = reported.sweep.at(best.threshold)
    own = None if chosen.protocol.threshold is None else reported.sweep.at(chosen.protocol.threshold)
    return {
        "protocol": {"name": chosen.protocol.name, "digest": chosen.protocol.digest(), "background": chosen.protocol.background}
        | {"fields": protocol_fields(chosen.protocol)},
        "label_set": chosen.label_set,
        "threshold": best.threshold,
        "chosen_on": {"split": split, **chosen.images, "miou": best.miou},
        "reported_on": {"split": reported_split, **reported.images, "miou": there.miou},
        "protocols_own": None if own is None else {"threshold": own.threshold, "miou": own.miou},
        "oracle": {"threshold": oracle.threshold, "miou": oracle.miou},
        "gap_to_oracle": oracle.miou - there.miou,
    }


def _print(record: dict[str, Any], *, path: Path, given: bool) -> None:
    chosen, reported, oracle, own = (record[key] for key in ("chosen_on", "reported_on", "oracle", "protocols_own"))
    print(f"protocol {record['protocol']['name']}, background by {record['protocol']['background']}")
    print(f"chosen on {chosen['split']} ({images_text(chosen)}): threshold {record['threshold']:.3f}, mIoU {chosen['miou']:.4f} there")
    print(f"on {reported['split']} ({images_text(reported)}):")
    print(f"  chosen threshold          {record['threshold']:7.3f}  mIoU {reported['miou']:.4f}")
    if own is not None:
        print(f"  the protocol's own        {own['threshold']:7.3f}  mIoU {own['miou']:.4f}  (the nearest that was tried)")
    print(f"  oracle, chosen right here {oracle['threshold']:7.3f}  mIoU {oracle['miou']:.4f}  gap {record['gap_to_oracle']:.4f}")
    here = Path.cwd()
    words = f"evaluation.calibration={path.relative_to(here) if here in path.parents else path}"
    print(f"score with it, all else as here: {words}{' evaluation.threshold=null' if given else ''}")
