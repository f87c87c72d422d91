"""The matrix: each fault in each phase, on one and on two ranks, and why some are left out."""

import random
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.faults import READ_ERRORS, READERS, SIGNALS, Strike

STEP = "gestalt.module:ContrastiveModule.training_step"
CHECKPOINT = "gestalt.training.checkpoints:AtomicCheckpointIO.save_checkpoint"
RECORD = [
    f"gestalt.results.run_record:write_{part}" for part in ("extremes", "per_image", "record")
]
PLACES = {  # phase -> functions, and the largest number of the call that is struck
    "index": (["gestalt.data_modules.corpora.tar_index:scan_tar"], 4),
    "init": (["gestalt.pretraining.module:PatchDistillation.training_step"], 3),
    "step": ([STEP], 7),
    "validation": (
        ["gestalt.measures.segmentation.callback:Segmentation.on_validation_batch_end"],
        4,
    ),
    "checkpoint": ([CHECKPOINT], 4),
    "record": (RECORD, 1),
    "grid": ([STEP], 3),
    "pack": (["gestalt.data_modules.tools.packing:_parts"], 32),
}
READING = {
    "index": PLACES["index"],
    "validation": (["gestalt.data_modules.image_sets.scenes:SceneSet.sample"], 16),
}
PAIRS = (["gestalt.data_modules.corpora.shards:ShardReader.read"], 14)
"""Where a pair is read in all other phases."""


@dataclass(frozen=True, order=True)
class Cell:
    """A fault in a phase.

    Attributes:
        victim: the process that is struck: self, the one at work; parent, the one that started it;
            group, all; or the number of a rank.
    """

    phase: str
    fault: str
    ranks: int = 1
    victim: str = "self"

    @property
    def name(self) -> str:
        """Unique, and part of a folder's name."""
        rank = "rank " * self.victim.isdigit()
        victim = "" if self.victim == "self" else f", {rank}{self.victim}"
        return f"{self.phase}, {self.fault}, {self.ranks} rank{'s' * (self.ranks > 1)}{victim}"

    @property
    def reference(self) -> "Cell":
        """The undisturbed command that it is compared with: the first cell of the same command
        line.
        """
        many = (self.phase, self.fault) == ("index", "dead worker")
        phase = self.phase if many or self.phase in ("init", "grid", "pack") else "step"
        return Cell(phase, "dead worker" if many else "none", self.ranks)

    def strike(self, *, seed: int, marker: Path, folder: Path) -> Strike:
        """Draw the moment."""
        draw = random.Random(f"{seed} {self.name}")
        places, calls = (
            READING.get(self.phase, PAIRS) if self.fault in READERS else PLACES[self.phase]
        )
        # of the batches, which are dealt to the ranks
        share = self.ranks if self.phase == "validation" else 1
        place, call = draw.choice(places), draw.randint(1, calls // share)
        writes = self.phase in ("checkpoint", "record") and self.fault in SIGNALS
        rank = int(self.victim) if self.victim.isdigit() else draw.randrange(self.ranks)
        if self.phase in ("checkpoint", "record"):
            rank = 0  # which alone writes
        command = {"init": "pretrain", "grid": "train"}.get(self.phase, "")
        if self.phase == "index" and self.fault == "dead worker":
            place, call = "gestalt.data_modules.corpora.tar_index:index_tar", 1
        if self.phase == "grid" and self.fault in ("full disk", "read-only folder"):
            place, call, command = (
                "gestalt.ablation.queue:write_record",
                draw.randint(1, 2),
                "ablate",
            )
        return Strike(
            self.fault,
            place,
            call,
            marker=str(marker),
            moment="inside"
            if writes and (self.phase == "checkpoint" or place == RECORD[-1])
            else "before",
            rank=rank,
            victim="self" if self.victim.isdigit() else self.victim,
            command=command,
            error=draw.choice(READ_ERRORS),
            folder=str(folder),
        )


WRITES = ("full disk", "read-only folder")
ALL = (*SIGNALS, *WRITES, "dead worker", *READERS)
# no other file than a checkpoint is as large as what fits on a filling disk
ALONE = {  # phase -> faults on one rank
    **dict.fromkeys(("index", "init", "step", "validation"), ALL),
    # nothing is read meanwhile, and a dead worker is noticed by the next read
    "checkpoint": (*SIGNALS, *WRITES, "filling disk"),
    "record": (*SIGNALS, *WRITES),
    # what else happens inside its runs is in the other phases
    "grid": (*SIGNALS, *WRITES, "failing reader"),
    # it has no loading processes
    "pack": (*SIGNALS, *WRITES, *READERS),
}
TOGETHER = {  # phase -> faults on two ranks, where the code is not that of another cell
    "step": ("dead worker", *READERS),
    "validation": ("SIGKILL", "SIGTERM", "failing reader"),
    "checkpoint": ("SIGKILL", "SIGTERM", *WRITES),
    "record": ("SIGKILL", "SIGTERM", *WRITES),
}
OTHERS = [  # cells with another victim than the process at work
    *(Cell("grid", fault, victim="parent") for fault in SIGNALS),
    *(Cell("step", "SIGKILL", 2, victim=rank) for rank in "01"),
    *(Cell("step", fault, 2, victim="group") for fault in ("SIGTERM", "SIGUSR1")),
]
CELLS = [
    *(Cell(phase, fault) for phase, faults in ALONE.items() for fault in faults),
    *(Cell(phase, fault, 2) for phase, faults in TOGETHER.items() for fault in faults),
    *OTHERS,
]
SHORT = (
    "step, SIGKILL, 1 rank",
    "step, dead worker, 1 rank",
    "checkpoint, full disk, 1 rank",
    "pack, SIGKILL, 1 rank",
)
"""Cells of the short form."""
