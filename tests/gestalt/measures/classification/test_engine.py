"""Classification and its twin on misleading backgrounds: templates, resizing, ranks and rules, each
against a slow or independent one.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gestalt.measures.classification.callback import by_class, ranks, reduced_labels, with_third
from gestalt.measures.classification.protocol import PROTOCOLS as CLASSIFICATION_PROTOCOLS
from gestalt.measures.evaluation.prompts import class_embeddings
from gestalt.measures.evaluation.protocols import build_protocol
from gestalt.measures.robustness.protocol import PROTOCOLS as ROBUSTNESS_PROTOCOLS
from tests.gestalt.painted import NAMES, PaintedModel, Words, painted

BIRDS = Words(NAMES[1:3], prompts=((NAMES[1],), (NAMES[2],)))


def slow_rank(logits: list[float], truth: int) -> int:
    """Classes that come before the true one, one at a time."""
    return sum(
        value > logits[truth] or (value == logits[truth] and index < truth)
        for index, value in enumerate(logits)
        if index != truth
    )


def test_ranks_equal_a_slow_loop_and_ties_go_to_the_first_class():
    draw = torch.Generator().manual_seed(0)
    logits = torch.randint(5, (40, 7), generator=draw).float()
    truth = torch.randint(7, (40,), generator=draw)
    found = ranks(logits, truth)
    assert found.tolist() == [
        slow_rank(row, int(one)) for row, one in zip(logits.tolist(), truth, strict=True)
    ]
    assert torch.equal(found == 0, logits.argmax(dim=1) == truth)


def test_a_phrase_shared_by_two_classes_ties_and_so_counts_for_the_first_class():
    words = Words(
        ("torpedo", "missile", "rocket"), prompts=(("torpedo",), ("missile",), ("missile",))
    )
    prompts = class_embeddings(
        PaintedModel(words), words, protocol=CLASSIFICATION_PROTOCOLS["one_prompt"]
    )
    rounded = torch.tensor([[0.1, 0.3, 0.3000001]])  # products round otherwise at another place
    assert by_class(rounded, prompts=prompts).argmax(dim=1).tolist() == [1]


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
