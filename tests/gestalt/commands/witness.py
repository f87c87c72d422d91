"""Run the command line, write down what each rank's every step sees and what it finds, and kill -9
this process before a chosen step.

Usage: python tests/gestalt/commands/witness.py FILE STEP WORDS...
    FILE: gets a line of JSON a step; ranks write beside each other.  STEP: of the run, from 0; -1
    for none.
"""

import hashlib
import json
import os
import signal
import sys
from typing import Any

from gestalt.__main__ import main


def watch(file: str, last: int) -> None:
    """From now on every training step leaves its line."""
    from gestalt.module import ContrastiveModule

    step = ContrastiveModule.training_step

    def written(self: Any, batch: Any, index: int) -> Any:
        if self.global_step == last:
            os.kill(os.getpid(), signal.SIGKILL)
        loss = step(self, batch, index)
        pairs = zip(
            batch["epoch"].tolist(),
            batch["sample_id"].tolist(),
            batch["image"],
            batch["text"],
            strict=True,
        )
        seen = [
            [epoch, number, hashlib.sha256(image.numpy().tobytes()).hexdigest(), text]
            for epoch, number, image, text in pairs
        ]
        mean = self.trainer.strategy.reduce(loss.detach().clone(), reduce_op="mean").item()
        line = {
            "step": self.global_step,
            "seen": seen,
            "valid": batch["valid"].tolist(),
            "loss": mean,
        }
        with open(f"{file}.{self.global_rank}", "a") as out:
            out.write(json.dumps(line) + "\n")
        return loss

    ContrastiveModule.training_step = written  # type: ignore[method-assign]


if __name__ == "__main__":
    watch(sys.argv[1], int(sys.argv[2]))
    sys.exit(main(sys.argv[3:]))
