"""The rule by which words of captions are nouns, and the nouns of a caption."""

import pytest
import torch

from gestalt.losses import noun_list
from gestalt.losses.noun_list import (
    NounList,
    check_same_on_ranks,
    frequent_nouns,
    may_be_noun,
    similar_nouns,
    singular,
)


def test_names_of_things_may_be_nouns_and_other_words_may_not():
    things = ["dog", "butterfly", "building", "sky", "bed", "t-shirt", "woman", "sheep", "glass"]
    others = [
        "a",
        "the",
        "two",
        "red",
        "running",
        "jumped",
        "carries",
        "stopped",
        "quickly",
        "photo",
        "background",
    ]
    assert [word for word in (*things, *others) if may_be_noun(word)] == things


@pytest.mark.parametrize(
    ("plural", "expected"),
    [
        ("dogs", "dog"),
        ("buses", "bus"),
        ("butterflies", "butterfly"),
        ("men", "man"),
        ("firemen", "fireman"),
        ("children", "child"),
        ("planes", "plane"),
    ],
)
def test_a_plural_counts_as_its_singular(plural, expected):
    assert (
        singular(plural, known={"dog", "bus", "butterfly", "fireman", "plane", "plan"}) == expected
    )


@pytest.mark.parametrize(
    ("word", "known"),
    [("grass", {"gras"}), ("trees", {"dog"}), ("capes", {"cap"}), ("canes", {"can"})],
)
def test_a_word_without_a_known_singular_stays(word, known):
    assert singular(word, known=known) == word


def test_nouns_are_those_of_enough_pairs_the_most_frequent_first():
    captions = [
        ["a dog", "two dogs run"],
        ["the dog and a cat"],
        ["cats"],
        ["a dog on grass"],
        ["a single zebra"],
        [],
    ]
    assert frequent_nouns(captions, most=10, least_share=2 / 6).nouns == ("cat", "dog")
    assert frequent_nouns(captions, most=1, least_share=0.01).nouns == ("dog",)
    assert frequent_nouns(captions, most=10, least_share=0.01).nouns == (
        "cat",
        "dog",
        "grass",
        "zebra",
    )


def test_a_caption_names_nouns_in_singular_and_plural_however_many():
    words = [f"{letter}ox" for letter in "bcdfghlmnpr"]
    nouns = NounList(sorted(["ball", "bus", "dog", *words]))
    rows = nouns.mark(["Two dogs, a ball and the dog", "", "buses", " ".join(words)])
    assert [[nouns.nouns[index] for index in row.nonzero().flatten().tolist()] for row in rows] == [
        ["ball", "dog"],
        [],
        ["bus"],
        words,
    ]


def test_nouns_are_alike_by_their_cosine_and_each_is_alike_itself():
    # cosine of the first two: 0.6
    vectors = torch.tensor([[2.0, 0.0], [3.0, 4.0], [0.0, 0.0], [-1.0, 0.0]])
    near = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.bool)
    assert torch.equal(similar_nouns(vectors, level=0.59), near)
    assert torch.equal(similar_nouns(vectors, level=0.61), torch.eye(4, dtype=torch.bool))


def test_ranks_that_find_different_nouns_alike_are_refused(monkeypatch):
    similar, digests = torch.eye(2, dtype=torch.bool), []
    monkeypatch.setattr(
        "gestalt.losses.noun_list.objects_of_ranks", lambda own: digests.append(own) or digests
    )
    check_same_on_ranks(NounList(["cat", "dog"], similar=~similar))
    with pytest.raises(ValueError, match=r"loss\.terms\.nouns: the ranks find .*by a little"):
        check_same_on_ranks(NounList(["cat", "dog"], similar=similar))
    with pytest.raises(ValueError, match="the ranks read different captions"):
        check_same_on_ranks(NounList(["cat", "fox"], similar=~similar))


def test_the_names_of_the_plugin_example_of_earlier_versions_work(monkeypatch):
    assert (noun_list.IRREGULAR["mice"], noun_list.LETTERS) == ("mouse", "[a-z]+(?:-[a-z]+)*")
    seen = []
    monkeypatch.setattr(
        noun_list, "check_same_on_ranks", lambda nouns, *, term: seen.append((nouns.nouns, term))
    )
    with pytest.warns(DeprecationWarning, match="call check_same_on_ranks"):
        same = noun_list.SameOnRanks(NounList(["cat"]), term="mine")
    for _ in range(2):
        same.check(torch.device("cpu"))
    assert seen == [(["cat"], "mine")]
