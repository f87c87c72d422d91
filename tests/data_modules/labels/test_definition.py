"""A benchmark that a YAML file defines: opened exactly, and refused by file, key and value."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gestalt.building.evaluation import build_image_sets
from gestalt.config.identity import config_hash, to_yaml
from gestalt.config.loading import load, load_saved
from gestalt.evaluation.benchmarks import BENCHMARKS
from tests.data_modules.fakes.drawing import blocks, save_mask, save_photograph

FILE = """
images: images
masks: masks
mask_suffix: _L
background: other
classes:
  other: {values: [0, 9]}
  road: {values: [4], prompts: [road, street]}
ignored: [255]
splits: {val: val.txt, train: train.txt}
"""
PAINTED = FILE.replace("[0, 9]", "[[0, 0, 0], [9, 9, 9]]").replace("[4]", "[[4, 4, 4]]")
PAINTED = PAINTED.replace("[255]", "[[255, 255, 255]]")
KNOWN = np.array([0, 0, 0, 0, 1, 0, 0, 0, 0, 0])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with three images, their masks, and one file of each kind."""
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        values = blocks([0, 4, 9, 255], shape=(20, 30), seed=number)
        save_photograph(
            tmp_path / "images" / f"{number}{('.jpg', '.JPEG', '.bmp')[number]}", values
        )
        save_mask(tmp_path / "masks" / f"{number}_L.png", values)
    (tmp_path / "val.txt").write_text("2.bmp\n0\n")
    (tmp_path / "train.txt").write_text("1\n")
    (tmp_path / "mine.yaml").write_text(FILE)
    return tmp_path


def configured(name: str = "./mine.yaml", *words: str):
    return load(
        "clippy_dino_max",
        scale="tiny",
        overrides=[f"evaluation.benchmarks=[{name}]", *words],
    )


def opened(name: str = "./mine.yaml", *words: str):
    (images,) = build_image_sets(configured(name, *words)).values()
    return images


@pytest.mark.parametrize("text", [FILE, PAINTED])
def test_values_and_colours_become_the_classes_of_the_file(folder: Path, text: str) -> None:
    (folder / "mine.yaml").write_text(text)
    for file in (folder / "masks").iterdir() if text == PAINTED else ():
        Image.open(file).convert("RGB").save(file)
    images, (labels,) = opened(), opened().label_sets.values()
    assert (images.names, opened("./mine.yaml", "evaluation.split=train").names) == (
        ["2", "0"],
        ["1"],
    )
    assert (labels.names, labels.prompts) == (("other", "road"), (("other",), ("road", "street")))
    assert (labels.background, images.official_length) == (0, 2)
    for index, number in enumerate((2, 0)):
        values = blocks([0, 4, 9, 255], shape=(20, 30), seed=number)
        (label,) = images.sample(index)["labels"].values()
        expected = np.where(values == 255, 255, KNOWN[np.minimum(values, 9)])
        assert label.equal(torch.from_numpy(expected.astype(np.uint8)))


def test_the_digest_follows_what_the_file_says_of_classes_and_not_its_place(folder: Path) -> None:
    digests = {opened().definition}
    for number, (old, new) in enumerate(
        [("[0, 9]", "[9]"), ("street", "lane"), ("background: other", ""), ("[255]", "[255, 0]")]
    ):
        text = FILE.replace(old, new).replace("[255, 0]", "[255, 7]")
        (folder / f"{number}.yaml").write_text(text)
        digests.add(opened(f"./{number}.yaml").definition)
    assert len(digests) == 5
    (folder / "again.yaml").write_text(FILE.replace("val.txt", "./val.txt"))
    assert opened("./again.yaml").definition in digests
    (folder / "moved").mkdir()
    (folder / "moved" / "mine.yaml").write_text(FILE)
    assert config_hash(configured("moved/mine.yaml")) == config_hash(configured())


