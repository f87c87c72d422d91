"""Checks of the files that a command's words name, before torch is imported: models, results and the checkpoint to resume from."""

from pathlib import Path

from gestalt.building.early import check_pairs
from gestalt.config.check_launch import check_places
from gestalt.config.schema import Experiment
from gestalt.encoders.timm_names import check_backbone_name
from gestalt.encoders.whole import check_checkpoint, check_whole
from gestalt.runs.finding import resolve_checkpoint
from gestalt.runs.names import WEIGHTS, exported_folder, guest_of, hub_name, run_folder
from gestalt.runs.resume import resolve_resume
from gestalt.zoo.early import check_guest


def check_target(target: str) -> Path | None:
    """Check that a model exists and its weights are not truncated.  Returns the folder of a run; None for any other model.

    Raises:
        ValueError: a target that names nothing, or a truncated file of weights.
    """
    guest = guest_of(target)
    if guest is not None:
        check_guest(*guest)
    elif (folder := exported_folder(target)) is not None:
        check_whole(folder / WEIGHTS)
    elif hub_name(target) is None:
        checkpoint = resolve_checkpoint(target)
        check_checkpoint(checkpoint)
        return run_folder(checkpoint)
    return None


def check_run_files(config: Experiment) -> None:
    """Check the backbone's name and the files that training reads: pairs, weights, and the checkpoint to resume from.

    Raises:
        ValueError: one is missing, truncated, or contradicts the configuration.
    """
    check_places(config)
    check_backbone_name(config.image.backbone)
    if config.image.weights is not None and Path(config.image.weights).expanduser().is_file():
        check_whole(Path(config.image.weights).expanduser())
    resumed = resolve_resume(config)
    if resumed is not None:
        check_checkpoint(resumed)
    check_pairs(config)
