"""Rules that give an image a class by its dense map."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gestalt.measures.evaluation.prompts import class_embeddings
from gestalt.measures.evaluation.protocols import build_protocol
from gestalt.measures.robustness.protocol import PROTOCOLS as ROBUSTNESS_PROTOCOLS
from gestalt.measures.robustness.rules import reduced_labels, with_third
from tests.gestalt.painted import NAMES, PaintedModel, Words, painted

BIRDS = Words(NAMES[1:3], prompts=((NAMES[1],), (NAMES[2],)))


def birds_on(places: int, *, bird: int) -> Tensor:
    """A bird of a class (1 or 2 of the painted ones) that fills a sixth of an image of ground."""
    label = torch.full((24, 24), 0 if places == 0 else 3, dtype=torch.uint8)
    label[8:16, 8:20] = bird
    return painted(label)


@pytest.mark.parametrize("name", ROBUSTNESS_PROTOCOLS)
def test_nan_embeddings_are_refused_and_not_counted_as_the_first_class(name):
    class Diverged(PaintedModel):
        def embed_image(self, images: Tensor) -> Tensor:
            return super().embed_image(images) * torch.nan

        def embed_patches(self, images: Tensor, **_: str) -> Tensor:
            return super().embed_patches(images) * (
                1 if protocol.reduction == "pooled" else torch.nan
            )

    protocol = build_protocol(name, ROBUSTNESS_PROTOCOLS, input_size=24)
    prompts = class_embeddings(PaintedModel(), with_third(BIRDS, ()), protocol=protocol)
    with pytest.raises(
        ValueError, match="contain NaN or infinity, so no image has a nearest class"
    ):
        reduced_labels(Diverged(), [birds_on(0, bird=1)], prompts=prompts, protocol=protocol)


def test_a_third_class_competes_by_its_prompts_without_a_background():
    labels = with_third(replace(BIRDS, background=1), ("grass", "sky"))
    assert (labels.background, labels.names[2]) == (None, "grass or sky")
    assert labels.prompts == (*BIRDS.prompts, ("grass", "sky"))


def test_labelling_by_maps_records_no_gradient():
    class Watched(PaintedModel):
        def embed_patches(self, images: Tensor, **_: str) -> Tensor:
            assert not torch.is_grad_enabled()
            return super().embed_patches(images)

    protocol = build_protocol("map_majority", ROBUSTNESS_PROTOCOLS, input_size=24)
    prompts = class_embeddings(PaintedModel(), with_third(BIRDS, ()), protocol=protocol)
    reduced_labels(Watched(), [birds_on(0, bird=1)], prompts=prompts, protocol=protocol)
