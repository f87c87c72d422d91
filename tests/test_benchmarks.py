"""Every benchmark on a tiny set in its official layout: an oracle scores 100, and faults
are named.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from gestalt.data_modules.image_sets import ImageSet, LabelSet, open_image_set
from gestalt.measures.context import Context
from gestalt.measures.evaluation.benchmarks import BENCHMARKS
from gestalt.measures.evaluation.measures import MEASURES
from gestalt.measures.matching.callback import MatchedIoU
from gestalt.measures.robustness.callback import Robustness
from gestalt.measures.segmentation.mean_iou import MeanIoU
from gestalt.support.label_values import IGNORE, ignored_value
from tests.data_modules.fakes.drawing import painted_values
from tests.data_modules.fakes.table import CLASSIFIED, SEGMENTED, Fake
from tests.gestalt.tiny_config import tiny_config

FAKES = SEGMENTED | CLASSIFIED
MATCHED = [name for name in SEGMENTED if "matching" in BENCHMARKS[name].measures]
EMBEDDED = ("scenes", "scenes_matching", "scenes_classification", "scenes_waterbirds")


@dataclass
class Drawn:
    """A fake on disk."""

    name: str
    fake: Fake
    root: Path

    def open(
        self, *, subset: bool = True, limit: int | None = None, split: str | None = None
    ) -> ImageSet:
        """Open the set as an evaluation does, with the label set of the benchmark."""
        row = BENCHMARKS[self.name]
        return open_image_set(
            row.image_set,
            root=str(self.root),
            split=split,
            limit=limit,
            subset=subset,
            label_sets=[row.label_set],
        )

    @property
    def labels(self) -> LabelSet:
        """Its classes."""
        return self.open().label_sets[BENCHMARKS[self.name].label_set or ""]


@pytest.fixture(scope="session")
def drawn_once(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each fake's root, drawn once."""
    roots = {name: tmp_path_factory.mktemp(name) for name in FAKES}
    for name, root in roots.items():
        FAKES[name].draw(root)
    return roots


@pytest.fixture(params=list(SEGMENTED))
def segmented(request: pytest.FixtureRequest, drawn_once: dict[str, Path]) -> Drawn:
    """Each benchmark of label maps."""
    return Drawn(request.param, SEGMENTED[request.param], root=drawn_once[request.param])


@pytest.fixture(params=list(CLASSIFIED))
def classified(request: pytest.FixtureRequest, drawn_once: dict[str, Path]) -> Drawn:
    """Each benchmark of one class a photograph."""
    return Drawn(request.param, CLASSIFIED[request.param], root=drawn_once[request.param])


@pytest.fixture(params=list(FAKES))
def spoilable(request: pytest.FixtureRequest, drawn_once: dict[str, Path], tmp_path: Path) -> Drawn:
    """Each benchmark, a copy of its own."""
    shutil.copytree(drawn_once[request.param], tmp_path / "copy")
    return Drawn(request.param, FAKES[request.param], root=tmp_path / "copy")


def miou(drawn: Drawn) -> float:
    """Of a model that reads off a photograph's colours what class is where."""
    images = drawn.open()
    known = {value: name for value, name in drawn.fake.names.items() if name is not None}
    index = {value: drawn.labels.names.index(name) for value, name in known.items()}
    metric = MeanIoU(len(drawn.labels.names))
    for number in range(len(images)):
        sample = images.sample(number)
        (label,) = sample["labels"].values()
        prediction = np.vectorize(lambda value: index.get(value, 0))(
            painted_values(sample["image"])
        )
        metric.update([torch.from_numpy(prediction)], [label], torch.tensor([number]))
    return float(metric.compute().miou)


def test_every_benchmark_has_a_fake_or_brings_its_own_images():
    captioned = {name for name, row in BENCHMARKS.items() if row.measures == ("retrieval",)}
    assert {*FAKES, *EMBEDDED, *captioned} == set(BENCHMARKS)
    assert {name for name, row in BENCHMARKS.items() if not row.layout} == set(EMBEDDED)
    assert all("segmentation" in BENCHMARKS[name].measures for name in (*SEGMENTED, "scenes"))


@pytest.mark.parametrize("name", EMBEDDED)
def test_generated_images_have_the_label_set_of_their_benchmark(name):
    row = BENCHMARKS[name]
    images = open_image_set(
        row.image_set, root=None, split=None, limit=1, subset=True, label_sets=[row.label_set]
    )
    assert [*images.label_sets] == [row.label_set]


def test_an_oracle_scores_exactly_one(segmented):
    assert miou(segmented) == 1


@pytest.mark.parametrize("name", MATCHED)
def test_clusters_in_any_order_are_matched_whole_and_two_classes_in_one_cluster_are_not(
    name, drawn_once
):
    drawn = Drawn(name, SEGMENTED[name], root=drawn_once[name])
    images, classes = drawn.open(), len(drawn.labels.names)
    labels = [next(iter(images.sample(number)["labels"].values())) for number in range(len(images))]
    pixels = (
        torch.cat([label[label != IGNORE] for label in labels]).bincount(minlength=classes).numpy()
    )
    first, second = np.flatnonzero(pixels)[:2]
    # the last is for what is void
    order = np.append(np.random.default_rng(0).permutation(classes), 0)
    merged = np.where(order == order[second], order[first], order)
    scores = []
    for clusters in (order, merged, np.zeros_like(order)):
        metric = MatchedIoU(classes)
        predicted = [
            torch.from_numpy(clusters[np.minimum(label.numpy(), classes)]) for label in labels
        ]
        metric.update(predicted, labels, torch.arange(len(labels)))
        scores.append(float(metric.compute().miou))
    assert scores[0] == 1
    assert scores[1] < 1
    assert scores[2] == pytest.approx(pixels.max() / pixels.sum() / (pixels > 0).sum())


