"""Every protocol that is not top-down equals a slow reference on random features and images of odd
sizes.
"""

from typing import Any

import numpy as np
import pytest
import torch
from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn import functional

from gestalt.measures.classification.callback import by_class
from gestalt.measures.classification.protocol import PROTOCOLS as CLASSIFICATION_PROTOCOLS
from gestalt.measures.evaluation.images import embed_images, resize
from gestalt.measures.evaluation.measures import MEASURES
from gestalt.measures.evaluation.prompts import class_embeddings
from gestalt.measures.evaluation.protocols import build_protocol
from gestalt.measures.grouping.engine import bottom_up
from gestalt.measures.grouping.protocol import PROTOCOLS as GROUPING_PROTOCOLS
from gestalt.measures.matching.callback import cluster, fit_centres
from gestalt.measures.matching.protocol import PROTOCOLS as MATCHING_PROTOCOLS
from gestalt.measures.robustness.protocol import PROTOCOLS as ROBUSTNESS_PROTOCOLS
from gestalt.measures.robustness.rules import reduced_labels, with_third
from tests.gestalt.measures.segmentation.reference import stretch
from tests.gestalt.measures.segmentation.reference_whole import Whole, prompt
from tests.gestalt.measures.segmentation.test_parity import RandomModel, assert_equal_but_ties
from tests.gestalt.measures.segmentation.test_parity_whole import assert_seen, patches
from tests.gestalt.painted import Words

SIZES = [(61, 40), (251, 333), (333, 251)]
GROUPING = {
    f"{method}_{shape}": (method, Whole(side, how))
    for method in ("pca", "kmeans", "spectral", "attention")
    for shape, side, how in (("square", 224, "square"), ("short_side", 448, "multiple"))
}
MATCHING = {"clusters_square": Whole(224, "square"), "clusters_short_side": Whole(320, "multiple")}
CLASSIFICATION = {"openai_80": Whole(224, "crop"), "one_prompt": Whole(224, "square")}
ROBUSTNESS = {
    "map_majority": ("majority", ("background",)),
    "map_max_logit": ("max_logit", ("background",)),
    "map_mean_logit": ("mean_logit", ("background",)),
    "scenes_majority": ("majority", ("grass", "water")),
    "pooled": ("pooled", ("background",)),
}
BIRDS = Words(("landbird", "waterbird"), prompts=(("landbird",), ("waterbird",)))
THINGS = Words(
    ("apple", "clock", "unicorn"), prompts=(("apple",), ("hour hand", "clock"), ("unicorn",))
)


def test_every_registered_protocol_of_another_kind_has_a_reference():
    known = {
        "grouping": GROUPING,
        "matching": MATCHING,
        "classification": CLASSIFICATION,
        "robustness": ROBUSTNESS,
    }
    assert {name: set(rows) for name, rows in known.items()} == {
        name: set(MEASURES[name].protocols) for name in known
    }
    assert set(MEASURES) == {*known, "segmentation", "retrieval"}


class Tower(RandomModel):
    """Random features, a pooled vector and three heads of attention."""

    def __init__(self) -> None:
        super().__init__(width=12)

    def embed_image(self, images: Tensor) -> Tensor:
        return functional.normalize(self.embed_patches(images).mean(dim=(2, 3)) + 0.2, dim=1)

    def patch_tokens(self, images: Tensor, *, projected: bool) -> Tensor:
        assert not projected
        return 3 * self.embed_patches(images) + 0.5

    def class_attention(self, images: Tensor) -> Tensor:
        return self.embed_patches(images)[:, :3].abs()


def canvas_of(image: Tensor, protocol: Any, rules: Whole) -> Tensor:
    """The tower's input equals the slow resize."""
    canvas = resize(image, protocol=protocol)
    assert_seen(canvas, image, rules)
    return canvas


def tokens_of(canvas: Tensor) -> tuple[np.ndarray, tuple[int, int]]:
    """(N, D) of length one, and their grid."""
    found = Tower().patch_tokens(canvas[None], projected=False)[0].numpy().astype(np.float64)
    rows = found.reshape(len(found), -1).T
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), found.shape[1:]


