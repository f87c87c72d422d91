"""Run the command line, and kill -9 this very process at a chosen moment.

Usage: python tests/gestalt/kill_at.py {step|validation|write} N WORDS...
    step: before the optimiser's N-th step.  validation: before the N-th validation batch.  write:
    half way through the N-th checkpoint.
"""

import os
import signal
import sys
from typing import Any

from gestalt.__main__ import main


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(moment: str, number: int) -> None:
    """Make the N-th call of what ``moment`` names the last."""
    from gestalt.measures.segmentation.callback import Segmentation
    from gestalt.module import ContrastiveModule
    from gestalt.training.checkpoints import AtomicCheckpointIO

    owner: Any
    owner, name = {
        "step": (ContrastiveModule, "training_step"),
        "validation": (Segmentation, "on_validation_batch_end"),
        "write": (AtomicCheckpointIO, "save_checkpoint"),
    }[moment]
    original = getattr(owner, name)
    calls = 0

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number and moment == "write":
            tear()
        elif calls == number:
            die()
        return original(self, *args, **kwargs)

    setattr(owner, name, counted)


def tear() -> None:
    """From now on the file writer stops half way, and the process with it."""
    import torch

    original = torch.save

    def half(checkpoint: Any, file: Any) -> None:
        original(checkpoint, file)
        file.truncate(file.tell() // 2)
        die()

    torch.save = half


if __name__ == "__main__":
    arm(sys.argv[1], int(sys.argv[2]))
    sys.exit(main(sys.argv[3:]))
