"""A benchmark is an image set, one of its label sets, what is measured on it, and the protocol it is scored by.

Its name stands in front of its metrics.  Benchmarks that share an image set share its images, which are loaded once.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Benchmark:
    """One row of :data:`BENCHMARKS`.

    Attributes:
        image_set: a file under ``data_modules/image_sets``.
        label_set: one of those that the image set carries; None where it has none.
        measures: ``segmentation`` needs label maps, ``grouping`` instance maps, ``retrieval`` captions.
        protocol: how its segmentation is scored unless the config names another.
        grouping_protocol: how its groups are.
        needs_root: whether files must be on disk, in the ``layout`` that the words describe: under ``benchmark_root``, or ``data.root``
            where the training pairs come from the same set.
    """

    image_set: str
    label_set: str | None
    measures: tuple[Literal["segmentation", "grouping", "retrieval"], ...]
    protocol: str
    grouping_protocol: str = "pca_square"
    needs_root: bool = False
    layout: str = ""


_VOC = "the folder that holds VOCdevkit/VOC2012"

BENCHMARKS: dict[str, Benchmark] = {
    "scenes": Benchmark("scenes", "scenes", ("segmentation", "grouping", "retrieval"), "whole_square"),
    "pascal_voc": Benchmark("pascal_voc", "voc21", ("segmentation", "grouping"), "whole_square", needs_root=True, layout=_VOC),
    "pascal_voc20": Benchmark("pascal_voc", "voc20", ("segmentation",), "whole_square", needs_root=True, layout=_VOC),
    "flickr": Benchmark(
        *("flickr", None, ("retrieval",), "whole_square"),
        needs_root=True,
        layout="the folder that holds Images/, captions.txt and the split files",
    ),
}
