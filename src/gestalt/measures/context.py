"""The context of a measure: its benchmark, image set, unlabelled images and keys of evaluation.
H W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gestalt.data_modules.corpora.stores import ImageFiles
from gestalt.data_modules.image_sets import ImageSet, LabelSet
from gestalt.data_modules.pairs import Source
from gestalt.data_modules.pixels.bad_samples import BadSample
from gestalt.data_modules.pixels.formats import endings
from gestalt.data_modules.pixels.photographs import as_rgb, decoding, open_checked, to_tensor
from gestalt.encoders.dense_model import DenseModel
from gestalt.measures.evaluation.benchmarks import Benchmark
from gestalt.measures.evaluation.measures import MEASURES
from gestalt.measures.evaluation.protocols import build_protocol
from gestalt.measures.keys import Evaluation
from gestalt.support.files import short_digest


class SourceImages:
    """The pictures of training pairs, not cropped; pictures that the source draws are those of the
    first epoch.

    Raises:
        ValueError: a source whose pairs can only be read in sequence.
    """

    def __init__(self, source: Source, *, name: str) -> None:
        if source.in_sequence:
            raise ValueError(
                f"data.source={name} can only be read in sequence; choose a folder of pictures by "
                "evaluation.unlabelled=DIR"
            )
        self._pairs: Source | ImageFiles = source
        self.source = f"training pairs of {name}, digest {source.digest()}"

    def __len__(self) -> int:
        return len(self._pairs)

    def picture(self, index: int) -> Tensor | None:
        """Return a picture, (3, H, W) uint8; None if it cannot be read."""
        try:
            stored = self._pairs.read(index)
            if stored is None:
                assert isinstance(self._pairs, Source)
                return self._pairs.image(index, 0)
            with decoding():
                return to_tensor(as_rgb(open_checked(stored.image)))
        except BadSample:
            return None


class FolderImages(SourceImages):
    """The pictures of a folder and its subfolders, in order of their paths.

    Raises:
        ValueError: no such folder, or no pictures in it.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ValueError(f"{folder}: folder not found; choose a folder of pictures")
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in endings())
        if not paths:
            raise ValueError(
                f"{folder}: no pictures in this folder; names of pictures end in "
                f"{', '.join(endings())}"
            )
        self._pairs = ImageFiles([(path, []) for path in paths], digest="")
        self.source = str(folder)


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
        kept: vectors of prompts, for several evaluations of one model with the same weights; None
            to embed at each.
        given: protocol in place of that of the configuration or the benchmark; None for theirs.
    """

    evaluation: Evaluation
    benchmark: Benchmark
    image_set: ImageSet
    size: int
    open_vision: Callable[[str], DenseModel] | None = None
    open_unlabelled: Callable[[], SourceImages | None] = lambda: None
    kept: dict[str, Tensor] | None = None
    given: Any = None

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
        """Return the protocol of a measure: that which is given, else that which the configuration
        names, else the benchmark's, at the model's size.
        """
        if self.given is not None:
            return self.given
        chosen = self.benchmark.protocol_name(name, self.evaluation)
        return build_protocol(chosen, MEASURES[name].protocols, input_size=self.size)
