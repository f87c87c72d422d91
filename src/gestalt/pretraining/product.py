"""What pretraining leaves: a file of weights that says in its name how it was made, and JSON of provenance beside it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from torch import nn

from gestalt.encoders.image import ImageTower
from gestalt.encoders.weights import digest
from gestalt.ledger.record import write_record
from gestalt.runs import locks
from gestalt.support.files import replacing

VERSION = 1  # of the code that makes the weights; raised where the same keys would give others


@dataclass(frozen=True)
class Product:
    """Where an init that is made here lies: ``<init>_<digest>.safetensors``.

    Attributes:
        file: the weights.
        decides: every key that decides them, flat, with the data's own digest.
    """

    file: Path
    decides: dict[str, Any]

    @property
    def sidecar(self) -> Path:
        """Mean, std and size, which the tower reads, and the provenance."""
        return self.file.with_name(f"{self.file.name}.json")

    @property
    def folder(self) -> Path:
        """The run that makes it: configuration, log, pictures, and the state to go on from."""
        return self.file.with_suffix("")

    def exists(self) -> bool:
        """Whether it is made; the weights are the last that is written."""
        return self.file.is_file()


def name_product(parent: Path, *, decides: dict[str, Any]) -> Product:
    """The product of these keys, one of which is ``init``."""
    text = json.dumps({"version": VERSION, **decides}, sort_keys=True)
    return Product(parent / f"{decides['init']}_{hashlib.sha256(text.encode()).hexdigest()[:12]}.safetensors", decides)


def write_product(product: Product, tower: ImageTower, *, whole: nn.Module, size: int, record: dict[str, Any]) -> None:
    """Write JSON and weights, each atomically, the weights last.

    Args:
        product: where.
        tower: whose trunk is saved.
        whole: the same architecture before anything was taken off it, whose names the file has; it is changed.
        size: side in pixels that the position embeddings are made for.
        record: what else is known, for people and results.
    """
    from safetensors.torch import save_file

    state = {name: value.contiguous() for name, value in whole_state(tower, whole).items()}
    normalisation = {name: buffer.flatten().tolist() for name, buffer in (("mean", tower.mean), ("std", tower.std))}
    with replacing(product.file) as partial:
        save_file(state, partial)
        write_record(product.sidecar, {**normalisation, "size": size, "sha256": digest(partial), **record})


def whole_state(tower: ImageTower, whole: nn.Module) -> dict[str, Any]:
    """The trunk's tensors under the names that timm gives them; what the tower does not use keeps its fresh values."""
    state = dict(whole.state_dict())
    for name, value in tower.trunk.state_dict().items():
        target = name if name in state else name.replace("norm.", "fc_norm.", 1)  # of models that average first and normalise then
        assert state[target].shape == value.shape
        state[target] = value.detach().cpu()
    return state


def held(file: Path, *, waiting: str, wait: bool = True) -> IO[str]:
    """Hold a lock while the returned file is open; say ``waiting`` once where another process has it, and wait.

    Raises:
        ConfigError: another process has it, and ``wait`` is False.
    """
    return locks.hold(file, busy=waiting if wait else f"{waiting}: try again when it is there", wait=wait)
