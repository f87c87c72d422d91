"""The benchmark, the image set and the keys of evaluation that a measure is built from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gestalt.data_modules.image_sets import ImageSet, LabelSet
from gestalt.data_modules.unlabelled import FolderImages, SourceImages
from gestalt.encoders.dense_model import DenseModel
from gestalt.measures.evaluation.benchmarks import Benchmark
from gestalt.measures.evaluation.measures import MEASURES
from gestalt.measures.evaluation.protocols import build_protocol
from gestalt.measures.keys import Evaluation
from gestalt.support.files import short_digest

Entry = dict[str, Any]
"""Fields of a JSON record."""


@dataclass(frozen=True)
class Context:
    """The benchmark and image set that a measure is built from, and how it is evaluated.

    Attributes:
        evaluation: of the configuration.
        benchmark: the one to score.
        image_set: opened, with the benchmark's label set.
        size: side of the model's images in pixels, for a protocol that fixes none.
        open_vision: opens a second vision model by its name, for a reading that takes one; None
            where nothing is read by a model.
        open_unlabelled: opens unlabelled images, for a protocol that asks for some; gives None
            where there are none.
    """

    evaluation: Evaluation
    benchmark: Benchmark
    image_set: ImageSet
    size: int
    open_vision: Callable[[str], DenseModel] | None = None
    open_unlabelled: Callable[[], FolderImages | SourceImages | None] = lambda: None

    @property
    def labels(self) -> LabelSet:
        """The benchmark's classes."""
        assert self.benchmark.label_set is not None, (
            f"benchmark {self.benchmark.name} names no label set"
        )
        return self.image_set.label_sets[self.benchmark.label_set]

    @property
    def facts(self) -> Entry:
        """Facts of the set for the record: its published number of images, and digests of the file
        that defines it and of the images' names in order.
        """
        facts: Entry = {"images_official": self.image_set.official_length}
        if definition := getattr(self.image_set, "definition", None):
            facts["benchmark_hash"] = definition
        if (names := getattr(self.image_set, "names", None)) is not None:
            facts["image_names"] = short_digest("\n".join(names))
        return facts

    def protocol(self, name: str) -> Any:
        """Return the protocol of a measure: that which the configuration names, else the
        benchmark's, at the model's size.
        """
        measure = MEASURES[name]
        chosen = None if measure.key is None else getattr(self.evaluation, measure.key)
        return build_protocol(
            self.benchmark.protocol_name(name, chosen=chosen),
            measure.protocols,
            input_size=self.size,
        )
