"""A benchmark is an image set, what is measured on it, and the protocol it is scored by."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Benchmark:
    """One row of :data:`BENCHMARKS`.

    Attributes:
        image_set: a file under ``data_modules/image_sets``.
        measures: ``segmentation`` needs labels, ``grouping`` instance maps, ``retrieval`` captions.
        protocol: how its segmentation is scored unless the config names another.
        grouping_protocol: how its groups are.
        needs_root: whether files must be on disk, in the ``layout`` that the words describe: under ``benchmark_root``, or ``data.root``
            where the training pairs come from the same set.
    """

    image_set: str
    measures: tuple[Literal["segmentation", "grouping", "retrieval"], ...]
    protocol: str
    grouping_protocol: str = "pca_square"
    needs_root: bool = False
    layout: str = ""


BENCHMARKS: dict[str, Benchmark] = {
    "scenes": Benchmark("scenes", ("segmentation", "grouping", "retrieval"), "whole_square"),
    "pascal_voc": Benchmark(
        *("pascal_voc", ("segmentation", "grouping"), "whole_square"), needs_root=True, layout="the folder that holds VOCdevkit/VOC2012"
    ),
    "flickr": Benchmark(
        *("flickr", ("retrieval",), "whole_square"),
        needs_root=True,
        layout="the folder that holds Images/, captions.txt and the split files",
    ),
}
