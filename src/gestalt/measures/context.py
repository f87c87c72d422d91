"""The argument of a measure's ``build``: a configuration, a benchmark and its image set."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from gestalt.config.schema import Experiment
from gestalt.evaluation.benchmarks import Benchmark
from gestalt.evaluation.dense.offsets import Unlabelled
from gestalt.evaluation.dense.windows import PatchCache
from gestalt.evaluation.measures import MEASURES
from gestalt.evaluation.prompts import Labels
from gestalt.evaluation.protocols import ImageProtocol, build_protocol
from gestalt.measures.options import Options

Kind = TypeVar("Kind", bound=ImageProtocol)


class ImageSet(Protocol):
    """The part of an image set that measures read; the attributes are those of the data module's image sets."""

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def label_sets(self) -> Mapping[str, Labels]: ...  # noqa: D102

    @property
    def official_length(self) -> int | None: ...  # noqa: D102

    @property
    def no_instances(self) -> str | None: ...  # noqa: D102

    def __len__(self) -> int:
        """Return the number of images."""

    def sample(self, index: int) -> Mapping[str, object]:
        """Return one image with its truth."""


@dataclass(frozen=True)
class Context:
    """The configuration, benchmark and image set that a measure is built from.

    Attributes:
        config: configuration of the run or the evaluation.
        benchmark: the one to score.
        image_set: opened, with the benchmark's label set.
        cache: the features of the image set's last batch, shared by the benchmarks that score it.
        open_unlabelled: opens images without labels, for a protocol that asks for some; None where there are none.
    """

    config: Experiment
    benchmark: Benchmark
    image_set: ImageSet
    cache: PatchCache = field(default_factory=PatchCache)
    open_unlabelled: Callable[[], Unlabelled] | None = None

    @property
    def labels(self) -> Labels:
        """The benchmark's classes."""
        assert self.benchmark.label_set is not None, f"benchmark {self.benchmark.name} names no label set"
        return self.image_set.label_sets[self.benchmark.label_set]

    @property
    def options(self) -> Options:
        """The arguments that every scorer takes."""
        names = getattr(self.image_set, "names", None)
        return {
            "image_set": self.image_set.name,
            "label_set": self.benchmark.label_set,
            "length": len(self.image_set),
            "official": self.image_set.official_length,
            "image_names": None if names is None else hashlib.sha256("\n".join(names).encode(errors="surrogateescape")).hexdigest()[:16],
            "pictures": self.config.evaluation.pictures,
            "prompt_cache": self.config.evaluation.prompt_cache,
        }

    def chosen(self, measure: str) -> str | None:
        """Return the protocol that the config names for a measure; None if it names none."""
        key = MEASURES[measure].key
        chosen: str | None = None if key is None else getattr(self.config.evaluation, key)
        return chosen

    def protocol(self, measure: str, table: Mapping[str, Kind]) -> Kind:
        """Return the benchmark's protocol, a row of the measure's table, at the configured size."""
        name = self.benchmark.protocol_name(measure, chosen=self.chosen(measure))
        return build_protocol(name, table, input_size=self.config.image.eval_size)