def test_exactly_the_values_without_a_class_are_void(segmented):
    images = segmented.open()
    for number in range(len(images)):
        sample = images.sample(number)
        (label,) = sample["labels"].values()
        values = painted_values(sample["image"])
        void = np.isin(
            values, [value for value, name in segmented.fake.names.items() if name is None]
        )
        assert set(np.unique(values)) == set(segmented.fake.names)
        classes = len(segmented.labels.names)
        assert np.array_equal(label.numpy() == ignored_value(classes), void)
        assert sample["image"].shape[1:] == label.shape
        assert label.dtype == (torch.uint8 if classes <= 255 else torch.int32)


def test_a_class_is_the_one_that_the_photograph_shows(classified):
    images = classified.open()
    assert len(images) == classified.fake.images
    shown = [
        int(painted_values(images.sample(number)["image"])[0, 0]) for number in range(len(images))
    ]
    assert set(shown) == set(classified.fake.names)
    for number, value in enumerate(shown):
        assert (
            classified.labels.names[images.sample(number)["class_label"]]
            == classified.fake.names[value]
        )
        if classified.name == "waterbirds":
            assert images.sample(number)["place"] == value % 10


@pytest.mark.parametrize(("split", "limit"), [(None, None), ("val", None), ("train", 2)])
def test_training_groups_come_from_the_table_for_any_split_or_limit(split, limit, drawn_once):
    drawn = Drawn("waterbirds", CLASSIFIED["waterbirds"], root=drawn_once["waterbirds"])
    config = tiny_config("evaluation.benchmarks=[waterbirds]", f"benchmark_root={drawn.root}")
    scorer = MEASURES["robustness"].build(
        Context(
            config.evaluation,
            BENCHMARKS["waterbirds"],
            drawn.open(split=split, limit=limit),
            size=32,
        )
    )
    assert isinstance(scorer, Robustness)
    assert scorer.train_groups == [[4, 1], [2, 1]]


def test_a_table_without_training_photographs_is_refused(tmp_path):
    CLASSIFIED["waterbirds"].draw(tmp_path)
    table = tmp_path / "waterbird_complete95_forest2water2" / "metadata.csv"
    table.write_text(
        "\n".join(
            line for line in table.read_text().splitlines() if not re.search(r"jpg,\d,0,", line)
        )
    )
    with pytest.raises(
        ValueError,
        match=r"metadata\.csv names no photograph of split 0, train, whose groups are",
    ):
        Drawn("waterbirds", CLASSIFIED["waterbirds"], root=tmp_path).open()


def test_a_limit_takes_images_of_different_classes(classified):
    images = classified.open(limit=3)
    assert len(images) == 3
    if classified.name != "waterbirds":
        assert len({images.sample(number)["class_label"] for number in range(3)}) == 3


def read_whole(drawn: Drawn) -> None:
    """Every sample once."""
    images = drawn.open()
    for number in range(len(images)):
        images.sample(number)


def test_a_set_without_the_official_number_of_images_is_refused_unless_allowed(spoilable):
    with pytest.raises(
        ValueError,
        match=f"has {spoilable.fake.images} images, the official split {spoilable.fake.official}",
    ):
        spoilable.open(subset=False)
    assert len(spoilable.open(limit=2)) == 2


def test_a_missing_file_is_named(spoilable):
    path = spoilable.root / spoilable.fake.photograph
    if spoilable.name in ("imagenet", "imagenet_v2"):  # only the folders define the expected files
        shutil.rmtree(path.parent)
        path.parent.mkdir()
        with pytest.raises(
            ValueError, match=rf"{path.parent.name} contains no \*\.[jJ][pP][eE][gG]"
        ):
            spoilable.open()
        return
    truth = spoilable.root / spoilable.fake.truth
    for gone in (path, truth):
        kept = gone.read_bytes()
        gone.unlink()
        with pytest.raises(ValueError, match=gone.name) as error:
            spoilable.open()
        assert "\n" not in str(error.value)
        gone.write_bytes(kept)


def test_a_wrong_value_is_named_with_its_file(spoilable):
    spoilable.fake.wrong(spoilable.root / spoilable.fake.truth)
    with pytest.raises(ValueError, match=spoilable.fake.complaint) as error:
        read_whole(spoilable)
    assert Path(spoilable.fake.truth).name.partition(".")[0] in str(
        error.value
    ) or spoilable.name.startswith("imagenet")
    assert "\n" not in str(error.value)


def test_an_empty_place_is_refused(spoilable, tmp_path):
    (tmp_path / "empty").mkdir()
    spoilable.root = tmp_path / "empty"
    files_of = BENCHMARKS[spoilable.name].image_set.removesuffix("_curated")
    with pytest.raises(
        ValueError, match=f"{files_of}: no .* in any of .*; (unpack|sort|run `gestalt data get) "
    ):
        spoilable.open()


def test_one_root_holds_several_sets(tmp_path):
    places = {"coco_stuff": "coco", "cityscapes": "cityscapes"}
    photographs = ("imagenet", "imagenet_v2", "waterbirds")
    for name in (
        "pascal_voc",
        "pascal_context60",
        "ade20k",
        "ade20k_847",
        "coco_stuff",
        "cityscapes",
        *photographs,
    ):
        folder = tmp_path / places.get(name, "")
        folder.mkdir(exist_ok=True)
        FAKES[name].draw(folder)
        assert len(Drawn(name, FAKES[name], root=tmp_path).open()) == FAKES[name].images
