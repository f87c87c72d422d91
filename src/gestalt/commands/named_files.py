"""Check of the model that a command's words name, before torch is imported."""

from pathlib import Path

from gestalt.runs.finding import resolve_checkpoint
from gestalt.runs.names import exported_folder, external_name, hub_name, run_folder
from gestalt.zoo.names import check_name


def check_target(target: str) -> Path | None:
    """Check that a model exists.  Returns the folder of a run; None for any other model.

    Raises:
        ValueError: a target that names nothing.
    """
    external = external_name(target)
    if external is not None:
        check_name(*external)
    elif exported_folder(target) is None and hub_name(target) is None:
        return run_folder(resolve_checkpoint(target))
    return None
