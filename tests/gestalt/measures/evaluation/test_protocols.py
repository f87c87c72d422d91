"""Every measure's protocols: named as their row, told apart by their digests, and refused when they
contradict themselves.
"""

import dataclasses
from typing import Any, get_args, get_type_hints

import pytest

from gestalt.measures.evaluation.measures import MEASURES
from gestalt.measures.evaluation.protocols import ImageProtocol, build_protocol

TABLES = {name: row.protocols for name, row in MEASURES.items() if name != "segmentation"}
OTHERS = {"groups": 4, "clusters": 5, "long_limit": 2048, "name": "another"}


def changed(protocol: ImageProtocol, field: str) -> ImageProtocol:
    """The protocol with another value of a field."""
    value = getattr(protocol, field)
    if field in OTHERS:
        return dataclasses.replace(protocol, **{field: OTHERS[field]})
    if isinstance(value, str):
        hints = get_type_hints(type(protocol))
        return dataclasses.replace(
            protocol, **{field: next(word for word in get_args(hints[field]) if word != value)}
        )
    other: Any = (
        (*value, "another {}")
        if isinstance(value, tuple)
        else not value
        if isinstance(value, bool)
        else value * 2 or 1
    )
    return dataclasses.replace(protocol, **{field: other})


@pytest.mark.parametrize("measure", TABLES)
def test_rows_have_their_own_names_and_every_field_is_part_of_the_digest(measure):
    table = TABLES[measure]
    assert [protocol.name for protocol in table.values()] == list(table)
    assert len({protocol.digest() for protocol in table.values()}) == len(table)
    protocol = next(iter(table.values()))
    names = {field.name for field in dataclasses.fields(protocol)}
    # another method needs other fields; of the others one value is known
    fields = names - {"method", "sign", "normalise", "centre"}
    digests = {changed(protocol, field).digest() for field in fields}
    assert len(digests | {protocol.digest()}) == len(fields) + 1


@pytest.mark.parametrize(
    ("measure", "name", "changes", "message"),
    [
        ("classification", "openai80", {}, "unknown protocol 'openai80'. did you mean 'openai_80'"),
        ("classification", "openai_80", {"templates": ()}, "no templates"),
        (
            "robustness",
            "pooled",
            {"reduction": "vote"},
            "reduction is 'vote', known: majority, max_logit, mean_logit, pooled",
        ),
        ("matching", "clusters_square", {"clusters": 1}, "clusters is 1, choose 2 to 254"),
        (
            "grouping",
            "pca_square",
            {"groups": 0},
            "groups is 0, choose a whole number from 1 to 254",
        ),
        (
            "grouping",
            "pca_square",
            {"method": "attention"},
            "groups is 8, method attention has as many as heads; choose None",
        ),
    ],
)
def test_an_impossible_protocol_is_refused_with_an_explanation(measure, name, changes, message):
    with pytest.raises(ValueError, match=message):
        build_protocol(name, TABLES[measure], **changes)
