"""A classifier of timm beside a sentence tower, read by ConSE: what needs no training at all.  Its
words come from ImageNet's labels, not from captions.  B batch, D width, K names, E shared width.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gestalt.aggregation import build_aggregation
from gestalt.config.schema import Text
from gestalt.data_modules.digest import short_digest
from gestalt.encoders.backbones import layout_of
from gestalt.encoders.checkpoints import read_state_dict, unwrap
from gestalt.encoders.inits import PACKAGES
from gestalt.encoders.text import build_text_tower
from gestalt.encoders.weights import WeightsOrigin, locate
from gestalt.support.files import file_hash
from gestalt.tokens import Tokens
from gestalt.zoo.adapter import described, errors_in_one_line, whole_side
from gestalt.zoo.timm import TimmTower, create

CLASSES = 1000
"""Classes of ImageNet-1k, the only ones whose names are known."""

TEMPERATURE = 2.0
LIKELIEST = 10
TEMPLATE = "a photo of a {}."
AT_ONCE = 250
"""Names in one pass of the text tower."""


class ConSE(TimmTower):
    """A classifier whose probabilities average the embeddings of its classes' names.

    The ``LIKELIEST`` probabilities of softmax(logits / ``TEMPERATURE``) are renormalised and weigh
    the names' unit vectors.  A location alone is classified as an image of that one location.

    Source: Norouzi et al. 2013 (arXiv:1312.5650), equations 4 and 5, with a temperature.
    """

    names: Tensor

    def __init__(self, model: Any, *, text: Text, names: Sequence[str], **facts: Any) -> None:
        super().__init__(model, **facts)
        self.text = build_text_tower(text).requires_grad_(False).eval()
        self.text_origin = self.text.origin
        self.text_aggregation = build_aggregation(text.aggregation, self.text.width)
        texts = [TEMPLATE.format(name) for name in names]
        with torch.no_grad():
            vectors = [
                self.embed_text(texts[start : start + AT_ONCE])
                for start in range(0, len(texts), AT_ONCE)
            ]
        self.register_buffer("names", torch.cat(vectors), persistent=False)

    def head(self, tokens: Tokens) -> Tensor:
        """Average the names' vectors by the likeliest classes: (B, E)."""
        logits = self.model.forward_head(self.features_of(tokens))
        likeliest = (logits.float() / TEMPERATURE).softmax(dim=-1).topk(LIKELIEST, dim=-1)
        weights = likeliest.values / likeliest.values.sum(dim=-1, keepdim=True)
        return torch.einsum("bk,bke->be", weights, self.names[likeliest.indices])

    def text_features(self, texts: list[str]) -> Tensor:
        """Aggregate the tokens of K texts: (K, E), not normalised."""
        return self.text_aggregation(self.text(texts))


def open_model(name: str, text: Text) -> ConSE:
    """Load a classifier of timm, and the sentence model of a configuration.

    Raises:
        ValueError: no weights or no text model, or other classes than those of ImageNet-1k.
    """
    import timm
    from open_clip import IMAGENET_CLASSNAMES

    with errors_in_one_line(f"classifier:{name}"), warnings.catch_warnings():
        record: Any = timm.get_pretrained_cfg(name)
        tagged = f"{name.partition('.')[0]}.{record.tag}"
        if record.num_classes != CLASSES:
            raise ValueError(
                f"it has {record.num_classes} classes; choose a tag of in1k, whose {CLASSES} "
                "classes have names"
            )
        if tagged in PACKAGES:
            file = locate(record.tag, backbone=name.partition(".")[0], weights=None)
            model = create(name)
            state = unwrap(read_state_dict(file.path), source=file.source)
            names = model.state_dict() if file.in_order else state
            model.load_state_dict(dict(zip(names, state.values(), strict=True)))
            mean, std = file.mean, file.std
            origin = WeightsOrigin(record.tag, file.source, file_hash(file.path))
        else:
            model = create(name, pretrained=True)
            mean, std = record.mean, record.std
            origin = WeightsOrigin(record.tag, f"timm {timm.__version__}, {tagged}")
        with torch.device("meta"):
            layout = layout_of(create(name), subject=repr(name))
    opened = ConSE(
        model,
        text=text,
        names=IMAGENET_CLASSNAMES,
        stride=layout.stride,
        # a grid of 7 x 7 at the side of training is too coarse for locations
        size=whole_side(2 * int(record.input_size[-1]), layout.stride),
        mean=mean,
        std=std,
        origin=origin,
    )
    opened.form, opened.only = layout.form, layout.only
    return opened


def describe(name: str) -> dict[str, Any]:
    """Return library, version, architecture, and what ConSE averages, for the record."""
    from open_clip import IMAGENET_CLASSNAMES

    return {
        **described("timm", name),
        "reading": "ConSE",
        "labels": "ImageNet-1k",
        "names": short_digest("\n".join(IMAGENET_CLASSNAMES)),
        "template": TEMPLATE,
        "temperature": TEMPERATURE,
        "likeliest": LIKELIEST,
    }
