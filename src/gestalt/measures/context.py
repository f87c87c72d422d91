"""The argument of a measure's ``build``: a configuration, a benchmark and its image set."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from gestalt.config.schema import Experiment
from gestalt.data_modules.digest import short_digest
from gestalt.data_modules.image_sets import ImageSet, LabelSet
from gestalt.data_modules.unlabelled import FolderImages, SourceImages
from gestalt.measures.callback import Entry, Scorer
from gestalt.measures.evaluation.benchmarks import Benchmark
from gestalt.measures.evaluation.measures import MEASURES
from gestalt.measures.evaluation.protocols import build_protocol

Kind = TypeVar("Kind", bound=Scorer)


@dataclass(frozen=True)
class Context:
    """The configuration, benchmark and image set that a measure is built from.

    Attributes:
        config: configuration of the run or the evaluation.
        benchmark: the one to score.
        image_set: opened, with the benchmark's label set.
        open_unlabelled: opens unlabelled images, for a protocol that asks for some; None where
            there are none.
    """

    config: Experiment
    benchmark: Benchmark
    image_set: ImageSet
    open_unlabelled: Callable[[], FolderImages | SourceImages] | None = None

    @property
    def labels(self) -> LabelSet:
        """The benchmark's classes."""
        assert self.benchmark.label_set is not None, (
            f"benchmark {self.benchmark.name} names no label set"
        )
        return self.image_set.label_sets[self.benchmark.label_set]

    @property
    def options(self) -> dict[str, Any]:
        """The arguments that every scorer takes; facts of the set are its published number of
        images, and digests of the file that defines it and of the images' names in order.
        """
        facts: Entry = {"images_official": self.image_set.official_length}
        if definition := getattr(self.image_set, "definition", None):
            facts["benchmark_hash"] = definition
        if (names := getattr(self.image_set, "names", None)) is not None:
            facts["image_names"] = short_digest("\n".join(names))
        return {
            "image_set": self.image_set.name,
            "label_set": self.benchmark.label_set,
            "length": len(self.image_set),
            "facts": facts,
            "pictures": self.config.evaluation.pictures,
            "prompt_cache": self.config.evaluation.prompt_cache,
        }

    def scorer(self, kind: type[Kind], **options: Any) -> Kind:
        """Build a scorer of the benchmark under its protocol of the measure, or that which the
        config names, at the configured size.
        """
        measure = MEASURES[kind.measure]
        chosen = None if measure.key is None else getattr(self.config.evaluation, measure.key)
        protocol = build_protocol(
            self.benchmark.protocol_name(kind.measure, chosen=chosen),
            measure.protocols,
            input_size=self.config.image.eval_size,
        )
        return kind(self.benchmark.name, protocol=protocol, **self.options, **options)
