"""Benchmarks: an image set, one of its label sets, the measures taken on it, and their protocols; a
YAML file of the user's defines further ones.

Benchmarks that share an image set share its images, which are loaded once.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gestalt.data_modules.labels.definition import read_definition
from gestalt.measures.evaluation.measures import MEASURES
from gestalt.measures.keys import Evaluation
from gestalt.support.keys import refuse
from gestalt.support.names import is_path, nearest
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
        measures: rows of ``MEASURES``, in the order of the record; by default segmentation.
        protocols: protocol by measure, where it is not the measure's default; a config may name
            another.
        splits: those that can be scored; by default the image set chooses the reported one.
        layout: description of the files that must lie under ``benchmark_root``; empty for a set
            without files.
        sets: the names by which ``gestalt data get`` downloads its files, or says where they are;
            empty if it knows none.
        terms: terms of use of its images; empty if none are stated here.
        source: the training source that reads the same files, the same for all benchmarks of an
            image set; where training reads it, ``data.root`` is the root.  A benchmark on scenes
            has ``scenes``, and is drawn by ``data.recipe``.
    """

    name: str
    image_set: str
    label_set: str | None
    measures: tuple[str, ...] = ("segmentation",)
    protocols: Mapping[str, str] = field(default_factory=dict)
    splits: tuple[str, ...] = ("train", "val")
    layout: str = ""
    sets: tuple[str, ...] = ()
    terms: str = ""
    source: str | None = None

    def protocol_name(self, measure: str, evaluation: Evaluation) -> str:
        """Return the name of a measure's protocol: that which the configuration names, else this
        row's, else the measure's default.
        """
        row = MEASURES[measure]
        chosen = getattr(evaluation, row.key) if row.key else None
        return chosen or self.protocols.get(measure, row.default)


_scenes = partial(
    Benchmark, image_set="scenes", label_set="scenes", splits=("val", "tune"), source="scenes"
)
_voc = partial(
    Benchmark,
    image_set="pascal_voc",
    splits=("train", "val", "trainval"),
    layout="the folder that holds VOCdevkit/VOC2012",
    sets=("pascal_voc",),
    terms="Flickr's, for research",
)
_val = partial(Benchmark, splits=("val",))
_captioned = partial(
    Benchmark,
    label_set=None,
    measures=("retrieval",),
    protocols={"retrieval": "retrieval_crop"},
    splits=("test", "val"),
)
_context = partial(
    Benchmark,
    image_set="pascal_context",
    layout="the folder that holds VOCdevkit/VOC2010 with the converted masks",
    sets=("pascal_context_images", "pascal_context_masks"),
    terms="for research",
)
_stuff = partial(
    Benchmark,
    image_set="coco",
    layout="the folder that holds val2017 and stuffthingmaps_trainval2017, or coco/ with both",
    sets=("coco_val", "coco_stuff"),
    terms="annotations CC BY 4.0, each image has its own licence",
)
_cityscapes = partial(
    Benchmark,
    image_set="cityscapes",
    layout="the folder that holds leftImg8bit and gtFine, or cityscapes/ with both",
    sets=("cityscapes",),
    terms="a licence of its own, for research",
)

