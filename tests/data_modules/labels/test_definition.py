"""A benchmark that a YAML file defines: opened exactly, and refused by file, key and value.  The
file is the one in ``docs/benchmarks.md``.
"""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gestalt.config.saved import load_saved
from gestalt.config.schema import config_hash, to_yaml
from gestalt.data_modules.image_sets import LabelSet
from gestalt.measures.context import Context
from gestalt.measures.evaluation.benchmarks import BENCHMARKS
from gestalt.runs.evaluation import build_image_sets
from tests.data_modules.fakes.drawing import blocks, save_mask, save_photograph
from tests.gestalt.tiny_config import tiny_config
from tests.test_docs import PAGES

BLOCK = re.search(r"```yaml\n(.*?)```", PAGES["docs/benchmarks.md"], flags=re.DOTALL)
FILE = re.sub(r" +#.*", "", BLOCK[1])
COLOURS = {"[0, 9]": "[[0, 0, 0], [9, 9, 9]]", "[4]": "[[4, 4, 4]]", "[255]": "[[255, 255, 255]]"}
VALUES = [blocks([0, 4, 9, 255], shape=(20, 30), seed=number) for number in range(3)]


@pytest.fixture(autouse=True)
def folder(cwd: Path) -> Path:
    """The working directory, with three images and their masks."""
    for name, values in zip(("0.jpg", "1.JPEG", "2.bmp"), VALUES, strict=True):
        save_photograph(cwd / "images" / name, values)
        save_mask(cwd / f"masks/{name[0]}_L.png", values)
    for place, text in (
        ("val.txt", "\ufeffimages/2.bmp\r\n\n0\n"),
        ("train.txt", "1\n"),
        ("mine.yaml", FILE),
    ):
        Path(place).write_text(text)
    return cwd


def configured(name="./mine.yaml", *words):
    words = [f"evaluation.benchmarks=[{name}]", *words]
    return tiny_config(*words)


def opened(*words):
    (images,) = build_image_sets(configured(*words)).values()
    return images


@pytest.mark.parametrize("painted", [False, True])
def test_values_and_colours_become_the_classes_of_the_file(painted):
    for value, colour in COLOURS.items() if painted else ():
        Path("mine.yaml").write_text(Path("mine.yaml").read_text().replace(value, colour))
    for file in Path("masks").iterdir() if painted else ():
        Image.open(file).convert("RGB").save(file)
    images = opened()
    (labels,) = images.label_sets.values()
    assert opened("./mine.yaml", "evaluation.split=train").names == ["1"]
    assert (images.names, images.official_length) == (["2", "0"], 2)
    assert labels == LabelSet(("other", "road"), (("other",), ("road", "street")), background=0)
    for index, values in enumerate((VALUES[2], VALUES[0])):
        (label,) = images.sample(index)["labels"].values()
        assert np.array_equal(label, np.where(values == 255, 255, values == 4))


@pytest.mark.parametrize(("old", "value", "painted"), [("[0, 9]", 9, False), ("[4]", 4, True)])
def test_one_class_may_have_all_values_that_nothing_else_names(old, value, painted):
    text = FILE.replace(old, "rest")
    for number, colour in COLOURS.items() if painted else ():
        text = text.replace(number, colour)
    Path("mine.yaml").write_text(text)
    for number, values in enumerate(VALUES):
        mask = np.where(values == value, 70, values)
        save_mask(Path(f"masks/{number}_L.png"), np.stack([mask] * 3, axis=2) if painted else mask)
    (label,) = opened().sample(0)["labels"].values()
    assert np.array_equal(label, np.where(VALUES[2] == 255, 255, VALUES[2] == 4))


def test_phrases_are_words_that_yaml_takes_for_switches_and_numbers():
    Path("mine.yaml").write_text(FILE.replace("road", "no").replace("street", "010, 1e3, 12:30"))
    (labels,) = opened().label_sets.values()
    assert (labels.names[1], labels.prompts[1]) == ("no", ("no", "010", "1e3", "12:30"))


def test_the_digest_covers_what_is_said_of_classes_and_not_places():
    digests = set()
    changes = {"val.txt": "./val.txt", "[0, 9]": "[0, 9, 1]", "street": "lane", "255": "255, 7"}
    for name, old in enumerate([*changes, "background: other"]):
        Path(f"{name}.yaml").write_text(FILE.replace(old, changes.get(old, "")))
        digests.add(opened(f"./{name}.yaml").definition)
    known = opened()
    context = Context(configured().evaluation, BENCHMARKS["./mine.yaml"], known, size=32)
    assert context.facts["benchmark_hash"] == known.definition
    assert known.definition in digests
    assert len(digests) == 5


