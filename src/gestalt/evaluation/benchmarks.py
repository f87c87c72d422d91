"""A benchmark is an image set, one of its label sets, what is measured on it, and the protocol it is scored by.

Its name stands in front of its metrics.  Benchmarks that share an image set share its images, which are loaded once.
"""

from dataclasses import dataclass
from typing import Literal

Measure = Literal["segmentation", "grouping", "retrieval", "classification", "robustness", "matching"]


@dataclass(frozen=True)
class Benchmark:
    """One row of :data:`BENCHMARKS`.

    Attributes:
        image_set: a file under ``data_modules/image_sets``.
        label_set: one of those that the image set carries; None where it has none.
        measures: ``segmentation`` and ``matching`` need label maps, ``grouping`` instance maps, ``retrieval`` captions,
            ``classification`` a class an image, ``robustness`` a class and a place.
        protocol: how its segmentation is scored unless the config names another.
        grouping_protocol: how its groups are; likewise the three after it.
        splits: those that may be measured on; one that is not said is the one that is reported.
        layout: words for the files that must be on disk, under ``benchmark_root``; empty where the set brings its own.
        source: the training source that reads the same files; where training reads it, ``data.root`` is the root.
    """

    image_set: str
    label_set: str | None
    measures: tuple[Measure, ...]
    protocol: str = "whole_square"
    grouping_protocol: str = "pca_square"
    classification_protocol: str = "openai_80"
    robustness_protocol: str = "map_majority"
    matching_protocol: str = "clusters_square"
    splits: tuple[str, ...] = ("train", "val")
    layout: str = ""
    source: str | None = None

    @property
    def needs_root(self) -> bool:
        """Whether files must be on disk."""
        return bool(self.layout)


_SCENES = ("val", "tune")
_VOC = "the folder that holds VOCdevkit/VOC2012"
_CONTEXT = "the folder that holds VOCdevkit/VOC2010 with the converted masks"
_STUFF = "the folder that holds val2017 and stuffthingmaps_trainval2017, or coco/ with both"
_PANOPTIC = "the folder that holds val2017 and annotations/panoptic_val2017.json, or coco/ with both"
_CITYSCAPES = "the folder that holds leftImg8bit and gtFine, or cityscapes/ with both"
_FLICKR = "the folder that holds Images/, captions.txt and the split files"

BENCHMARKS: dict[str, Benchmark] = {
    "scenes": Benchmark("scenes", "scenes", ("segmentation", "grouping", "retrieval"), splits=_SCENES, source="scenes"),
    "scenes_matching": Benchmark("scenes", "scenes", ("matching",), splits=_SCENES, source="scenes"),
    "scenes_classification": Benchmark("scenes_classification", "scenes_classes", ("classification",), splits=_SCENES, source="scenes"),
    "scenes_waterbirds": Benchmark(
        *("scenes_waterbirds", "scenes_twins", ("robustness",)), robustness_protocol="scenes_majority", splits=_SCENES, source="scenes"
    ),
    "pascal_voc": Benchmark("pascal_voc", "voc21", ("segmentation", "grouping"), splits=("train", "val", "trainval"), layout=_VOC),
    "pascal_voc20": Benchmark("pascal_voc", "voc20", ("segmentation",), splits=("train", "val", "trainval"), layout=_VOC),
    "pascal_context60": Benchmark("pascal_context", "context60", ("segmentation",), layout=_CONTEXT),
    "pascal_context59": Benchmark("pascal_context", "context59", ("segmentation",), layout=_CONTEXT),
    "ade20k": Benchmark("ade20k", "ade20k_150", ("segmentation", "grouping"), layout="the folder that holds ADEChallengeData2016"),
    "coco_object": Benchmark("coco", "coco_object_81", ("segmentation",), layout=_STUFF),
    "coco_stuff": Benchmark("coco", "coco_stuff_171", ("segmentation",), layout=_STUFF),
    "coco27": Benchmark("coco", "coco_27", ("segmentation", "matching"), layout=_STUFF),
    "coco27_curated": Benchmark("coco_curated", "coco_27", ("segmentation", "matching"), layout=_STUFF),
    "coco_panoptic": Benchmark("coco", "coco_panoptic_133", ("segmentation", "grouping"), layout=_PANOPTIC),
    "cityscapes": Benchmark("cityscapes", "cityscapes_19", ("segmentation", "grouping"), layout=_CITYSCAPES),
    "cityscapes27": Benchmark("cityscapes", "cityscapes_27", ("segmentation", "matching"), layout=_CITYSCAPES),
    "imagenet": Benchmark(
        "imagenet", "imagenet_1000", ("classification",), splits=("val",), layout="the folder that holds imagenet/val/<WordNet id>"
    ),
    "imagenet_v2": Benchmark(
        *("imagenet_v2", "imagenet_1000", ("classification",)),
        splits=("val",),
        layout="the folder that holds imagenetv2-matched-frequency-format-val",
    ),
    "waterbirds": Benchmark(
        *("waterbirds", "waterbirds", ("robustness",)),
        splits=("train", "val", "test"),
        layout="the folder that holds waterbird_complete95_forest2water2",
    ),
    "flickr": Benchmark("flickr", None, ("retrieval",), splits=("dev", "test"), layout=_FLICKR, source="flickr"),
}
