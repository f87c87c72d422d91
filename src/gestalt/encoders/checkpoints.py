"""Checkpoints of a run: their content, the configuration in them, and what training needs to resume
from them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gestalt.encoders.state_dicts import read_state_dict

RESUME_KEYS = (
    "state_dict",
    "global_step",
    "loops",
    "callbacks",
    "optimizer_states",
    "lr_schedulers",
)
"""Keys that a checkpoint needs for training to resume from it."""
SCALER = "MixedPrecision"
"""Key of Lightning's gradient scaler for fp16."""
ANEW = "copy the file again, resume from another checkpoint, or train again"


def beside(checkpoint: Path) -> str:
    """Return the end of a message that names the other checkpoints of the folder; empty if there is
    none.
    """
    siblings = [
        str(path) for path in sorted(checkpoint.parent.glob("*.ckpt")) if path != checkpoint
    ]
    return f"; in the same folder: {', '.join(siblings)}" if siblings else ""


def read_checkpoint(
    checkpoint: Path, *, keys: tuple[str, ...] = ("state_dict",), verified: bool = False
) -> dict[str, Any]:
    """Return the content of a run's checkpoint, on the CPU, without running code from it.

    Args:
        checkpoint: the file.
        keys: those that it must have.
        verified: True if the file is known to be whole, by its hash; its checksums are not read.

    Raises:
        ValueError: it is truncated, or not a checkpoint of a run; the message names the checkpoints
            beside it.
    """
    hint = beside(checkpoint)
    try:
        saved = dict(read_state_dict(checkpoint, verified=verified))
    except ValueError as error:
        raise ValueError(f"{error}{hint}") from error
    missing = [key for key in keys if key not in saved]
    missing += [
        f"mapping in {key}"
        for key in ("state_dict", "gestalt")
        if not isinstance(saved.get(key, {}), Mapping)
    ]
    if missing:
        raise ValueError(
            f"{checkpoint}: not a checkpoint of a run, it has no {', '.join(missing)}{hint}"
        )
    return saved


def config_in(saved: dict[str, Any], checkpoint: Path) -> dict[str, Any]:
    """Return the configuration in the content of a checkpoint, as dicts and lists.

    Raises:
        ValueError: it has none.
    """
    config = saved.get("gestalt", {}).get("config")
    if not isinstance(config, dict):
        raise ValueError(
            f"{checkpoint}: no configuration in it, nor a config.yaml in "
            f"{checkpoint.resolve().parent.parent}; choose a run or its checkpoint, or open it "
            "with its model by gestalt.ContrastiveModule.load_from_checkpoint(FILE, model=...)"
        )
    return config


def read_resumable(checkpoint: Path, *, partly_trained: bool = False) -> dict[str, Any]:
    """Return the content of a checkpoint that training resumes from, with the state of its
    optimiser and its schedule.

    Lightning restores the states that it finds, and goes on with fresh ones for the rest.

    Args:
        checkpoint: the file.
        partly_trained: True if some parameters may not have been trained yet.

    Raises:
        ValueError: it cannot be read, or a state is missing.
    """
    saved = read_checkpoint(checkpoint, keys=RESUME_KEYS)
    try:
        (state,), (_,) = saved["optimizer_states"], saved["lr_schedulers"]
        trained = len(state["state"])
        # Muon's matrices, and vectors where moments are factored, have others than the rest
        kinds = {frozenset(moments) for moments in state["state"].values()}
        if any(one < other for one in kinds for other in kinds):
            raise ValueError("a moment is missing")
        parameters = sum(len(group["params"]) for group in state["param_groups"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{checkpoint}: its optimizer_states or lr_schedulers do not belong to one optimiser; "
            f"{ANEW}"
        ) from error
    scaled = SCALER in saved  # fp16: its first steps may all have been skipped
    if saved["global_step"] and not scaled and trained < (1 if partly_trained else parameters):
        raise ValueError(
            f"{checkpoint}: its optimiser has the moments of {trained} parameters, expected "
            f"{parameters}; {ANEW}"
        )
    return saved
