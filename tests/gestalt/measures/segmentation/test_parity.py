"""Each protocol equals a slow reference on random locations, pixel by pixel, at every image
size.
"""

import dataclasses
import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gestalt.encoders.dense_model import DenseModel
from gestalt.measures.dense.protocol import TopDownProtocol
from gestalt.measures.evaluation.images import resize
from gestalt.measures.evaluation.prompts import class_embeddings
from gestalt.measures.segmentation.engine import top_down
from gestalt.measures.segmentation.presets import PRESETS, top_down_protocol
from tests.gestalt.measures.segmentation.reference import (
    FIRST_VARIANTS,
    RULES,
    Rules,
    predict,
    target,
)
from tests.gestalt.painted import Words, random_pixels

TIE = 1e-6
"""Pixels whose first two scores are nearer than this are left out, and counted."""

WORDS = Words(
    names=("background", "cat", "dog", "person", "sofa", "train", "bottle", "bus"),
    prompts=(
        ("sky", "wall"),
        ("cat",),
        ("dog", "puppy"),
        ("person", "body", "crowd"),
        ("sofa",),
        ("train",),
        ("bottle",),
        ("bus",),
    ),
    background=0,
)
SIZES = [(37, 53), (61, 40)]


class RandomModel(DenseModel):
    """Locations and texts in directions that look random, the same for the same pixels or words."""

    def __init__(self, *, patch: int = 16, width: int = 5) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.patch_stride = (patch, patch)
        self.width = width
        self.mix = torch.randn(3, width, generator=generator)
        self.logit_scale = nn.Parameter(torch.tensor(2.0))

    def embed_patches(self, images: Tensor, **reading) -> Tensor:
        colours = functional.avg_pool2d(images.float() / 16, self.patch_stride)  # (B, 3, h, w)
        return functional.normalize(
            torch.sin(torch.einsum("bchw,ce->behw", colours, self.mix)), dim=1
        )

    def embed_text(self, texts: list[str], *, normalise: bool = True) -> Tensor:
        seeds = [
            int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") for text in texts
        ]
        vectors = torch.stack(
            [
                torch.randn(self.width, generator=torch.Generator().manual_seed(seed))
                for seed in seeds
            ]
        )
        return functional.normalize(vectors, dim=1) if normalise else vectors


def noise(height: int, width: int, *, seed: int = 0) -> Tensor:
    return random_pixels(3, height, width, seed=seed)


def texts_of(
    model: RandomModel, protocol: TopDownProtocol, *, words: Words, silent: bool, raw: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The prompts that compete, and their classes, by the protocol's templates alone."""
    vectors, classes = [], []
    for index, phrases in enumerate(words.prompts):
        for phrase in () if silent and index == 0 else phrases:
            texts = [template.replace("{}", phrase) for template in protocol.templates]
            each = model.embed_text(texts, normalise=not raw).numpy().astype(np.float64)
            vectors.append(each.mean(axis=0) / np.linalg.norm(each.mean(axis=0)))
            classes.append(index)
    return np.stack(vectors), np.array(classes)


def assert_same(
    protocol: TopDownProtocol,
    rules: Rules,
    *,
    size: tuple[int, int] = SIZES[0],
    model: RandomModel | None = None,
    seed: int = 0,
    words: Words = WORDS,
):
    model = RandomModel() if model is None else model
    image = noise(*size, seed=seed)
    canvas = resize(image, protocol=protocol)
    assert tuple(canvas.shape[1:]) == target(*size, rules)
    prompts = class_embeddings(model, words, protocol=protocol)
    found = top_down(model, [image], prompts=prompts, protocol=protocol)[0].prediction.numpy()
    silent, raw = rules.final in ("constant", "groupvit"), rules.extra.get("raw", False)
    text, classes = texts_of(model, protocol, words=words, silent=silent, raw=raw)
    np.testing.assert_allclose(prompts.vectors.numpy(), text, atol=1e-6)
    wanted, margin = predict(
        model, canvas, size, text, classes, rules, logit_scale=float(np.exp(2.0))
    )
    assert_equal_but_ties(found, wanted, margin)


def assert_equal_but_ties(found, wanted, margin):
    """Hold a prediction to a reference's, but for the few pixels of a smaller margin than
    ``TIE``.
    """
    clear = margin > TIE
    assert (~clear).mean() < 1e-4, f"{(~clear).sum()} of {clear.size} pixels are ties"
    assert len(np.unique(wanted)) > 1, "a reference that says nothing"
    differ = (found != wanted)[clear]
    assert not differ.any(), f"{differ.sum()} of {clear.sum()} pixels differ"


def rules_of(name: str) -> Rules:
    raw = name.startswith("mmseg-448/")
    return dataclasses.replace(RULES[name], extra={"raw": raw})


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", RULES)
def test_a_protocol_matches_the_slow_reference(name, size):
    protocol = top_down_protocol(name, vocabulary="label_set")
    assert_same(protocol, rules_of(name), size=size, seed=4)


@pytest.mark.parametrize("name", ["mmseg-448", "sclip-336/naclip"])
def test_an_image_narrower_than_a_window_matches_the_slow_reference(name):
    protocol = top_down_protocol(name, vocabulary="label_set")
    assert_same(protocol, rules_of(name), size=(16, 120))


EXCEPTIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("sclip-336/sclip", "voc21"): {"scale": 65.0, "bound": 0.1, "area": 0.1},
    ("sclip-336/sclip", "context60"): {"scale": 50.0, "bound": 0.1},
    ("sclip-336/sclip", "coco_object_81"): {"scale": 50.0, "bound": 0.1},
    ("sclip-336/sclip", "coco_stuff_171"): {"short": 448},
    ("sclip-336/sclip", "cityscapes_19"): {"short": 560},
    ("sclip-336/naclip", "voc21"): {"window": None, "stride": None, "bound": 0.1},
    ("sclip-336/naclip", "voc20"): {"window": None, "stride": None},
    ("sclip-336/naclip", "context60"): {"bound": 0.1},
    ("sclip-336/naclip", "coco_object_81"): {"bound": 0.1},
    ("sclip-336/naclip", "cityscapes_19"): {"short": 560},
    ("clearclip-448/clearclip", "voc21"): {"bound": 0.5},
    ("clearclip-448/clearclip", "context60"): {"bound": 0.15},
    ("clearclip-448/clearclip", "coco_object_81"): {"bound": 0.4},
    ("clearclip-448/clearclip", "cityscapes_19"): {"window": 224},
    ("sclip-336/proxyclip", "voc21"): {"bound": 0.2},
    ("sclip-336/proxyclip", "context60"): {"bound": 0.15},
    ("sclip-336/proxyclip", "coco_object_81"): {"bound": 0.25},
    ("sclip-336/proxyclip", "ade20k_150"): {"short": 448},
    ("sclip-336/proxyclip", "cityscapes_19"): {"short": 448, "window": 224},
    ("mmseg-448/groupvit", "context60"): {"bound": 0.35},
}


