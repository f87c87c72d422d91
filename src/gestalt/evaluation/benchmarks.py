"""Benchmarks: an image set, one of its label sets, the measures taken on it, and their protocols.

Benchmarks that share an image set share its images, which are loaded once.  Their rows are in
``benchmarks.yaml``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gestalt.evaluation.measures import MEASURES
from gestalt.support.plugins import Registry
from gestalt.support.table_file import table_beside


@dataclass(frozen=True)
class Benchmark:
    """One row of ``BENCHMARKS``.

    Attributes:
        name: prefix of its metrics.
        image_set: a file under ``data_modules/image_sets``.
        label_set: a label set of the image set; None for a set without any.
        measures: rows of ``MEASURES``, in the order of the record.
        protocols: protocol by measure, where it is not the measure's default; a config may name
            another.
        splits: those that can be scored; by default the image set chooses the reported one.
        layout: description of the files that must lie under ``benchmark_root``; empty for a set
            without files.
        source: the training source that reads the same files; where training reads it,
            ``data.root`` is the root.
    """

    name: str
    image_set: str
    label_set: str | None
    measures: tuple[str, ...]
    protocols: Mapping[str, str] = field(default_factory=dict)
    splits: tuple[str, ...] = ("train", "val")
    layout: str = ""
    source: str | None = None

    def protocol_name(self, measure: str, *, chosen: str | None = None) -> str:
        """Return the name of a measure's protocol: the chosen one, else this row's, else the
        measure's default.
        """
        return chosen or self.protocols.get(measure, MEASURES[measure].default)


_ROWS = tuple(Benchmark(name, **row) for name, row in table_beside(__file__)["benchmarks"].items())

BENCHMARKS = Registry("benchmarks", {row.name: row for row in _ROWS})
"""Benchmarks by name; installed packages may add some."""
