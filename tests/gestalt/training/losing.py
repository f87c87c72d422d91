"""Train as a rank of two, of which the second stops in its third step, as a process that hangs:
losing.py RANK PORT.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from torch.utils.data import DataLoader

from gestalt.training.trainer import make_trainer
from tests.gestalt.at_step import QUIET

TIMEOUT = 4


class Losing(BoringModel):
    """The third step loses rank 1."""

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        """Stop, or learn."""
        if self.global_step == 2 and self.global_rank == 1:
            Path("started").touch()
            os.kill(os.getpid(), signal.SIGSTOP)
        return self.layer(batch).mean()


def main(rank: str, port: str) -> int:
    """Train for ever."""
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": "2",
        "NODE_RANK": "0",
        "LOCAL_RANK": rank,
    }
    two = {**QUIET, "devices": 2, "strategy": "ddp"}
    trainer = make_trainer(Path("run"), rank_timeout=TIMEOUT, max_epochs=99, **two)
    trainer.fit(Losing(), DataLoader(torch.ones(1000, 32), batch_size=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
