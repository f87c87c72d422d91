"""Embeddings of large sets of prompts, kept on disk: ImageNet's 80,000 prompts take minutes, and scoring once more needs the same vectors.

A file is named by all that decides its content, written whole, and verified when read: hash, shape, and the first prompts embedded anew.
"""

import hashlib
import json
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gestalt.evaluation.weights import weights_hash
from gestalt.support.files import replacing

LARGE = 4096
"""Smallest number of prompts whose embeddings are kept; fewer take seconds to embed."""

MOST_BYTES = 256 * 2**20
"""Limit of the folder; the files that were used longest ago are removed beyond it."""


def cache_folder() -> Path:
    """Return ``$GESTALT_CACHE``, else ``gestalt`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    chosen = os.environ.get("GESTALT_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gestalt"


class PromptCache:
    """Class vectors by the text side, the prompts and the machine that made them.

    Args:
        folder: made when first written to; several processes may share it.
        most_bytes: limit of its files.
    """

    def __init__(self, folder: Path, *, most_bytes: int = MOST_BYTES) -> None:
        self.folder = folder
        self.most_bytes = most_bytes

    def key(self, model: Any, texts: list[str], *, settings: list[Any]) -> str:
        """Return a hash of the text side's weights and structure, the token ids of the texts, the device and number format, and settings.

        Args:
            model: a ``DualEncoder``.
            texts: the prompts, as embedded.
            settings: how their vectors are made: the size of a pass, templates, ensembling.
        """
        tower, device = model.text_tower, model.logit_scale.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
        autocast = str(torch.get_autocast_dtype(device.type)) if torch.is_autocast_enabled(device.type) else "none"
        machine = [torch.__version__, device.type, name, autocast, torch.get_num_threads()]
        digest = hashlib.sha256(json.dumps([weights_hash(model.text), str(model.text), type(tower).__name__, machine, settings]).encode())
        for text, tokens in zip(texts, tower.tokenise(texts), strict=True):
            digest.update(json.dumps([text, tokens]).encode())
        return digest.hexdigest()

    def read(self, key: str, *, shape: tuple[int, int], first: Tensor) -> Tensor | None:
        """Return the vectors of a key; None if there are none, or if they are not what they should be.

        Args:
            key: from ``key``.
            shape: shape of the vectors.
            first: vectors of the first prompts, embedded anew: they must be those that the file was made from.
        """
        path = self.folder / f"{key}.npz"
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
                vectors, begin, digest = kept["vectors"], kept["first"], str(kept["sha256"])
            os.utime(path)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
            return None
        same = np.array_equal(begin, first.cpu().numpy())
        if not same or vectors.shape != shape or vectors.dtype != np.float32 or digest != _hash(vectors, begin):
            return None
        return torch.from_numpy(vectors).to(first.device)

    def write(self, key: str, vectors: Tensor, *, first: Tensor) -> None:
        """Keep vectors (K, E) float32; a folder that cannot be written to is only reported on the standard error."""
        means, begin = vectors.cpu().numpy(), first.cpu().numpy()
        try:
            with replacing(self.folder / f"{key}.npz") as partial, partial.open("wb") as file:
                np.savez(file, vectors=means, first=begin, sha256=np.array(_hash(means, begin)))
            self._trim()
        except OSError as error:
            mend = "name another by GESTALT_CACHE, or set evaluation.prompt_cache=false"
            print(f"prompt cache {self.folder}: cannot be written ({error.strerror}); {mend}", file=sys.stderr)

    def _trim(self) -> None:
        """Remove the files that were used longest ago until the rest fits."""
        files = sorted(((path.stat().st_mtime, path) for path in self.folder.glob("*.npz")), reverse=True)
        total = 0
        for _, path in files:
            total += path.stat().st_size
            if total > self.most_bytes:
                path.unlink(missing_ok=True)


def _hash(vectors: np.ndarray[Any, Any], first: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(vectors.tobytes() + first.tobytes()).hexdigest()