def nearness_to_means(rows: np.ndarray, fitted: np.ndarray, *, clusters: int) -> np.ndarray:
    """Minus the squared distances of rows to the centres that k-means finds among the fitted ones,
    a row at a time.
    """
    centres = (
        KMeans(n_clusters=clusters, n_init=4, random_state=0, algorithm="lloyd")
        .fit(fitted)
        .cluster_centers_
    )
    return np.array([[-((row - centre) ** 2).sum() for row in rows] for centre in centres])


def components(rows: np.ndarray) -> np.ndarray:
    """Cosines with the top eight principal components by singular values; positive is each one's
    largest score.
    """
    rows = rows - rows.mean(axis=0)
    found = []
    for direction in np.linalg.svd(rows, full_matrices=False)[2][:8]:
        scores = rows @ direction
        found.append(
            scores * np.sign(scores[np.abs(scores).argmax()]) / np.linalg.norm(rows, axis=1)
        )
    return np.array(found)


def walk_coordinates(rows: np.ndarray) -> np.ndarray:
    """Ng, Jordan and Weiss: eigenvectors of D^-1/2 A D^-1/2, each row of length one; the affinity
    is the cosine, 0 where negative.
    """
    rows = rows - rows.mean(axis=0)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    affinity = np.maximum(rows @ rows.T, 0)
    np.fill_diagonal(affinity, 1)
    degree = affinity.sum(axis=1)
    vectors = np.linalg.eigh(affinity / np.sqrt(np.outer(degree, degree)))[1][:, -8:]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def heaviest(attention: np.ndarray, mass: float) -> np.ndarray:
    """Of each head, the largest cells one after another until they hold the mass."""
    masks = np.zeros(attention.shape, dtype=bool)
    for head, values in enumerate(attention):
        held = 0.0
        for cell in np.argsort(-values, axis=None, kind="stable"):
            if held >= mass * values.sum():
                break
            masks[head].flat[cell] = True
            held += values.flat[cell]
    return masks


def assert_decided(found: np.ndarray, maps: np.ndarray, size: tuple[int, int]) -> None:
    """The largest of up-sampled maps, ties left out."""
    wide = stretch(maps, size)
    ordered = np.sort(wide, axis=0)
    assert_equal_but_ties(found, wide.argmax(axis=0), ordered[-1] - ordered[-2])
    assert len(np.unique(found)) > 2


@pytest.mark.parametrize("size", SIZES[:2], ids=str)
@pytest.mark.parametrize("name", GROUPING)
def test_groups_match_the_slow_reference(name, size):
    method, rules = GROUPING[name]
    image, protocol = patches(*size, seed=3), build_protocol(name, GROUPING_PROTOCOLS)
    canvas = canvas_of(image, protocol, rules)
    found = bottom_up(Tower(), [image], protocol=protocol)[0].groups.numpy()
    if method == "attention":
        masks = heaviest(Tower().class_attention(canvas[None])[0].numpy().astype(np.float64), 0.6)
        assert (found == stretch(masks.astype(np.float64), size, "nearest").astype(bool)).all()
        return
    rows, grid = tokens_of(canvas)
    coordinates = walk_coordinates(rows) if method == "spectral" else rows
    maps = (
        components(rows)
        if method == "pca"
        else nearness_to_means(coordinates, coordinates, clusters=8)
    )
    assert_decided(found, maps.reshape(-1, *grid), size)


class Images:
    """Four images of odd sizes."""

    def __len__(self) -> int:
        return 4

    def sample(self, index: int) -> dict[str, Any]:
        return {"image": patches(*SIZES[index % 3], seed=20 + index)}


