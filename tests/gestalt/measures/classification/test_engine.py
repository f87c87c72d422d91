"""Classification and its twin on misleading backgrounds: templates, resizing, ranks and rules, each against a slow or independent one."""

import dataclasses
import hashlib
from typing import get_args

import numpy as np
import open_clip.zero_shot_metadata
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

from gestalt.evaluation.images import resized
from gestalt.evaluation.prompts import class_embeddings, expand
from gestalt.evaluation.protocols import (
    CLASSIFICATION_PROTOCOLS,
    MATCHING_PROTOCOLS,
    ROBUSTNESS_PROTOCOLS,
    TEMPLATES,
    RobustnessProtocol,
    build_protocol,
)
from gestalt.evaluation.protocols.classification import Reduction
from gestalt.measures.classification.engine import by_class, class_logits, ranks, reduce_map, reduced_labels, with_third
from tests.gestalt.painted import LABELS, NAMES, PaintedModel, Words, blocky_label, painted

OPENAI_80 = TEMPLATES["openai_80"]
BIRDS = Words(NAMES[1:3], prompts=((NAMES[1],), (NAMES[2],)))


def test_the_80_templates_equal_those_of_openai() -> None:
    theirs = [template("{}") for template in open_clip.zero_shot_metadata.OPENAI_IMAGENET_TEMPLATES]
    assert list(OPENAI_80) == theirs
    digest = hashlib.sha256("\n".join(OPENAI_80).encode()).hexdigest()
    assert digest == "4f976686fb651bb5803d4689dcd849f75efe0ef19a3c801355bc9a6f03c8a5af"
    protocol = CLASSIFICATION_PROTOCOLS["openai_80"].prompting()
    assert expand("Great White Shark", protocol=protocol)[0] == "a bad photo of a Great White Shark."


