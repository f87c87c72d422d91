"""Checks of the files that a command's words name, before torch is imported: models, results and the checkpoint to resume from."""

from collections.abc import Sequence
from pathlib import Path

from gestalt.building.early import check_pairs
from gestalt.config.check_launch import check_places
from gestalt.config.schema import Experiment
from gestalt.encoders.timm_names import check_backbone_name
from gestalt.ledger.reading import read_record, result_paths
from gestalt.runs.finding import resolve_checkpoint
from gestalt.runs.names import exported_folder, external_name, hub_name, run_folder
from gestalt.runs.resume import resolve_resume
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


def check_run_files(config: Experiment) -> None:
    """Check the backbone's name and the files that training reads: pairs, weights, and the checkpoint to resume from.

    Raises:
        ValueError: one is missing, or contradicts the configuration.
    """
    check_places(config)
    check_backbone_name(config.image.backbone)
    resolve_resume(config)
    check_pairs(config)


def check_records(targets: Sequence[str], *, evaluations: bool) -> None:
    """Check that each target has a result, and that the results can be read.

    Raises:
        ConfigError: as ``result_paths`` and ``read_record``.
    """
    for target in targets:
        for path in result_paths(target, evaluations=evaluations):
            read_record(path)
