"""Check of the model that a command's words name, before torch is imported."""

from pathlib import Path

from gestalt.models.finding import resolve_checkpoint
from gestalt.models.names import config_of, exported_folder, external_name, hub_name, in_run
from gestalt.models.zoo.kinds import check_name


def check_target(target: str) -> Path | None:
    """Check that a model exists, and the configuration of a run.  Returns the checkpoint of a run,
    or one that a Trainer wrote elsewhere; None for any other model.

    Raises:
        ValueError: a target that names nothing, or a configuration that does not fit the schema.
    """
    external = external_name(target)
    if external is not None:
        check_name(*external)
    elif exported_folder(target) is None and hub_name(target) is None:
        checkpoint = resolve_checkpoint(target)
        if in_run(checkpoint):  # else it is in the checkpoint, which torch reads
            config_of(checkpoint)
        return checkpoint
    return None