REFUSED = {
    "images: images\n": ("", "images is missing"),
    "masks: masks": ("masc: masks", "the benchmark has no key 'masc' .* did you mean 'masks'"),
    "[4]": ("[4, 9]", "classes.road: 9 is a value of classes.other already"),
    "[255]": ("[4]", "ignored: 4 is a value of classes.road already"),
    "values: [4]": ("value: [4]", "classes.road has no key 'value'"),
    "{values: [4]": ("{values: [-1]", "classes.road: -1: write a number, 0 to 65535, or .red"),
    "[0, 9]": ("[[0, 0, 0]]", "the masks hold either numbers or colours"),
    "{values: [0, 9]}": ("4", "classes.other: 4 given for a group of keys"),
    "background: other": ("background: othr", "background=othr: did you mean 'other'"),
    "val: val.txt, ": ("", "splits: val is missing"),
    "mask_suffix": ("name: a/b\nmask_suffix", "name=a/b: write letters"),
    "  road: {values: [4], prompts: [road, street]}": ("", "there are 1; list 2 to 4,096"),
    "images: images": ("images: images\nimages: other", "images is given twice"),
    "mask_suffix: _L": ("name: pascal_voc", "pascal_voc is the name of another; set name:"),
}


@pytest.mark.parametrize("old", REFUSED)
def test_a_wrong_file_is_refused_with_its_name_key_and_value(folder: Path, old: str) -> None:
    new, message = REFUSED[old]
    assert old in FILE
    (folder / "mine.yaml").write_text(FILE.replace(old, new, 1))
    with pytest.raises(ValueError, match=rf"benchmark \./mine\.yaml: .*{message}") as error:
        configured()
    assert "\n" not in str(error.value)


def jpeg(folder: Path) -> None:
    Image.open(folder / "masks/0_L.png").save(folder / "masks/0_L.png", format="JPEG")


SPOILT = {
    "a mask": (lambda at: (at / "masks/0_L.png").unlink(), r"images/0\.jpg: no 0 among the masks"),
    "an image": (lambda at: (at / "images/0.jpg").unlink(), r"masks/0_L\.png: no 0 among the ima"),
    "a list": (lambda at: (at / "val.txt").write_text("7"), r"val\.txt: no 7 among the images"),
    "a folder": (lambda at: (at / "masks").rename(at / "x"), r"no folder masks"),
    "two files": (
        lambda at: (at / "images/0.png").write_bytes(b""),
        r"images/0\.png and images/0\.jpg are two files of one name",
    ),
    "a JPEG": (jpeg, r"masks/0_L\.png is a JPEG, whose compression changes values"),
    "a value": (
        lambda at: save_mask(at / "masks/0_L.png", np.full((20, 30), 7)),
        r"masks/0_L\.png holds values \[7\]; it must hold 0, 4, 9, 255 only",
    ),
    "a size": (
        lambda at: save_mask(at / "masks/0_L.png", np.zeros((8, 9))),
        r"masks/0_L\.png is 9x8, its image 30x20",
    ),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_wrong_image_or_mask_is_named(folder: Path, kind: str) -> None:
    spoil, message = SPOILT[kind]
    spoil(folder)
    with pytest.raises(ValueError, match=message) as error:
        [opened().sample(index) for index in range(2)]
    assert "\n" not in str(error.value)


def test_a_saved_run_outlives_the_file_and_names_of_benchmarks_are_checked(folder: Path) -> None:
    (folder / "config.yaml").write_text(to_yaml(configured()))
    for name, message in (
        ("mine", r"for your own file write \./mine\.yaml"),
        ("./mine.yaml,./moved/mine.yaml", "named twice"),
        ("./no.yaml", r"no\.yaml not found; name the YAML file"),
    ):
        (folder / "moved").mkdir(exist_ok=True)
        (folder / "moved" / "mine.yaml").write_text(FILE)
        with pytest.raises(ValueError, match=message):
            configured(name)
    with pytest.raises(ValueError, match=r"mine has no such split .* choose one of val, train"):
        configured("./mine.yaml", "evaluation.split=test")
    (folder / "mine.yaml").unlink()
    assert load_saved(folder / "config.yaml").evaluation.benchmarks == ["./mine.yaml"]
    with pytest.raises(ValueError, match="not found"):
        BENCHMARKS["./mine.yaml"]
