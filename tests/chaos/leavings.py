"""The results that lie in a folder: of trainings, of a grid, of packing; and how two of these
differ.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gestalt.results.record import commit
from gestalt.support.files import file_hash

NUMBERS = ("weights_sha256", "metrics", "steps", "loss", "best")


@dataclass(frozen=True)
class Leavings:
    """The records and files that calls have left.

    Attributes:
        records: of finished runs, by configuration; more than one of a configuration is a fault.
        faults: inconsistencies within them.
        files: path -> hash, of the packed corpus and of the init.
    """

    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)

    def differences(self, other: "Leavings", *, line: tuple[str, ...]) -> list[str]:
        """Compare what a disturbed command has left with this; ``line`` is the command's."""
        faults = list(other.faults)
        if self.files != other.files:
            names = sorted(
                name
                for name in self.files | other.files
                if self.files.get(name) != other.files.get(name)
            )
            faults.append(f"other files: {', '.join(names)}")
        for config in self.records | other.records:
            if config not in self.records or config not in other.records:
                faults.append(
                    f"config {config}: {'no' if config in self.records else 'an unexpected'} record"
                )
                continue
            mine, its = self.records[config], other.records[config]
            faults += [
                f"another {key}: {its[key]}, not {mine[key]}"
                for key in NUMBERS
                if its[key] != mine[key]
            ]
            missing = {word for word in line if "=" in word} - set(its["overrides"])
            faults += [f"its record lacks the overrides {sorted(missing)}"] if missing else []
        return faults


def leavings(folder: Path) -> Leavings:
    """Read the records and files below a folder."""
    records: dict[str, dict[str, Any]] = {}
    faults = []
    for path in sorted(folder.glob("lightning_logs/clippy_dino_max/tiny/version_*/result.json")):
        record = json.loads(path.read_text())
        made_at, steps, planned = (
            record["provenance"]["commit"],
            record["steps"],
            record["steps_planned"],
        )
        checkpoint = file_hash(path.parent / "checkpoints/last.ckpt")
        said = {
            "a second record of this configuration": record["config_hash"] in records,
            f"commit {made_at}": made_at != commit(),
            "not the checkpoint that its record names": record["checkpoint_sha256"] != checkpoint,
            f"{steps} of {planned} steps": steps != planned,
        }
        faults += [f"{path.parent.name}: {fault}" for fault, found in said.items() if found]
        records[record["config_hash"]] = record
    for path in folder.glob("lightning_logs/ablations/*/*/cells.json"):
        failed = [
            entry["cell"]
            for entry in json.loads(path.read_text())["runs"]
            if entry["status"] != "finished"
        ]
        faults += [f"{path.name}: {failed} did not finish"] if failed else []
    files = [*folder.glob("packed/*"), *folder.glob("lightning_logs/pretrained/*/*.safetensors")]
    return Leavings(
        records,
        tuple(faults),
        {str(path.relative_to(folder)): file_hash(path) for path in sorted(files)},
    )
