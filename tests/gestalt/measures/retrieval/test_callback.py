"""Recall against sorted lists, and its chance against all rankings."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gestalt.measures.retrieval.callback import QUERIES_AT_ONCE, RetrievalRecall, chance

CAPTIONS = [
    ["a dog", "a cat", "dogs"],
    ["a car"],
    ["a cat", "tea"],
    ["a bus", "a red bus"],
    [],
    ["rain"],
    ["a car", "sun", "fog", "ice"],
]


def embedded(index: int) -> tuple[Tensor, Tensor]:
    """An image's embedding (1, 4) and its captions' (n, 4); equal words are embedded equally."""
    vectors = [
        torch.from_numpy(np.random.default_rng([3, *text.encode()]).normal(size=4))
        for text in CAPTIONS[index]
    ]
    text = torch.stack(vectors) if vectors else torch.zeros(0, 4, dtype=torch.float64)
    noise = torch.from_numpy(np.random.default_rng([4, index]).normal(size=(1, 4)))
    image = noise + text.sum(dim=0, keepdim=True)
    return functional.normalize(image, dim=-1).float(), functional.normalize(text, dim=-1).float()


def retrieval_of(indices: list[int]) -> RetrievalRecall:
    """The metric over some images."""
    metric = RetrievalRecall()
    for index in indices:
        image, text = embedded(max(index, 0))
        metric.update(
            image, text, sample_id=torch.tensor([index]), captions=[CAPTIONS[max(index, 0)]]
        )
    return metric


def loop_hits(k: int) -> tuple[dict[int, bool], list[tuple[int, bool]]]:
    """By sorting: whether each image that has captions finds one, and of each caption its image and
    whether it is found.
    """
    captions = [(index, text) for index, texts in enumerate(CAPTIONS) for text in texts]
    images = torch.cat([embedded(index)[0] for index in range(len(CAPTIONS))])
    similarity = images @ torch.cat([embedded(index)[1] for index in range(len(CAPTIONS))]).T
    found = {
        row: any(
            captions[place][1] in CAPTIONS[row]
            for place in similarity[row].argsort(descending=True)[:k]
        )
        for row in range(len(CAPTIONS))
        if CAPTIONS[row]
    }
    back = [
        (
            captions[column][0],
            any(
                captions[column][1] in CAPTIONS[place]
                for place in similarity[:, column].argsort(descending=True)[:k]
            ),
        )
        for column in range(len(captions))
    ]
    return found, back


@pytest.mark.parametrize("k", [1, 5])
def test_recall_equals_a_sorted_list_in_which_equal_captions_count(k):
    score = retrieval_of([5, 0, 3, 1, 2, 6, 4]).compute()
    recalls, hits, (found, back) = score.recalls, score.image_hits, loop_hits(k)
    assert hits[f"image_to_text_recall_at_{k}"].tolist() == [
        [found.get(row, False), bool(texts)] for row, texts in enumerate(CAPTIONS)
    ]
    own = [[hit for index, hit in back if index == row] for row in range(len(CAPTIONS))]
    assert hits[f"text_to_image_recall_at_{k}"].tolist() == [[sum(each), len(each)] for each in own]
    image_to_text = sum(found.values()) / len(found)
    text_to_image = sum(hit for _, hit in back) / len(back)
    assert 0 < text_to_image < 1 or k == 5
    assert recalls[f"image_to_text_recall_at_{k}"] == image_to_text
    assert recalls[f"text_to_image_recall_at_{k}"] == text_to_image
    assert recalls[f"recall_at_{k}"] == (image_to_text + text_to_image) / 2


@pytest.mark.parametrize("k", [1, 2, 3, 9])
def test_chance_is_the_mean_recall_of_all_rankings(k):
    partners, candidates = [1, 3, 4], 4
    hits = [
        any(place < of for place in ranking[:k])
        for of in partners
        for ranking in permutations(range(candidates))
    ]
    assert chance(np.array(partners), candidates, k) == pytest.approx(np.mean(hits))


def test_each_direction_has_the_chance_of_its_candidates_and_its_queries():
    found = retrieval_of([5, 0, 3, 1, 2, 6, 4]).compute().chance
    words = [text for texts in CAPTIONS for text in texts]
    asked = [sum(word in texts for word in words) for texts in CAPTIONS if texts]
    back = [sum(word in texts for texts in CAPTIONS) for word in words]
    to_text, to_image = np.mean(asked) / len(words), np.mean(back) / len(CAPTIONS)
    assert found["image_to_text_recall_at_1_chance"] == pytest.approx(to_text)
    assert found["text_to_image_recall_at_1_chance"] == pytest.approx(to_image)
    assert found["recall_at_1_chance"] == pytest.approx((to_text + to_image) / 2)
    assert to_text != to_image


@pytest.mark.parametrize("seed", [None, *range(4)])
def test_equal_embeddings_and_nan_find_nothing_also_in_a_block_of_one_query(seed):
    count = 2 * QUERIES_AT_ONCE + 1
    vectors = torch.full((2, 6), math.nan)
    if seed is not None:
        vectors = torch.randn(2, 6, generator=torch.Generator().manual_seed(seed))
    image, text = (row.expand(count, -1) for row in functional.normalize(vectors, dim=1))
    metric = RetrievalRecall()
    captions = [[f"caption {index}"] for index in range(count)]
    metric.update(image, text, sample_id=torch.arange(count), captions=captions)
    score = metric.compute()
    assert set(score.recalls.values()) == {0.0}
    assert not any(counts[:, 0].any() for counts in score.image_hits.values())
