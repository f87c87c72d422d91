"""Suggestions for misspelt names."""

from gestalt.support.names import nearest


def test_the_nearest_name_is_suggested_before_the_choices():
    assert nearest("macs", ["max", "avg"]) == "did you mean 'max'? choose one of max, avg"


def test_without_a_near_name_only_the_choices_are_listed():
    assert nearest("zzz", ["max", "avg"]) == "choose one of max, avg"