@pytest.mark.parametrize("name", MATCHING)
def test_clusters_of_a_set_match_the_slow_reference(name):
    protocol, images = (
        build_protocol(name, MATCHING_PROTOCOLS),
        [Images().sample(index)["image"] for index in range(4)],
    )
    centres = fit_centres(
        Tower(),
        Images(),
        clusters=5,
        protocol=protocol,
        device=torch.device("cpu"),
    )
    seen = [tokens_of(canvas_of(image, protocol, MATCHING[name])) for image in images]
    drawn = [
        rows[np.sort(np.random.default_rng([0, index]).permutation(len(rows))[:49])]
        for index, (rows, _) in enumerate(seen)
    ]
    sizes = [(image.shape[1], image.shape[2]) for image in images]
    found = cluster(Tower(), images, centres=centres, protocol=protocol, sizes=sizes)
    for one, (rows, grid), size in zip(found, seen, sizes, strict=True):
        maps = nearness_to_means(rows, np.concatenate(drawn), clusters=5)
        assert_decided(one.groups.numpy(), maps.reshape(-1, *grid), size)


def slow_text(texts: list[str]) -> np.ndarray:
    """Each to length one, their mean, to length one."""
    each = Tower().embed_text(texts, normalise=False).numpy().astype(np.float64)
    mean = (each / np.linalg.norm(each, axis=1, keepdims=True)).mean(axis=0)
    return mean / np.linalg.norm(mean)


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_class_logits_of_images_match_the_slow_reference(name):
    rules, protocol = CLASSIFICATION[name], build_protocol(name, CLASSIFICATION_PROTOCOLS)
    images = [patches(*size, seed=30) for size in SIZES]
    prompts = class_embeddings(Tower(), THINGS, protocol=protocol)
    found = by_class(embed_images(Tower(), images, protocol) @ prompts.vectors.T, prompts).numpy()
    for row, image in zip(found, images, strict=True):
        vector = (
            Tower()
            .embed_image(canvas_of(image, protocol, rules)[None])[0]
            .numpy()
            .astype(np.float64)
        )
        for logit, phrases in zip(row, THINGS.prompts, strict=True):
            texts = [
                [one(phrase) for one in OPENAI_IMAGENET_TEMPLATES]
                if name == "openai_80"
                else [prompt(phrase, rules)]
                for phrase in phrases
            ]
            assert logit == pytest.approx(max(slow_text(each) @ vector for each in texts), abs=1e-6)


def slow_name(logits: np.ndarray, reduction: str) -> int:
    """Patches (N, 3) to a label, the third being no bird."""
    nearest = logits.argmax(axis=1)
    if reduction == "mean_logit":
        return int(logits.mean(axis=0).argmax())
    if not (nearest < 2).any():
        return 2
    if reduction == "majority":
        return int(np.argmax([(nearest == bird).sum() for bird in (0, 1)]))
    return int(nearest[np.where(nearest < 2, logits.max(axis=1), -np.inf).argmax()])


@pytest.mark.parametrize("name", ROBUSTNESS)
def test_bird_labels_match_the_slow_reference(name):
    (reduction, third), rules = ROBUSTNESS[name], Whole(448, "square")
    protocol = build_protocol(name, ROBUSTNESS_PROTOCOLS)
    images = [patches(*size, seed=seed) for size in SIZES for seed in (40, 41, 42)]
    canvas_of(images[0], protocol, rules)
    prompts = class_embeddings(Tower(), with_third(BIRDS, protocol.third_class), protocol=protocol)
    labels = reduced_labels(Tower(), images, prompts=prompts, protocol=protocol)
    text = [
        [slow_text([prompt(phrase, rules)]) for phrase in phrases]
        for phrases in (*BIRDS.prompts, third)
    ]
    wanted = []
    for image in images:
        canvas = resize(image, protocol=protocol)[None]
        features = Tower().embed_patches(canvas)[0].numpy().astype(np.float64).reshape(12, -1)
        logits = np.stack(
            [np.max([vector @ features for vector in phrases], axis=0) for phrases in text], axis=1
        )
        pooled = Tower().embed_image(canvas)[0].numpy().astype(np.float64)
        by_pool = int(np.argmax([max(vector @ pooled for vector in phrases) for phrases in text]))
        wanted.append(by_pool if reduction == "pooled" else slow_name(logits, reduction))
    assert labels.tolist() == wanted
    assert len(set(wanted)) > 1