@pytest.mark.parametrize("size", [(300, 200), (200, 301), (224, 224), (97, 500), (640, 427)])
def test_short_side_resize_and_crop_match_torchvision_on_pillow_images(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(size).integers(256, size=(size[0] // 8 + 1, size[1] // 8 + 1, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BICUBIC)  # smooth, as photographs are
    theirs = np.array(CenterCrop(224)(Resize(224, InterpolationMode.BICUBIC)(picture)))
    ours = resized(torch.from_numpy(np.array(picture)).permute(2, 0, 1), protocol=CLASSIFICATION_PROTOCOLS["openai_80"])
    assert ours.shape == (3, 224, 224)
    assert np.abs(ours.permute(1, 2, 0).numpy().astype(int) - theirs).max() <= 1  # Pillow rounds between its two passes


def test_a_class_vector_is_the_mean_of_unit_vectors_of_all_templates() -> None:
    class Letters(PaintedModel):
        def embed_text(self, texts: list[str], **_: bool) -> Tensor:
            draws = [np.random.default_rng(list(text.encode())).normal(size=6) for text in texts]
            return torch.from_numpy(np.stack(draws)).float()

    found = class_embeddings(Letters(), LABELS, protocol=CLASSIFICATION_PROTOCOLS["openai_80"].prompting())
    units = [vector / vector.norm() for vector in Letters().embed_text([template.replace("{}", "apple") for template in OPENAI_80])]
    mean = torch.stack(units).mean(dim=0)
    torch.testing.assert_close(found.vectors[2], mean / mean.norm())


def slow_rank(logits: list[float], truth: int) -> int:
    """Classes that come before the true one, one at a time."""
    return sum(value > logits[truth] or (value == logits[truth] and index < truth) for index, value in enumerate(logits) if index != truth)


def test_ranks_equal_a_slow_loop_and_ties_go_to_the_first_class() -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randint(5, (40, 7), generator=draw).float()
    truth = torch.randint(7, (40,), generator=draw)
    found = ranks(logits, truth)
    assert found.tolist() == [slow_rank(row, int(one)) for row, one in zip(logits.tolist(), truth, strict=True)]
    assert torch.equal(found == 0, logits.argmax(dim=1) == truth)


def test_constant_logits_score_chance_and_nan_logits_score_zero() -> None:
    truth = torch.arange(6)
    assert (ranks(torch.zeros(6, 6), truth) == 0).sum() == 1
    assert (ranks(torch.full((6, 6), torch.nan), truth) == 5).all()


def test_a_class_scores_as_its_best_prompt() -> None:
    prompts = class_embeddings(PaintedModel(), LABELS, protocol=CLASSIFICATION_PROTOCOLS["one_prompt"].prompting())
    cosines = torch.tensor([[0.1, 0.9, 0.3, 0.2, -0.5]])
    assert by_class(cosines, prompts=prompts).tolist() == torch.tensor([[0.9, 0.3, 0.2, -0.5]]).tolist()


def test_a_phrase_shared_by_two_classes_ties_and_so_counts_for_the_first_class() -> None:
    words = Words(("torpedo", "missile", "rocket"), prompts=(("torpedo",), ("missile",), ("missile",)))
    prompts = class_embeddings(PaintedModel(words), words, protocol=CLASSIFICATION_PROTOCOLS["one_prompt"].prompting())
    rounded = torch.tensor([[0.1, 0.3, 0.3000001]])  # products round otherwise at another place
    assert by_class(rounded, prompts=prompts).argmax(dim=1).tolist() == [1]


def test_an_image_filled_with_a_class_is_classified_as_that_class() -> None:
    protocol = build_protocol("one_prompt", CLASSIFICATION_PROTOCOLS, input_size=16)
    prompts = class_embeddings(PaintedModel(), LABELS, protocol=protocol.prompting())
    images = [painted(torch.full((16 + 8 * index, 24), index, dtype=torch.uint8)) for index in range(len(NAMES))]
    logits = class_logits(PaintedModel(), images, prompts=prompts, protocol=protocol)
    assert logits.argmax(dim=1).tolist() == list(range(len(NAMES)))
    assert logits.shape == (4, 4)


def slow_label(logits: list[list[float]], *, protocol: RobustnessProtocol) -> int:
    """The rules a patch at a time."""
    classes = len(logits[0])
    birds = range(classes - 1 if protocol.third_class else classes)
    if protocol.reduction == "mean_logit":
        means = [sum(patch[one] for patch in logits) / len(logits) for one in range(classes)]
        return means.index(max(means))
    winners = [patch.index(max(patch)) for patch in logits]
    if not any(one in birds for one in winners):
        return classes - 1
    if protocol.reduction == "majority":
        votes = [winners.count(one) for one in birds]
        return votes.index(max(votes))
    best = max((max(patch), -place) for place, patch in enumerate(logits) if winners[place] in birds)
    return winners[-best[1]]


@pytest.mark.parametrize("third", [("background",), ()], ids=["three_way", "two_way"])
@pytest.mark.parametrize("reduction", [rule for rule in get_args(Reduction) if rule != "pooled"])
def test_reduction_rules_equal_slow_references(reduction: str, third: tuple[str, ...]) -> None:
    protocol = build_protocol("map_majority", ROBUSTNESS_PROTOCOLS, reduction=reduction, third_class=third)
    logits = torch.randint(-9, 9, (60, 6, 2 + len(third)), generator=torch.Generator().manual_seed(0)).double()
    logits[:5, :, -1] = 20  # nothing but the last class
    found = reduce_map(logits, protocol=protocol).tolist()
    assert found == [slow_label(image, protocol=protocol) for image in logits.tolist()]
    assert len(set(found)) == 2 + len(third)


def birds_on(places: int, *, bird: int) -> Tensor:
    """A bird of a class (1 or 2 of the painted ones) that fills a sixth of an image of ground."""
    label = torch.full((24, 24), 0 if places == 0 else 3, dtype=torch.uint8)
    label[8:16, 8:20] = bird
    return painted(label)


@pytest.mark.parametrize("name", ROBUSTNESS_PROTOCOLS)
def test_map_protocols_name_a_bird_on_any_ground_and_pooled_ones_do_not(name: str) -> None:
    protocol = build_protocol(name, ROBUSTNESS_PROTOCOLS, input_size=24, third_class=(NAMES[0],))
    model = PaintedModel(labels=Words(NAMES[:3], prompts=tuple((one,) for one in NAMES[:3])))
    classes = with_third(BIRDS, protocol.third_class)
    prompts = class_embeddings(model, classes, protocol=protocol.prompting())
    found = reduced_labels(model, [birds_on(0, bird=bird) for bird in (1, 2)], prompts=prompts, protocol=protocol)
    on_map = protocol.reduction in ("majority", "max_logit")
    assert found.label.tolist() == ([0, 1] if on_map else [2, 2])  # the pooled vector and the mean see mostly ground
    assert [tuple(one.shape) for one in found.maps] == [(6, 6)] * 2
    assert found.maps[0].unique().tolist() == [0, 2]


@pytest.mark.parametrize("name", ROBUSTNESS_PROTOCOLS)
def test_nan_embeddings_are_refused_and_not_counted_as_the_first_class(name: str) -> None:
    class Diverged(PaintedModel):
        def embed_image(self, images: Tensor) -> Tensor:
            return super().embed_image(images) * torch.nan

        def embed_patches(self, images: Tensor, **_: str) -> Tensor:
            return super().embed_patches(images) * (1 if protocol.reduction == "pooled" else torch.nan)

    protocol = build_protocol(name, ROBUSTNESS_PROTOCOLS, input_size=24)
    prompts = class_embeddings(PaintedModel(), with_third(BIRDS, ()), protocol=protocol.prompting())
    with pytest.raises(ValueError, match="contain NaN or infinity, so no image has a nearest class"):
        reduced_labels(Diverged(), [birds_on(0, bird=1)], prompts=prompts, protocol=protocol)


def test_labelling_by_maps_records_no_gradient() -> None:
    class Watched(PaintedModel):
        def embed_patches(self, images: Tensor, **_: str) -> Tensor:
            assert not torch.is_grad_enabled()
            return super().embed_patches(images)

    protocol = build_protocol("map_majority", ROBUSTNESS_PROTOCOLS, input_size=24)
    prompts = class_embeddings(PaintedModel(), with_third(BIRDS, ()), protocol=protocol.prompting())
    reduced_labels(Watched(), [birds_on(0, bird=1)], prompts=prompts, protocol=protocol)


def test_the_third_class_comes_last_and_is_optional() -> None:
    three, two = with_third(BIRDS, ("background", "water")), with_third(BIRDS, ())
    assert three.names == (*BIRDS.names, "background or water")
    assert three.prompts[2] == ("background", "water")
    assert two.names == BIRDS.names
    assert two.prompts == BIRDS.prompts


def test_labels_do_not_depend_on_batching() -> None:
    protocol = build_protocol("map_majority", ROBUSTNESS_PROTOCOLS, input_size=16, resize="short_side", multiple=4)
    prompts = class_embeddings(PaintedModel(), with_third(LABELS, ()), protocol=protocol.prompting())
    protocol = dataclasses.replace(protocol, third_class=())
    images = [painted(blocky_label(rows, columns, block=4, seed=rows)) for rows, columns in ((4, 6), (6, 4), (4, 6))]
    together = reduced_labels(PaintedModel(), images, prompts=prompts, protocol=protocol)
    for image, label, found in zip(images, together.label, together.maps, strict=True):
        alone = reduced_labels(PaintedModel(), [image], prompts=prompts, protocol=protocol)
        assert alone.label[0] == label
        assert torch.equal(alone.maps[0], found)


@pytest.mark.parametrize(
    "table", [CLASSIFICATION_PROTOCOLS, ROBUSTNESS_PROTOCOLS, MATCHING_PROTOCOLS], ids=["classes", "birds", "clusters"]
)
def test_every_row_has_its_own_name_and_digest(table: dict[str, RobustnessProtocol]) -> None:
    assert [protocol.name for protocol in table.values()] == list(table)
    assert len({protocol.digest() for protocol in table.values()}) == len(table)


@pytest.mark.parametrize(
    ("table", "name", "changes", "message"),
    [
        (CLASSIFICATION_PROTOCOLS, "openai80", {}, "unknown protocol 'openai80'. did you mean 'openai_80'"),
        (CLASSIFICATION_PROTOCOLS, "openai_80", {"templates": ()}, "no templates"),
        (CLASSIFICATION_PROTOCOLS, "openai_80", {"templates": ("a photo",)}, "no {} where the class name goes"),
        (CLASSIFICATION_PROTOCOLS, "openai_80", {"ensembling": "mean"}, "ensembling is 'mean', known: normalised_mean, raw_mean"),
        (ROBUSTNESS_PROTOCOLS, "pooled", {"reduction": "vote"}, "reduction is 'vote', known: majority, max_logit, mean_logit, pooled"),
        (MATCHING_PROTOCOLS, "clusters_square", {"clusters": 1}, "clusters is 1, choose 2 to 254"),
        (MATCHING_PROTOCOLS, "clusters_square", {"fit_images": 0}, "fit_images is 0"),
        (MATCHING_PROTOCOLS, "clusters_square", {"seed": -1}, "seed is -1"),
    ],
)
def test_an_impossible_protocol_is_refused_with_an_explanation(table, name, changes, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        build_protocol(name, table, **changes)