_ROWS = (
    _scenes("scenes", measures=("segmentation", "grouping", "retrieval")),
    _scenes("scenes_matching", measures=("matching",)),
    _scenes(
        "scenes_classification",
        image_set="scenes_classification",
        label_set="scenes_classes",
        measures=("classification",),
    ),
    _scenes(
        "scenes_waterbirds",
        image_set="scenes_waterbirds",
        label_set="scenes_twins",
        measures=("robustness",),
        protocols={"robustness": "scenes_majority"},
    ),
    _voc("pascal_voc", label_set="voc21", measures=("segmentation", "grouping")),
    _voc("pascal_voc20", label_set="voc20"),
    _context("pascal_context60", label_set="context60"),
    _context("pascal_context59", label_set="context59"),
    Benchmark(
        "ade20k",
        image_set="ade20k",
        label_set="ade20k_150",
        measures=("segmentation", "grouping"),
        layout="the folder that holds ADEChallengeData2016",
        sets=("ade20k",),
        terms="for research and education",
    ),
    _val(
        "ade20k_847",
        image_set="ade20k_full",
        label_set="ade20k_847",
        layout=(
            "the folder that holds ADE20K_2021_17_01 with images_detectron2 and "
            "annotations_detectron2"
        ),
        sets=("ade20k_847",),
    ),
    _val(
        "pascal_context459",
        image_set="pascal_context_full",
        label_set="context459",
        layout=(
            "the folder that holds VOCdevkit/VOC2010 with pascalcontext_val.txt and "
            "annotations_detectron2/pc459_val"
        ),
        sets=("pascal_context_images", "pascal_context459"),
    ),
    _stuff("coco_object", label_set="coco_object_81"),
    _stuff("coco_stuff", label_set="coco_stuff_171"),
    _stuff("coco27", label_set="coco_27", measures=("segmentation", "matching")),
    _stuff(
        "coco27_curated",
        image_set="coco_curated",
        label_set="coco_27",
        measures=("segmentation", "matching"),
    ),
    _stuff(
        "coco_panoptic",
        label_set="coco_panoptic_133",
        measures=("segmentation", "grouping"),
        layout=(
            "the folder that holds val2017 and annotations/panoptic_val2017.json, or coco/ with "
            "both"
        ),
        sets=("coco_val", "coco_panoptic"),
    ),
    _cityscapes("cityscapes", label_set="cityscapes_19", measures=("segmentation", "grouping")),
    _cityscapes("cityscapes27", label_set="cityscapes_27", measures=("segmentation", "matching")),
    _val(
        "imagenet",
        image_set="imagenet",
        label_set="imagenet_1000",
        measures=("classification",),
        layout="the folder that holds imagenet/val/<WordNet id>",
        sets=("imagenet",),
    ),
    _val(
        "imagenet_v2",
        image_set="imagenet_v2",
        label_set="imagenet_1000",
        measures=("classification",),
        layout="the folder that holds imagenetv2-matched-frequency-format-val",
        sets=("imagenet_v2",),
    ),
    Benchmark(
        "waterbirds",
        image_set="waterbirds",
        label_set="waterbirds",
        measures=("robustness",),
        splits=("train", "val", "test"),
        layout="the folder that holds waterbird_complete95_forest2water2",
        sets=("waterbirds",),
    ),
    Benchmark(
        "flickr",
        image_set="flickr",
        label_set=None,
        measures=("retrieval",),
        splits=("dev", "test"),
        layout="the folder that holds Images/, captions.txt and the split files",
        sets=("flickr",),
        source="flickr",
    ),
    _captioned(
        "coco_captions_val2017",
        image_set="coco_captions_val2017",
        splits=("val",),
        layout="the folder that holds val2017 and annotations/captions_val2017.json, or coco/ with "
        "both",
        sets=("coco_val", "coco_annotations"),
    ),
    _captioned(
        "coco_captions_karpathy",
        image_set="coco_captions_karpathy",
        layout="the folder that holds val2014 and dataset_coco.json, or coco/ with both",
    ),
    _captioned(
        "flickr30k_karpathy",
        image_set="flickr30k_karpathy",
        layout="the folder that holds flickr30k-images and dataset_flickr30k.json, or flickr30k/ "
        "with both",
        sets=("flickr30k",),
    ),
)


class _Benchmarks(Registry[Benchmark]):
    """The rows by name, and those that a file defines by its path."""

    def __getitem__(self, name: str) -> Benchmark:
        """Return a row.

        Raises:
            ConfigError: an unknown name; a file that cannot be read as a benchmark, or one with the
                name of another row or of its image set.
        """
        if name not in self:
            why = nearest(name, sorted(self))
            if Path(f"{name}.yaml").is_file():
                why = f"for your own file write ./{name}.yaml; {why}"
            refuse("evaluation.benchmarks", name, why)
        if not is_path(name):
            return super().__getitem__(name)
        definition = read_definition(name)
        taken = {*self, *(row.image_set for row in _ROWS)}
        if definition.name in taken:
            raise ConfigError(
                f"benchmark {name}: {definition.name} is the name of another; set name: in the file"
            )
        labels = f"{definition.name}.yaml"  # no protocol has exceptions for it
        return Benchmark(definition.name, name, labels, splits=tuple(definition.splits))

    def __contains__(self, name: object) -> bool:
        """Return True for a row and for any path, whose file is read when its row is looked up."""
        return is_path(str(name)) or super().__contains__(name)


BENCHMARKS = _Benchmarks("benchmarks", {row.name: row for row in _ROWS})
"""Benchmarks by name; installed packages may add some, and the path of a YAML file is one."""


def present(names: Iterable[str]) -> list[str]:
    """Return the benchmarks without those whose file or folders are gone, or whose file is wrong
    by now.
    """
    found = []
    for name in names:
        with suppress(ConfigError):
            if is_path(name):
                read_definition(name)
            found.append(name)
    return found


def check_has_masks(
    benchmark: str, *, option: str = "--calibrate", measure: str = "segmentation"
) -> None:
    """Refuse a benchmark that lacks a measure; ``option`` is the flag that named the benchmark.

    Raises:
        ConfigError: lists the benchmarks that have it.
    """
    if benchmark not in BENCHMARKS or measure not in BENCHMARKS[benchmark].measures:
        known = [name for name, row in BENCHMARKS.items() if measure in row.measures]
        raise ConfigError(
            f"{option} {benchmark}: choose one that measures {measure}: {', '.join(known)}"
        )
