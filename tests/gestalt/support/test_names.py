"""Suggestions for misspelt names."""

from gestalt.support.names import few, nearest


def test_without_a_near_name_only_the_choices_are_listed():
    assert nearest("zzz", ["max", "avg"]) == "choose one of max, avg"


def test_of_many_names_the_ten_nearest_are_listed():
    assert few("b", ["a", "bb"]) == "bb, a"
    listed = few("x12", [f"x{number}" for number in range(20)])
    assert listed.startswith("x12, ")
    assert listed.endswith(", ...")
    assert listed.count(", ") == 10
