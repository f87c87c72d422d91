"""Top-down grouping: an oracle scores 1, noise scores chance, and no label is ever resized."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gestalt.evaluation.confusion import UNNAMED
from gestalt.evaluation.dense.scores import cosines
from gestalt.evaluation.dense.windows import cut_and_embed
from gestalt.evaluation.images import equal_sizes, resized
from gestalt.evaluation.prompts import class_embeddings
from gestalt.evaluation.protocols import TopDownProtocol, build_protocol
from gestalt.measures.segmentation.engine import segment_image, top_down, upsampled_argmax
from gestalt.measures.segmentation.metric import MeanIoU
from tests.gestalt.painted import LABELS, NAMES, PaintedModel, blocky_label, painted, striped_label

SQUARE = build_protocol("whole_square", input_size=32)
SHORT_SIDE = build_protocol("whole_short_side", input_size=16, multiple=4)


def miou(labels: list[Tensor], *, model: PaintedModel, protocol: TopDownProtocol) -> float:
    """Score a model on painted labels."""
    prompts = class_embeddings(model, LABELS, protocol=protocol)
    found = top_down(model, [painted(label) for label in labels], prompts=prompts, protocol=protocol)
    metric = MeanIoU(len(NAMES))
    metric.update([one.prediction for one in found], labels, torch.arange(len(labels)))
    return float(metric.compute().miou)


def test_an_oracle_scores_one_on_labels_aligned_with_its_patches() -> None:
    labels = [striped_label(8, 8, block=4, seed=seed, upright=seed % 2 == 0) for seed in range(4)]
    assert miou(labels, model=PaintedModel(), protocol=SQUARE) == 1


def test_an_oracle_scores_one_at_the_resolution_of_its_patches_whatever_the_shapes() -> None:
    label = blocky_label(8, 8, block=4, seed=0)
    prompts = class_embeddings(PaintedModel(), LABELS, protocol=SQUARE)
    found = top_down(PaintedModel(), [painted(label)], prompts=prompts, protocol=SQUARE, sizes=[(8, 8)])
    assert torch.equal(found[0].prediction, label[::4, ::4])


def test_an_oracle_scores_one_on_images_that_are_not_square() -> None:
    labels = [
        striped_label(4, 10, block=4, seed=0),
        striped_label(7, 4, block=4, seed=1),
        striped_label(4, 10, block=4, seed=2, upright=False),
    ]
    assert miou(labels, model=PaintedModel(), protocol=SHORT_SIDE) == 1


def test_a_transposed_grid_scores_low_on_images_that_are_not_square() -> None:
    labels = [striped_label(4, 10, block=4, seed=0)]
    assert miou(labels, model=PaintedModel(flaw="transposed"), protocol=SHORT_SIDE) < 0.5


def test_noise_scores_about_chance() -> None:
    labels = [blocky_label(16, 16, block=4, seed=seed) for seed in range(8)]
    guess = 1 / (2 * len(NAMES) - 1)  # intersection 1/16, union 7/16 of the pixels
    protocol = build_protocol("whole_square", input_size=64)
    assert miou(labels, model=PaintedModel(flaw="noise"), protocol=protocol) == pytest.approx(guess, abs=0.06)


@pytest.mark.parametrize("protocol", [SQUARE, SHORT_SIDE], ids=["square", "short_side"])
def test_the_prediction_has_the_labels_native_size(protocol: TopDownProtocol) -> None:
    model = PaintedModel()
    prompts = class_embeddings(model, LABELS, protocol=protocol)
    image = painted(torch.zeros(33, 50, dtype=torch.uint8))
    found = top_down(model, [image, image], prompts=prompts, protocol=protocol, sizes=[(33, 50), (66, 100)])
    assert [tuple(one.prediction.shape) for one in found] == [(33, 50), (66, 100)]
    assert found[0].prediction.dtype == torch.uint8


def test_a_thin_object_is_scored_at_native_size() -> None:
    label = torch.zeros(33, 50, dtype=torch.uint8)
    label[:, 49] = 1  # one pixel wide: a squashed label would lose or widen it
    metric = MeanIoU(len(NAMES))
    protocol = build_protocol("whole_square", input_size=8)
    prompts = class_embeddings(PaintedModel(), LABELS, protocol=protocol)
    metric.update(top_down(PaintedModel(), [painted(label)], prompts=prompts, protocol=protocol)[0].prediction, label, 0)
    assert metric.compute().counts[2].tolist() == [33 * 49, 33, 0, 0]


def test_logits_are_upsampled_before_argmax() -> None:
    maps = torch.tensor([[[1.0, 0.0]], [[0.0, 0.9]]])  # (2, 1, 2)
    _, index = upsampled_argmax(maps, size=(1, 8))
    wide = functional.interpolate(maps[None], size=(1, 8), mode="bilinear", align_corners=False)[0]
    assert index.tolist() == wide.argmax(dim=0).tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]


@pytest.mark.parametrize("at_once", [1, 700, 1400, 10**6])
def test_the_block_size_does_not_change_the_argmax(at_once: int) -> None:
    maps = torch.randn(7, 5, 6, generator=torch.Generator().manual_seed(0))
    maps[4] = maps[2]  # a tie goes to the first, across blocks too
    best, index = upsampled_argmax(maps, size=(23, 31), at_once=at_once)
    wide = functional.interpolate(maps[None], size=(23, 31), mode="bilinear", align_corners=False)[0]
    assert torch.equal(best, wide.max(dim=0).values)
    assert torch.equal(index, wide.max(dim=0).indices)
    assert 4 not in index


def test_only_scores_below_the_threshold_become_background() -> None:
    label = blocky_label(8, 8, block=4, seed=3)
    for threshold in (1.0, -1.0):
        protocol = build_protocol("whole_square", input_size=32, background="threshold", threshold=threshold)
        prompts = class_embeddings(PaintedModel(), LABELS, protocol=protocol)
        mask = top_down(PaintedModel(), [painted(label)], prompts=prompts, protocol=protocol, sizes=[(8, 8)])[0].prediction
        truth = label[::4, ::4]
        expected = truth if threshold == 1 else truth.clamp_min(1)
        assert torch.equal(mask, expected)


def test_logits_are_float32_cosines_in_the_images_order() -> None:
    model = PaintedModel().to(torch.float64)
    prompts = class_embeddings(model, LABELS, protocol=SHORT_SIDE)
    labels = [blocky_label(4, 6, block=4, seed=0), blocky_label(6, 4, block=4, seed=1), blocky_label(4, 6, block=4, seed=2)]
    pieces = cut_and_embed(model, [painted(label) for label in labels], protocol=SHORT_SIDE)
    for label, logits in zip(labels, [cosines(one, prompts) for one in pieces], strict=True):
        assert logits.dtype == torch.float32
        assert torch.equal(prompts.class_index[logits.argmax(dim=0)].to(torch.uint8), label[::4, ::4])


def test_no_gradient_reaches_the_tower() -> None:
    image = painted(blocky_label(8, 8, block=4, seed=0))
    assert not cut_and_embed(PaintedModel(), [image], protocol=SQUARE)[0].features.requires_grad


def test_it_runs_in_inference_mode() -> None:
    with torch.inference_mode():
        assert miou([striped_label(8, 8, block=4, seed=0)], model=PaintedModel(), protocol=SQUARE) == 1


def test_segmenting_by_custom_labels_gives_their_positions() -> None:
    label = striped_label(8, 8, block=4, seed=5)
    mask = segment_image(PaintedModel(), painted(label), labels=["unicorn", "ground", "hour", "apple"], protocol=SQUARE)
    assert torch.equal(torch.tensor([1, 3, 2, 0], dtype=torch.uint8)[label.long()], mask)


def test_segmenting_with_a_threshold_leaves_the_rest_unnamed() -> None:
    label = striped_label(8, 8, block=4, seed=5)
    protocol = build_protocol("whole_square", input_size=32, background="threshold", threshold=0.99)
    mask = segment_image(PaintedModel(), painted(label), labels=["apple"], protocol=protocol)
    assert set(mask.flatten().tolist()) == {0, UNNAMED}
    assert (mask[label == 1] == UNNAMED).sum() < (mask[label != 1] == UNNAMED).sum()


@pytest.mark.parametrize(
    ("image", "labels", "message"),
    [
        (torch.zeros(3, 8, 8, dtype=torch.uint8), [], "0 labels were given"),
        (torch.zeros(3, 8, 8), ["a"], "expected uint8"),
        (torch.zeros(8, 8, 3, dtype=torch.uint8), ["a"], r"\(8, 8, 3\)"),
    ],
)
def test_segmenting_without_labels_or_with_an_invalid_image_is_refused(image: Tensor, labels: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        segment_image(PaintedModel(), image, labels=labels, protocol=SQUARE)


def test_an_image_of_the_right_size_is_not_touched() -> None:
    image = torch.randint(256, (3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert resized(image, protocol=SQUARE) is image


def test_resizing_stays_uint8_keeps_grey_and_does_not_wrap() -> None:
    grey = torch.full((3, 33, 50), 77, dtype=torch.uint8)
    assert torch.equal(resized(grey, protocol=SQUARE), torch.full((3, 32, 32), 77, dtype=torch.uint8))
    edge = torch.zeros(3, 8, 8, dtype=torch.uint8)
    edge[:, :, 4:] = 255  # bicubic overshoots beside an edge
    out = resized(edge, protocol=SQUARE)
    assert (out[:, :, :13] < 20).all()
    assert (out[:, :, -13:] > 235).all()


def test_a_fine_pattern_turns_grey_instead_of_aliasing() -> None:
    stripes = torch.tensor([0, 255], dtype=torch.uint8).repeat(64).expand(3, 128, 128)
    out = resized(stripes, protocol=build_protocol("whole_square", input_size=30))[:, :, 2:-2]
    assert (out.float() - 127.5).abs().max() < 20


def test_images_of_equal_size_are_stacked_together() -> None:
    images = [torch.zeros(3, 2, 4), torch.zeros(3, 4, 2), torch.ones(3, 2, 4), torch.ones(3, 2, 4)]
    assert [(positions, tuple(stack.shape)) for positions, stack in equal_sizes(images)] == [([0, 2, 3], (3, 3, 2, 4)), ([1], (1, 3, 4, 2))]
