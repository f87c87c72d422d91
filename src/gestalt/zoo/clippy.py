"""The public CLIPpy checkpoint (kahnchana/clippy, release v1.0, ``clippy_5k.pt``), under the names of our parts.

Its image tower is timm's ViT-B/16, normalised as CLIP is though DINO was not; its text tower Sentence-T5 with its Dense layer; it has no
projection.  Its training maximum held the class token, its inference leaves it out: ``image.aggregation=max``, or ``max_with_cls``.

Source of the facts: kahnchana/clippy at 04bf78b, ``src/`` and ``notebooks/infer_model.py``.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gestalt.encoders.weights import WeightsOrigin
from gestalt.model import DualEncoder

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
NAMES = (  # theirs to ours; sentence-transformers called its encoder auto_model, and later model
    ("visual.trunk.", "image.tower.trunk."),
    ("text.0.auto_model.", "text.tower.model."),
    ("text.0.model.", "text.tower.model."),
    ("text.2.linear.", "text.tower.dense.0."),
    ("logit_scale", "logit_scale"),
)
OURS_ALONE = ("image.tower.mean", "image.tower.std")


def check_file(path: Path) -> None:
    """Refuse a path where no file is.

    Raises:
        ValueError: says which file is meant.
    """
    if not path.is_file():
        raise ValueError(f"zoo:clippy:{path}: no such file; the checkpoint is clippy_5k.pt of kahnchana/clippy's release v1.0")


def read_state(path: Path) -> dict[str, Tensor]:
    """The checkpoint's tensors under our names.

    Raises:
        ValueError: no such file, no checkpoint of theirs, or a tensor that is none of its parts'.
    """
    check_file(path)
    try:
        saved: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"zoo:clippy:{path}: cannot be read as weights ({' '.join(str(error).split())[:200]})") from error
    state = saved.get("state_dict", saved) if isinstance(saved, Mapping) else {}
    found = {}
    for key, value in state.items():
        name = key.removeprefix("module.")
        start = next((pair for pair in NAMES if name.startswith(pair[0])), None)
        if start is None:
            raise ValueError(f"zoo:clippy:{path}: holds {key}, which is no part of CLIPpy")
        found[start[1] + name.removeprefix(start[0])] = value
    return found


def load_into(model: DualEncoder, path: Path) -> DualEncoder:
    """Give a dual encoder of CLIPpy's shape the checkpoint's weights and normalisation.

    Raises:
        ValueError: as ``read_state``; or the weights do not fit.
    """
    state, own = read_state(path), model.state_dict()
    wanted = [key for key in own if key not in OURS_ALONE]
    missing = [key for key in wanted if key not in state and not _tied(key, state)]
    extra = [key for key in state if key not in own and not _tied(key, own)]
    wrong = [key for key in wanted if key in state and state[key].shape != own[key].shape]
    for what, keys in (("lacks", missing), ("has, and nothing takes,", extra), ("has in another shape", wrong)):
        if keys:
            raise ValueError(f"zoo:clippy:{path}: {what} {', '.join(keys[:3])}{' and more' if len(keys) > 3 else ''}")
    model.load_state_dict({key: value for key, value in state.items() if key in own}, strict=False)
    tower = model.image_tower
    for buffer, values in ((tower.mean, MEAN), (tower.std, STD)):
        buffer.copy_(torch.tensor(values).view(3, 1, 1))
    tower.origin = WeightsOrigin("clippy", f"kahnchana/clippy, {path}", None)
    return model


def _tied(key: str, state: Mapping[str, Any]) -> bool:
    """T5 names its word embeddings twice."""
    twins = ("text.tower.model.shared.weight", "text.tower.model.encoder.embed_tokens.weight")
    return key in twins and any(twin in state for twin in twins)