REFUSED = {
    "images: images\n": ("", "images is missing"),
    "masks: masks": ("masc: masks", "the benchmark has no key 'masc' .* did you mean 'masks'"),
    "[4]": ("[4, 9]", "classes.road: 9 is a value of classes.other already"),
    "[255]": ("[4]", "ignored: 4 is a value of classes.road already"),
    "{values: [4]": ("{values: [-1]", "classes.road: -1: write a number, 0 to 65535, or .red"),
    "values: [4]": ("values: []", "classes.road: lists no value"),
    "[road, street]": ("[road, '']", "classes.road: prompts .*: a phrase is empty"),
    "values: [0, 9]": ("values: rset", "classes.other: values=rset: write a list, or rest"),
    FILE[FILE.index("[0, 9]") : FILE.index("[4]") + 3]: (
        "rest}\n  road: {values: rest",
        "classes.road: classes.other has the rest already",
    ),
    "ignored: [255]": ("ignored: rest", "ignored: rest is not a list"),
    "street": ("Other", "classes.road: Other is a phrase of other already"),
    "  road:": ("  ' ':", "classes. : prompts .*: a phrase is empty"),
    "[0, 9]": ("[[0, 0, 0]]", "the masks hold either numbers or colours"),
    "background: other": ("background: othr", "background=othr: did you mean 'other'"),
    "  road: {values: [4], prompts: [road, street]}": ("", "there are 1; list 2 to 4,096"),
    "images: images": ("images: images\nimages: other", "images is given twice"),
    "mask_suffix": ("name: pascal_voc\nmask_suffix", "pascal_voc is the name of another; set name"),
    "masks: masks\n": ("name: coco_curated\nmasks: masks\n", "coco_curated is the name of another"),
}


@pytest.mark.parametrize("old", REFUSED)
def test_a_wrong_file_is_refused_with_its_name_key_and_value(old):
    new, message = REFUSED[old]
    assert old in FILE
    Path("mine.yaml").write_text(FILE.replace(old, new, 1))
    with pytest.raises(ValueError, match=rf"^[^\n]*benchmark \./mine\.yaml: .*{message}[^\n]*$"):
        configured()


@pytest.mark.parametrize("line", ["train clippy_dino_max --scale tiny", "eval open_clip:RN50"])
@pytest.mark.parametrize("key", ["images", "masks"])
def test_a_missing_folder_is_named_before_a_model_is_opened(key, line, refusal):
    Path(key).rename("moved")
    said = refusal(f"{line} evaluation.benchmarks=[./mine.yaml]")
    assert f"benchmark ./mine.yaml: {key}: no folder {Path(key).absolute()}" in said


MASK, IMAGE = Path("masks/0_L.png"), Path("images/0.jpg")
LISTS = {
    "7": "no 7 among the images",
    "0.png": r"no 0\.png among the images",
    "sub/0.jpg": r"no sub/0\.jpg among the images",
    "0\n./0.jpg": r"0 and \./0\.jpg are one image; list it once",
    "2\nbig.tif": r"big\.tif is the file .*/big\.tif and the name of .*big\.tif\.png; rename one",
    "\n ": "lists no name; write one a line",
}


@pytest.mark.parametrize("lines", LISTS)
def test_a_line_of_a_list_that_names_no_image_of_its_own_is_refused(lines):
    for name in ("big.tif", "big.tif.png"):
        save_photograph(Path("images") / name, VALUES[0])
    Path("val.txt").write_text(lines)
    with pytest.raises(ValueError, match=rf"^[^\n]*val\.txt:? {LISTS[lines]}[^\n]*$"):
        opened()


TURN = Image.Exif()
TURN[0x0112] = 6
SPOILT = {
    r"images/0\.jpg: no 0 among the masks of": MASK.unlink,
    r"masks/0_L\.png: no 0 among the images": IMAGE.unlink,
    r"images/0\.png and .*0\.jpg are two files": lambda: IMAGE.with_suffix(".png").touch(),
    r"masks/0_L\.png is a JPEG2000 whose comp": lambda: Image.open(MASK).save(
        MASK, format="JPEG2000", irreversible=True
    ),
    r"images/0\.jpg: its EXIF orientation turns it": lambda: Image.open(IMAGE).save(
        IMAGE, exif=TURN
    ),
    # the first, which opening reads
    r"2_L\.png holds values \[7\]; .* 0, 4, 9, 255": lambda: save_mask(
        Path("masks/2_L.png"), np.full((20, 30), 7)
    ),
    r"masks/0_L\.png is 9x8, its image 30x20": lambda: save_mask(MASK, np.zeros((8, 9))),
}


@pytest.mark.parametrize("message", SPOILT)
def test_a_wrong_image_or_mask_is_named(message):
    SPOILT[message]()
    with pytest.raises(ValueError, match=rf"^[^\n]*{message}[^\n]*$"):
        opened().sample(1)


def test_a_saved_run_outlives_the_file_which_may_move_but_not_share_a_name(folder):
    Path("config.yaml").write_text(to_yaml(configured()))
    Path("moved").mkdir()
    Path("moved/mine.yaml").write_text(
        FILE.replace(": images", ": ../images").replace(": masks", ": ../masks")
    )
    assert config_hash(configured("moved/mine.yaml")) == config_hash(configured())
    for words, message in (
        (["mine"], r"for your own file write \./mine\.yaml"),
        (["./mine.yaml,./moved/mine.yaml"], "named twice"),
        (["./no.yaml"], r"benchmark \./no\.yaml: .*No such file"),
        (["./mine.yaml", "evaluation.split=test"], "mine has no such split .* of val, train"),
    ):
        with pytest.raises(ValueError, match=message):
            configured(*words)
    for gone in ("masks", "mine.yaml"):
        Path(gone).rename(f"{gone}.gone")
        assert load_saved(Path("config.yaml")).evaluation.benchmarks == ["./mine.yaml"]
