"""Check of the model that a command's words name, before torch is imported."""

from pathlib import Path

from gestalt.config.loading import load_saved
from gestalt.runs.finding import resolve_checkpoint
from gestalt.runs.names import exported_folder, external_name, hub_name, run_folder
from gestalt.zoo.names import check_name


def check_target(target: str) -> Path | None:
    """Check that a model exists, and the configuration of a run.  Returns the folder of the run;
    None for any other model.

    Raises:
        ValueError: a target that names nothing, or a configuration that does not fit the schema.
    """
    external = external_name(target)
    if external is not None:
        check_name(*external)
    elif exported_folder(target) is None and hub_name(target) is None:
        run = run_folder(resolve_checkpoint(target))
        load_saved(run / "config.yaml")
        return run
    return None