def test_every_exception_for_a_label_set_has_a_reference():
    assert all(PRESETS[family] == PRESETS[name] for family, name in FIRST_VARIANTS.items())
    assert (
        PRESETS["clearclip-448/maskclip"].label_sets
        == PRESETS["clearclip-448/clearclip"].label_sets
    )
    rows = {
        name: preset
        for name, preset in PRESETS.items()
        if name not in (*FIRST_VARIANTS, "clearclip-448/maskclip")
    }
    assert set(EXCEPTIONS) == {
        (name, label_set) for name, preset in rows.items() for label_set in preset.label_sets
    }


@pytest.mark.parametrize("case", EXCEPTIONS, ids=" ".join)
def test_exceptions_for_a_label_set_match_the_slow_reference(case):
    name, label_set = case
    protocol = top_down_protocol(name, label_set=label_set, vocabulary="label_set")
    assert_same(protocol, dataclasses.replace(rules_of(name), **EXCEPTIONS[case]))


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, preset in PRESETS.items()
        if preset.protocol.threshold is not None and name not in FIRST_VARIANTS
    ],
)
def test_protocols_without_a_background_class_match_the_slow_reference(name):
    words = Words(names=WORDS.names[1:], prompts=WORDS.prompts[1:], background=None)
    protocol = top_down_protocol(
        name, label_set="context59", has_background=False, vocabulary="label_set"
    )
    rules = dataclasses.replace(rules_of(name), final="argmax", bound=None)
    assert_same(protocol, rules, words=words)


CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any], int]] = {
    # protocol, its changes, those of the reference, pixels of a patch
    "TCL without PAMR": (
        "mmseg-448/tcl",
        {"refinement": "none"},
        {"pamr": None, "bound": 0.5},
        16,
    ),
    "NACLIP that keeps the remainder": (
        "sclip-336/naclip",
        {"defects": "fixed"},
        {"remainder": "stretch"},
        20,
    ),
    "high threshold and large area": (
        "sclip-336/sclip",
        {"logit_scale": 3.0, "threshold": 0.35, "area_threshold": 0.2},
        {"scale": 3.0, "bound": 0.35, "area": 0.2},
        16,
    ),
    "336 pixels in patches of 20": ("sclip-336/proxyclip", {}, {}, 20),
    "224 pixels in patches of 20": ("sclip-336/naclip", {}, {}, 20),
    "384 pixels in patches of 20": ("dinotxt-512", {}, {}, 20),
}


@pytest.mark.parametrize("case", CASES)
def test_a_changed_protocol_or_patch_matches_the_slow_reference(case):
    name, changes, rules, patch = CASES[case]
    protocol = top_down_protocol(name, vocabulary="label_set", **changes)
    rules = dataclasses.replace(rules_of(name), **rules)
    assert_same(protocol, rules, model=RandomModel(patch=patch))
