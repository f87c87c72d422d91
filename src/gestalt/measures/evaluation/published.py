"""Published numbers: which model, benchmark and protocol give them, and who printed
them.  ``published.json`` has the facts.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gestalt.measures.evaluation.benchmarks import BENCHMARKS
from gestalt.measures.evaluation.measures import MEASURES
from gestalt.support.names import suggestion


@dataclass(frozen=True)
class Published:
    """A published number.

    Attributes:
        name: method and data set, such as ``sclip/voc21``.
        model: a name as ``gestalt eval`` takes it.
        benchmark: the benchmark that it was measured on.
        protocol: the protocol that it was measured by.
        settings: further ``key=value`` words.
        value: the number, in percent.
        tolerance: percentage points within which a result is called equal.
        source: where the number is printed.
        stated_by: "authors" or "third party".
        metric: the benchmark's metric that it is a value of.
    """

    name: str
    model: str
    benchmark: str
    protocol: str
    settings: Sequence[str]
    value: float
    tolerance: float
    source: str
    stated_by: str
    metric: str = "miou"

    def overrides(self) -> list[str]:
        """Return the ``key=value`` words that score it; the protocol is of the benchmark's first
        measure.
        """
        measure = MEASURES[BENCHMARKS[self.benchmark].measures[0]]
        return [
            f"evaluation.benchmarks=[{self.benchmark}]",
            f"evaluation.{measure.key}={self.protocol}",
            *self.settings,
        ]

    def check(self, words: Sequence[str]) -> None:
        """Check that ``key=value`` words set no key that the number was measured by.

        Raises:
            ValueError: names the word and the key's value.
        """
        stated = {word.partition("=")[0]: word for word in self.overrides()}
        for word in words:
            measured = stated.get(word.partition("=")[0])
            if measured is not None:
                raise ValueError(
                    f"reproduce {self.name}: {word}: the published number was measured by "
                    f"{measured}; leave it out, or score the model with gestalt eval"
                )


@cache
def published() -> dict[str, Published]:
    """Read all published numbers, by name."""
    table = json.loads(Path(__file__).with_name("published.json").read_bytes())
    return {
        f"{method}/{set_name}": Published(
            name=f"{method}/{set_name}",
            benchmark=table["benchmarks"][set_name],
            tolerance=table["tolerance"],
            **{**row, "value": value},
        )
        for method, row in table["methods"].items()
        for set_name, value in row["value"].items()
    }


def published_on(sets: Collection[str]) -> list[str]:
    """Return the names of the numbers that authors have published on benchmarks whose data are in
    some sets of ``gestalt data get``.
    """
    return [
        name
        for name, row in published().items()
        if row.stated_by == "authors"
        and (needed := BENCHMARKS[row.benchmark].sets)
        and set(needed) <= {*sets}
    ]


def published_of(method: str) -> dict[str, Published]:
    """Return the published numbers of a method, such as ``sclip``, by benchmark."""
    rows = published().items()
    return {row.benchmark: row for name, row in rows if name.startswith(f"{method}/")}


def published_number(name: str) -> Published:
    """Return the published number of a name.

    Raises:
        ValueError: unknown; the message names the nearest.
    """
    if name not in published():
        near = suggestion(name, list(published()), count=3)
        raise ValueError(
            f"{name}: no such published number; {near}{'; ' if near else ''}`gestalt reproduce` "
            "lists them"
        )
    return published()[name]
