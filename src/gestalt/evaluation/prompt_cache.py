"""Embeddings of large sets of prompts, kept on disk: ImageNet's 80,000 prompts take minutes, and
scoring once more needs the same vectors.

A file is named by all that decides its content, and written whole.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gestalt.evaluation.weights import weights_hash
from gestalt.support.arrays import map_array
from gestalt.support.files import replacing

LARGE = 1000
"""Smallest number of prompts whose embeddings are kept; fewer take seconds to embed."""


def prompts_folder(used: bool) -> Path | None:
    """Return ``prompts`` in ``$GESTALT_CACHE``, else in ``gestalt`` in ``$XDG_CACHE_HOME`` or
    ``~/.cache``; None where it is not to be used.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gestalt"
    return Path(os.environ.get("GESTALT_CACHE") or cache) / "prompts" if used else None


def prompts_key(model: Any, texts: list[str], settings: list[Any]) -> str:
    """Return a hash of the text side's weights and structure, the token ids of the texts, the
    device and number format, and settings.

    Args:
        model: a ``DualEncoder``.
        texts: the prompts, as embedded.
        settings: how their vectors are made: the size of a pass, templates, ensembling.
    """
    tower, device = model.text_tower, model.logit_scale.device
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else torch.backends.cpu.get_cpu_capability()
    )
    autocast = (
        str(torch.get_autocast_dtype(device.type))
        if torch.is_autocast_enabled(device.type)
        else "none"
    )
    machine = [torch.__version__, device.type, name, autocast, torch.get_num_threads()]
    text_side = [weights_hash(model.text), str(model.text), type(tower).__name__]
    digest = hashlib.sha256(json.dumps([*text_side, machine, settings]).encode())
    for text, tokens in zip(texts, tower.tokenise(texts), strict=True):
        digest.update(json.dumps([text, tokens]).encode())
    return digest.hexdigest()


def cached_vectors(path: Path, embed: Callable[[], Tensor]) -> Tensor:
    """Return the vectors (K, E) float32 of a file, else embedded now and written.

    The folder is made if missing, and several processes may share it; one that cannot be written to
    is only reported on the standard error.
    """
    with suppress(ValueError):
        return torch.from_numpy(np.array(map_array(path)))
    vectors = embed()
    try:
        with replacing(path) as partial, partial.open("wb") as file:
            np.save(file, vectors.cpu().numpy())
    except OSError as error:
        print(
            f"prompt cache {path.parent}: cannot be written ({error.strerror}); name another by "
            "GESTALT_CACHE, or set evaluation.prompt_cache=false",
            file=sys.stderr,
        )
    return vectors
