"""Ids of captions."""

from gestalt.losses.captions import text_ids


def test_ids_are_the_same_on_every_machine():
    # from coreutils: printf 'a dog' | b2sum -l 64, bytes from the least significant
    assert text_ids(["a dog", "", "été"]).tolist() == [
        -4081912340589182210,
        -5426141060434712860,
        -2873208181647912516,
    ]
