"""InitFile: the weights that pretraining writes, named by a digest of the keys that decide them, with JSON of provenance beside them."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gestalt.encoders.image import ImageTower
from gestalt.results.record import write_record
from gestalt.support.files import file_hash, replacing

VERSION = 1  # version of the code that makes the weights; raise it when the same keys give other weights


@dataclass(frozen=True)
class InitFile:
    """A file of weights, ``<init>_<digest>.safetensors``, with its JSON and its run's folder.

    Attributes:
        path: the weights.
        decides: every key that decides them, flat, with the digest of the data.
    """

    path: Path
    decides: dict[str, Any]

    @property
    def sidecar(self) -> Path:
        """JSON beside the weights: mean, std and size, which the tower reads, and provenance."""
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def folder(self) -> Path:
        """Folder of the run that makes it: configuration, log, pictures and checkpoint."""
        return self.path.with_suffix("")

    def exists(self) -> bool:
        """True if it is complete: the weights are written last."""
        return self.path.is_file()


def name_init_file(parent: Path, *, decides: dict[str, Any]) -> InitFile:
    """Return the file of these keys, one of which is ``init``."""
    text = json.dumps({"version": VERSION, **decides}, sort_keys=True)
    return InitFile(parent / f"{decides['init']}_{hashlib.sha256(text.encode()).hexdigest()[:12]}.safetensors", decides)


def write_init_file(file: InitFile, tower: ImageTower, *, untrimmed: nn.Module, size: int, record: dict[str, Any]) -> None:
    """Write JSON and weights atomically, the weights last.

    Args:
        file: where to write.
        tower: holds the trained trunk.
        untrimmed: the same architecture as ``build_trunk`` makes it: names every tensor of the file.
        size: side in pixels of the images that the position embeddings are made for.
        record: further fields of the JSON.
    """
    from safetensors.torch import save

    normalisation = {name: buffer.flatten().tolist() for name, buffer in (("mean", tower.mean), ("std", tower.std))}
    with replacing(file.path) as partial:
        partial.write_bytes(save(untrimmed_state(tower, untrimmed)))  # its own writer raises no OSError
        write_record(file.sidecar, {**normalisation, "size": size, "sha256": file_hash(partial), **record})


def untrimmed_state(tower: ImageTower, untrimmed: nn.Module) -> dict[str, Tensor]:
    """Return the trunk's tensors under timm's names; those that the tower lacks are ``untrimmed``'s."""
    state = dict(untrimmed.state_dict())
    for name, value in tower.trunk.state_dict().items():
        target = name if name in state else name.replace("norm.", "fc_norm.", 1)  # of models that normalise after averaging
        assert state[target].shape == value.shape
        state[target] = value.detach().cpu()
    return {name: value.contiguous() for name, value in state.items()}
