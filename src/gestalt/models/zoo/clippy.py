"""The public CLIPpy checkpoint (kahnchana/clippy, release v1.0, ``clippy_5k.pt``), loaded into our
dual encoder.

Image tower: timm's ViT-B/16 with CLIP's normalisation (DINO's is ImageNet's).  Text tower:
Sentence-T5 with its Dense layer.  No projection.  Training took the maximum with the class token
(``image.aggregation=max_with_cls``), inference without it (``max``).

Source: kahnchana/clippy at 04bf78b, ``src/`` and ``notebooks/infer_model.py``.
"""

from dataclasses import replace
from pathlib import Path

import torch

from gestalt.config.schema import Experiment
from gestalt.encoders.state_dicts import StateDict, load_weights, read_state_dict, unwrap
from gestalt.encoders.weights import WeightsOrigin
from gestalt.model import DualEncoder
from gestalt.models.building import build_towers
from gestalt.models.zoo.kinds import Opened
from gestalt.support.files import file_hash

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
# prefixes, theirs to ours; sentence-transformers renamed its encoder from auto_model to model
NAMES = (
    ("visual.trunk.", "image.tower.trunk."),
    ("text.0.auto_model.", "text.tower.model."),
    ("text.0.model.", "text.tower.model."),
    ("text.2.linear.", "text.tower.dense.0."),
    ("logit_scale", "logit_scale"),
)
OURS_ALONE = ("image.tower.mean", "image.tower.std")
TIED = ("text.tower.model.shared.weight", "text.tower.model.encoder.embed_tokens.weight")
"""The two names of T5's word embeddings."""


def read_state(path: Path) -> StateDict:
    """Read the checkpoint's tensors under our names.

    Raises:
        ValueError: not found, not readable as weights, or a tensor that is not part of CLIPpy.
    """
    renamed = {}
    for key, value in unwrap(read_state_dict(path), source=f"clippy:{path}").items():
        prefixes = next((pair for pair in NAMES if key.startswith(pair[0])), None)
        if prefixes is None:
            raise ValueError(
                f"clippy:{path}: holds {key}, which is not part of CLIPpy; name its clippy_5k.pt"
            )
        renamed[prefixes[1] + key.removeprefix(prefixes[0])] = value
    return renamed


def load_into(model: DualEncoder, path: Path) -> DualEncoder:
    """Load the checkpoint's weights and normalisation into a dual encoder of CLIPpy's architecture,
    in place.

    Raises:
        ValueError: see ``read_state``; or the weights do not fit.
    """
    ours = model.state_dict()
    state = {
        key: value for key, value in read_state(path).items() if key in ours or key not in TIED
    }
    load_weights(model, state, misfit=f"clippy:{path} does not fit the model", without=OURS_ALONE)
    tower = model.image_tower
    for buffer, values in ((tower.mean, MEAN), (tower.std, STD)):
        buffer.copy_(torch.tensor(values).view(3, 1, 1))
    tower.origin = WeightsOrigin("clippy", f"kahnchana/clippy, {path}")
    return model


def build(name: str, config: Experiment) -> Opened:
    """Build the towers of a configuration at CLIPpy's 224 pixels, with the weights of the
    checkpoint.

    Raises:
        ValueError: see ``load_into``.
    """
    image = replace(config.image, init="random", weights=None, eval_size=224)
    model = load_into(build_towers(replace(config, image=image)), Path(name))
    description = {
        "library": "kahnchana/clippy",
        "architecture": {"backbone": image.backbone, "text": config.text.model},
    }
    return Opened(model, description, sha256=file_hash(Path(name)))
