"""Benchmarks: an image set, one of its label sets, the measures taken on it, and their protocols; a
YAML file of the user's defines further ones.

Benchmarks that share an image set share its images, which are loaded once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gestalt.data_modules.labels.definition import read_definition
from gestalt.evaluation.measures import MEASURES
from gestalt.support.names import is_path
from gestalt.support.plugins import Registry
from gestalt.support.typed import ConfigError


@dataclass(frozen=True)
class Benchmark:
    """One row of ``BENCHMARKS``.

    Attributes:
        name: prefix of its metrics.
        image_set: a file under ``data_modules/image_sets``, or the path of the YAML file that
            defines the benchmark.
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


_scenes = partial(Benchmark, splits=("val", "tune"), source="scenes")
_VOC = "the folder that holds VOCdevkit/VOC2012"
_CONTEXT = "the folder that holds VOCdevkit/VOC2010 with the converted masks"
_STUFF = "the folder that holds val2017 and stuffthingmaps_trainval2017, or coco/ with both"
_CITYSCAPES = "the folder that holds leftImg8bit and gtFine, or cityscapes/ with both"

_ROWS = (
    _scenes("scenes", "scenes", "scenes", ("segmentation", "grouping", "retrieval")),
    _scenes("scenes_matching", "scenes", "scenes", ("matching",)),
    _scenes(
        "scenes_classification", "scenes_classification", "scenes_classes", ("classification",)
    ),
    _scenes(
        "scenes_waterbirds",
        "scenes_waterbirds",
        "scenes_twins",
        ("robustness",),
        protocols={"robustness": "scenes_majority"},
    ),
    Benchmark(
        "pascal_voc",
        "pascal_voc",
        "voc21",
        ("segmentation", "grouping"),
        splits=("train", "val", "trainval"),
        layout=_VOC,
    ),
    Benchmark(
        "pascal_voc20",
        "pascal_voc",
        "voc20",
        ("segmentation",),
        splits=("train", "val", "trainval"),
        layout=_VOC,
    ),
    Benchmark(
        "pascal_context60", "pascal_context", "context60", ("segmentation",), layout=_CONTEXT
    ),
    Benchmark(
        "pascal_context59", "pascal_context", "context59", ("segmentation",), layout=_CONTEXT
    ),
    Benchmark(
        "ade20k",
        "ade20k",
        "ade20k_150",
        ("segmentation", "grouping"),
        layout="the folder that holds ADEChallengeData2016",
    ),
    Benchmark(
        "ade20k_847",
        "ade20k_full",
        "ade20k_847",
        ("segmentation",),
        splits=("val",),
        layout=(
            "the folder that holds ADE20K_2021_17_01 with images_detectron2 and "
            "annotations_detectron2"
        ),
    ),
    Benchmark(
        "pascal_context459",
        "pascal_context_full",
        "context459",
        ("segmentation",),
        splits=("val",),
        layout=(
            "the folder that holds VOCdevkit/VOC2010 with pascalcontext_val.txt and "
            "annotations_detectron2/pc459_val"
        ),
    ),
    Benchmark("coco_object", "coco", "coco_object_81", ("segmentation",), layout=_STUFF),
    Benchmark("coco_stuff", "coco", "coco_stuff_171", ("segmentation",), layout=_STUFF),
    Benchmark("coco27", "coco", "coco_27", ("segmentation", "matching"), layout=_STUFF),
    Benchmark(
        "coco27_curated", "coco_curated", "coco_27", ("segmentation", "matching"), layout=_STUFF
    ),
    Benchmark(
        "coco_panoptic",
        "coco",
        "coco_panoptic_133",
        ("segmentation", "grouping"),
        layout=(
            "the folder that holds val2017 and annotations/panoptic_val2017.json, or coco/ with "
            "both"
        ),
    ),
    Benchmark(
        "cityscapes",
        "cityscapes",
        "cityscapes_19",
        ("segmentation", "grouping"),
        layout=_CITYSCAPES,
    ),
    Benchmark(
        "cityscapes27",
        "cityscapes",
        "cityscapes_27",
        ("segmentation", "matching"),
        layout=_CITYSCAPES,
    ),
    Benchmark(
        "imagenet",
        "imagenet",
        "imagenet_1000",
        ("classification",),
        splits=("val",),
        layout="the folder that holds imagenet/val/<WordNet id>",
    ),
    Benchmark(
        "imagenet_v2",
        "imagenet_v2",
        "imagenet_1000",
        ("classification",),
        splits=("val",),
        layout="the folder that holds imagenetv2-matched-frequency-format-val",
    ),
    Benchmark(
        "waterbirds",
        "waterbirds",
        "waterbirds",
        ("robustness",),
        splits=("train", "val", "test"),
        layout="the folder that holds waterbird_complete95_forest2water2",
    ),
    Benchmark(
        "flickr",
        "flickr",
        None,
        ("retrieval",),
        splits=("dev", "test"),
        layout="the folder that holds Images/, captions.txt and the split files",
        source="flickr",
    ),
)


class _Benchmarks(Registry[Benchmark]):
    """The rows by name, and those that a file defines by its path."""

    def __getitem__(self, name: str) -> Benchmark:
        """Return a row.

        Raises:
            ConfigError: as ``read_definition``, or a file with the name of another row.
        """
        if not is_path(name):
            return super().__getitem__(name)
        definition = read_definition(name)
        if super().__contains__(definition.name):
            raise ConfigError(
                f"benchmark {name}: {definition.name} is the name of another; set name: in the file"
            )
        labels = f"{definition.name}.yaml"  # no protocol has exceptions for it
        splits = tuple(definition.splits)
        return Benchmark(definition.name, name, labels, ("segmentation",), splits=splits)

    def __contains__(self, name: object) -> bool:
        """Return True for a row and for any path, whose file is read when its row is looked up."""
        return is_path(str(name)) or super().__contains__(name)


BENCHMARKS = _Benchmarks("benchmarks", {row.name: row for row in _ROWS})
"""Benchmarks by name; installed packages may add some, and the path of a YAML file is one."""


def present(names: Iterable[str]) -> list[str]:
    """Return the benchmarks without those whose file is gone."""
    return [name for name in names if not is_path(name) or Path(name).expanduser().is_file()]
