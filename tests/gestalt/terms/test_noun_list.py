"""The rule by which words of captions are nouns, and the nouns of a caption."""

import pytest

from gestalt.terms.noun_list import MOST_OF_A_CAPTION, NONE, NounList, frequent_nouns
from gestalt.terms.words import may_be_noun, singular


@pytest.mark.parametrize("word", ["dog", "butterfly", "building", "sky", "bed", "t-shirt", "woman", "sheep", "glass"])
def test_names_of_things_may_be_nouns(word: str) -> None:
    assert may_be_noun(word)


@pytest.mark.parametrize("word", ["a", "the", "two", "red", "running", "jumped", "carries", "stopped", "quickly", "photo", "background"])
def test_other_words_may_not(word: str) -> None:
    assert not may_be_noun(word)


@pytest.mark.parametrize(
    ("plural", "expected"),
    [("dogs", "dog"), ("buses", "bus"), ("butterflies", "butterfly"), ("men", "man"), ("firemen", "fireman"), ("children", "child")],
)
def test_a_plural_counts_as_its_singular(plural: str, expected: str) -> None:
    assert singular(plural, known={"dog", "bus", "butterfly", "fireman"}) == expected


@pytest.mark.parametrize("word", ["grass", "trees", "bus"])
def test_a_word_without_a_known_singular_stays(word: str) -> None:
    assert singular(word, known={"gras", "bu"} - ({"bu"} if word == "bus" else set())) == word


def test_nouns_are_those_of_enough_pairs_the_most_frequent_first() -> None:
    captions = [["a dog", "two dogs run"], ["the dog and a cat"], ["cats"], ["a dog on grass"], ["a single zebra"], []]
    assert frequent_nouns(captions, most=10, least_share=2 / 6).nouns == ("cat", "dog")
    assert frequent_nouns(captions, most=1, least_share=0.01).nouns == ("dog",)
    assert frequent_nouns(captions, most=10, least_share=0.01).nouns == ("cat", "dog", "grass", "zebra")


def test_the_order_of_pairs_changes_no_noun() -> None:
    captions = [["a dog"], ["a cat"], ["a horse"]]
    assert frequent_nouns(captions, most=2, least_share=0.1).nouns == frequent_nouns(captions[::-1], most=2, least_share=0.1).nouns


def test_the_nouns_of_a_caption_are_named_once_and_in_order() -> None:
    nouns = NounList(["ball", "bus", "dog"])
    rows = nouns.named(["Two dogs, a ball and the dog", "", "buses"])
    assert rows.shape == (3, MOST_OF_A_CAPTION)
    assert rows[:, :3].tolist() == [[2, 0, NONE], [NONE, NONE, NONE], [1, NONE, NONE]]
    assert bool((rows[:, 3:] == NONE).all())


def test_of_a_caption_of_many_nouns_the_first_are_read() -> None:
    words = [f"{letter}ox" for letter in "bcdfghlmnpr"]
    assert NounList(sorted(words)).named([" ".join(words)]).tolist() == [list(range(MOST_OF_A_CAPTION))]
