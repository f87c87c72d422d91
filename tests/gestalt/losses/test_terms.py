"""Laws of every term of the loss, and each term against a computation by hand."""

from functools import partial
from typing import Any

import pytest
import torch
from torch.nn import functional

from gestalt.losses.self_distillation import SelfDistillation
from gestalt.tables import TERMS
from tests.gestalt.losses.toy import (
    EXAMPLES,
    PAIRS,
    PATCHES,
    SIMILAR,
    Toy,
    batch,
    value_and_gradients,
)


@pytest.fixture
def model(name: str) -> Toy:
    return Toy(name)


law = pytest.mark.laws(TERMS, EXAMPLES)


def in_float32(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value.float() if key in ("image", "caption") else value
        for key, value in fields.items()
    }


assert_equal = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-12)


@law
def test_the_order_of_pairs_changes_nothing(model):
    assert_equal(
        value_and_gradients(model, torch.tensor([3, 5, 0, 1, 4, 2])), value_and_gradients(model)
    )


@law
@pytest.mark.parametrize("good", [[0, 1, 3, 5], [2], [1, 2, 3, 4, 5]])
def test_invalid_rows_do_not_affect_value_or_gradients(model, good):
    valid = torch.zeros(PAIRS, dtype=torch.bool)
    valid[good] = True
    assert_equal(
        value_and_gradients(model, valid=valid), value_and_gradients(model, torch.tensor(good))
    )


@law
def test_a_batch_without_a_valid_row_has_zero_loss_and_finite_gradients(model):
    found = value_and_gradients(model, valid=torch.zeros(PAIRS, dtype=torch.bool))
    assert float(found["share"]) == 0
    assert all(bool(gradient.isfinite().all()) for gradient in found.values())


@law
def test_gradients_are_those_of_finite_differences(model):
    found = value_and_gradients(model)
    parameters = dict(model.named_parameters())
    targets_move = isinstance(model.term, SelfDistillation)  # with the tower, and have no gradient
    for name in (
        found.keys() - {"share"} - ({"image.weight", "image.bias"} if targets_move else set())
    ):
        parameter = parameters[name]
        position = tuple(0 for _ in parameter.shape)
        values = []
        for step in (1e-6, -2e-6):
            parameter.data[position] += step
            values.append(float(model(batch()).detach()))
        parameter.data[position] += 1e-6
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(
            float(found[name][position]), rel=1e-4, abs=1e-8
        )


def parts_of(model: Toy) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Patches and nouns, L2-normalised, and the scale."""
    patches = functional.normalize(model.image(batch()["image"]), dim=-1).detach()
    words = functional.normalize(model.text(model.words.weight), dim=-1).detach()
    return patches, words, float(model.logit_scale.detach().exp())


CASES = {
    **{pooling: (pooling, {"nouns_pooling": pooling}) for pooling in ("max", "softmax", "image")},
    "softmax at its limit": ("max", {"nouns_pooling": "softmax", "nouns_temperature": 1e-4}),
    "max-alike": ("max", {"nouns_pooling": "max", "similar": SIMILAR}),
}


@pytest.mark.parametrize(("pooling", "choices"), CASES.values(), ids=CASES)
def test_the_noun_term_contrasts_absent_nouns_and_images_without_the_noun(pooling, choices):
    """The part of "softmax" is that of SimZSS (arXiv:2406.16085), section 3.3."""
    model, similar = Toy("nouns", **choices), choices.get("similar")
    patches, words, scale = parts_of(model)
    whole = model.pairs(batch()).image.detach()
    near = torch.empty(PAIRS, 4, dtype=torch.float64)  # noun 4 is in no caption
    for row, image in enumerate(patches):
        for noun in range(4):
            cosines = image @ words[noun]
            part = {
                "max": image[cosines.argmax()],
                "softmax": (cosines / 0.1).softmax(0) @ image,
                "image": whole[row],
            }[pooling]
            near[row, noun] = scale * functional.cosine_similarity(part, words[noun], dim=0)
    losses, named = [], [[0, 1], [2], [0, 1], [], [0, 1], [3, 2, 0]]
    true = (
        named
        if similar is None
        else [[noun for noun in range(4) if similar[noun, nouns].any()] for nouns in named]
    )
    for row, nouns in enumerate(named):
        for noun in nouns:
            absent = [near[row, other] for other in range(4) if other not in true[row]]
            without = [near[other, noun] for other in range(PAIRS) if noun not in true[other]]
            for others in (absent, without):
                losses.append(-torch.stack([near[row, noun], *others]).log_softmax(0)[0])
    assert float(model(batch()).detach()) == pytest.approx(float(torch.stack(losses).sum()) / 10)


@pytest.mark.parametrize("channels", [4, 2])  # all, or those beside a class token
def test_the_best_patch_is_drawn_to_its_own_caption(channels):
    model = Toy("best_patch")
    pairs = model.pairs(batch())
    pairs = pairs._replace(patches=pairs.patches[:, :, :channels])
    model.term.enough = 0.5
    nearest = functional.cosine_similarity(
        pairs.patches, pairs.text[:, None, 4 - channels :], dim=-1
    ).amax(dim=1)
    assert {True, False} == set((nearest > 0.5).tolist())
    expected = (1 - nearest).clamp(min=0.5).mean()
    torch.testing.assert_close(model.term(pairs), expected)


def test_a_hidden_patch_and_a_visible_one_predict_their_prototypes_in_the_whole_image():
    model = Toy("self_distillation")
    term = model.term
    whole = model.image(batch()["image"]).detach()
    masked = model.encode_masked(batch(), term.token, 0.5)
    assert 0 < int((masked != whole).any(dim=-1).sum()) == PAIRS * PATCHES // 2
    plan = (term.teacher(whole).flatten(0, 1) / 0.04).exp()
    for _ in range(3):  # a prototype has as many patches as any other
        plan = plan / plan.sum(dim=1, keepdim=True)
        plan = plan / plan.sum(dim=0, keepdim=True)
    plan = plan / plan.sum(dim=1, keepdim=True)
    expected = functional.cross_entropy(term.student(masked).flatten(0, 1) / 0.1, plan)
    assert float(model(batch()).detach()) == pytest.approx(float(expected.detach()))


def test_the_teacher_is_an_average_of_the_head_alone():
    model = Toy("self_distillation")
    term = model.term
    before = [parameter.clone() for parameter in term.teacher.parameters()]
    with torch.no_grad():
        for parameter in term.student.parameters():
            parameter += 1
    term.after_step()
    for average, old in zip(term.teacher.parameters(), before, strict=True):
        torch.testing.assert_close(average, old + 0.006)
    assert not any(parameter.requires_grad for parameter in term.teacher.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["nouns", "best_patch"])
def test_autocast_rounds_no_similarity(name, dtype):
    """The towers run in half precision; with equal outputs of theirs the term has the value and
    gradient of float32.
    """
    model = Toy(name).float()
    pairs = model.pairs(in_float32(batch()))
    words = functional.normalize(model.text(model.words.weight), dim=-1).detach()
    found = []
    for enabled in (False, True):
        patches = pairs.patches.detach().to(dtype).requires_grad_()
        scale = torch.tensor(4.6)
        given = pairs._replace(
            text=pairs.text.detach(),
            patches=patches,
            logit_scale=scale,
            embed_text=lambda _, of_locations: words,
        )
        with torch.autocast("cpu", dtype=dtype, enabled=enabled):
            share = model.term(given)
        torch.autograd.backward(share)
        assert share.dtype == torch.float32
        found.append((share.detach(), patches.grad))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)
