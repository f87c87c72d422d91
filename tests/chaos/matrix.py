"""The matrix: each fault in each phase, on one and on two ranks, and why a cell that is missing
is.
"""

import random
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.faults import FAULTS, READ_ERRORS, READERS, SIGNALS, Strike

PHASES = ("index", "init", "step", "validation", "checkpoint", "record", "grid", "pack")
STEP = "gestalt.module:ContrastiveModule.training_step"
CHECKPOINT = "gestalt.training.checkpoints:AtomicCheckpointIO.save_checkpoint"
RECORD = [f"gestalt.results.outcome:write_{part}" for part in ("extremes", "per_image", "record")]
PLACES = {  # phase -> functions, and the largest number of the call that is struck
    "index": (["gestalt.data_modules.corpora.tar_index:scan_tar"], 4),
    "init": (["gestalt.pretraining.module:SelfDistillation.training_step"], 3),
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
        victim = "" if self.victim == "self" else f", {self.victim_text}"
        return f"{self.phase}, {self.fault}, {self.ranks} rank{'s' * (self.ranks > 1)}{victim}"

    @property
    def victim_text(self) -> str:
        """The victim in words."""
        return f"rank {self.victim}" if self.victim.isdigit() else self.victim

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
                "gestalt.ablation.study:write_record",
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
# phases, faults, ranks, reason
NONSENSE: list[tuple[tuple[str, ...], tuple[str, ...], tuple[int, ...], str]] = [
    (("pack",), ("dead worker",), (1,), "packing has no loading processes"),
    (("pack",), FAULTS, (2,), "packing is one process"),
    (
        ("grid",),
        FAULTS,
        (2,),
        "a grid is one process; the ranks of its runs are those of the other phases",
    ),
    (
        ("grid",),
        ("dead worker", "slow reader"),
        (1,),
        "happens inside a run of the grid, as in the other phases",
    ),
    (("checkpoint", "record"), READERS, (1, 2), "nothing is read meanwhile"),
    (
        ("checkpoint", "record"),
        ("dead worker",),
        (1, 2),
        "noticed by the next read, which is the cell of the training step",
    ),
    (("step", "validation"), WRITES, (2,), "the first rank writes alone, as on one rank"),
    (
        tuple(phase for phase in PHASES if phase != "checkpoint"),
        ("filling disk",),
        (1,),
        "no other file is as large, and a full disk is tested",
    ),
    (PHASES, ("filling disk",), (2,), "the first rank writes alone, as on one rank"),
    (("index",), FAULTS, (2,), "the first rank makes the indices before it starts the others"),
    (("init",), FAULTS, (2,), "the code of the training step on two ranks"),
    (
        ("validation",),
        ("SIGUSR1", "dead worker", "slow reader"),
        (2,),
        "the code of the training step on two ranks, and of one rank here",
    ),
    (("checkpoint", "record"), ("SIGUSR1",), (2,), "the code of SIGTERM"),
]
OTHERS = {  # cells with another victim than the process at work
    ("grid", 1): [("parent", SIGNALS)],
    ("step", 2): [("0", ("SIGKILL",)), ("1", ("SIGKILL",)), ("group", ("SIGTERM", "SIGUSR1"))],
}
SHORT = (
    "step, SIGKILL, 1 rank",
    "step, dead worker, 1 rank",
    "checkpoint, full disk, 1 rank",
    "pack, SIGKILL, 1 rank",
)
"""Cells of the short form."""


def reason(phase: str, fault: str, *, ranks: int) -> str:
    """Return why there is no such cell; empty if there is."""
    return next(
        (
            why
            for phases, faults, of, why in NONSENSE
            if phase in phases and fault in faults and ranks in of
        ),
        "",
    )


def cells() -> list[Cell]:
    """List the cells, those of one rank first."""
    listed = []
    for ranks in (1, 2):
        for phase in PHASES:
            others = OTHERS.get((phase, ranks), [])
            for fault in FAULTS:
                instead = ranks == 2 and any(fault in faults for _, faults in others)
                if not reason(phase, fault, ranks=ranks) and not instead:
                    listed.append(Cell(phase, fault, ranks))
            listed += [
                Cell(phase, fault, ranks, victim) for victim, faults in others for fault in faults
            ]
    return listed
