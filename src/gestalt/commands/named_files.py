"""Check of the model that a command's words name, before torch is imported."""

from pathlib import Path

from gestalt.encoders.whole import check_checkpoint, check_whole
from gestalt.runs.finding import resolve_checkpoint
from gestalt.runs.names import WEIGHTS, exported_folder, guest_of, hub_name, run_folder
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
