"""A user's own folder of cut-outs as the pictures of scenes."""

import pytest
from PIL import Image, ImageDraw

from gestalt.data_modules.scenes.composition import SceneMaker
from gestalt.data_modules.scenes.cutouts import read_folder
from gestalt.data_modules.scenes.recipes import RECIPES
from gestalt.data_modules.sources import open_source
from tests.data_modules.files import opened_set


def draw(path, *, caption, colour, mode="RGBA", size=(60, 40)):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGBA", size, (0, 0, 0, 0))
    ImageDraw.Draw(image).ellipse((4, 4, size[0] - 5, size[1] - 5), fill=(*colour, 255))
    image.convert(mode).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(f"{caption}\nfr.utf8=Un chat.\n", encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    draw(tmp_path / "animals/cat1.png", caption="A cat.", colour=(255, 0, 0))
    draw(tmp_path / "animals/cat2.png", caption="A cat, sleeping!", colour=(200, 0, 0))
    draw(tmp_path / "animals/deep/hen.png", caption="A brown hen.", colour=(150, 80, 0))
    draw(tmp_path / "fruit/apple.png", caption="An apple", colour=(0, 255, 0), mode="LA")
    draw(tmp_path / "fruit/red.png", caption="A red apple.", colour=(9, 255, 0))
    draw(tmp_path / "hat.png", caption="A hat.", colour=(0, 0, 255))
    draw(tmp_path / "no_text.png", caption=None, colour=(1, 2, 3))
    draw(tmp_path / "saying.png", caption="Say cheese!", colour=(1, 2, 3))
    draw(tmp_path / "opaque.png", caption="A wall.", colour=(1, 2, 3), mode="RGB")
    draw(tmp_path / "dot.png", caption="A dot.", colour=(1, 2, 3), size=(12, 12))
    (tmp_path / "logo.svg").write_text("<svg/>")
    return tmp_path


def test_classes_are_read_from_the_folder(folder):
    Image.new("1", (20_000, 20_000)).save(folder / "moon.png")
    (folder / "moon.txt").write_text("A moon.")
    classes, _ = read_folder(folder, limit=10)
    assert [(noun.name, noun.plural, noun.pictures) for noun in classes] == [
        ("apple", "apples", ("fruit/apple.png", "fruit/red.png")),
        ("cat", "cats", ("animals/cat1.png", "animals/cat2.png")),
        ("brown hen", "brown hens", ("animals/deep/hen.png",)),
        ("hat", "hats", ("hat.png",)),
    ]


def test_a_folder_trains_and_validates_on_the_same_classes(folder):
    source = open_source("scenes", root=str(folder), size=32, seed=0, limit=8, recipe="prototype")
    images = opened_set("scenes", folder, split="val", limit=6, recipe="prototype")
    assert images.label_sets["scenes"].names == ("background", "apple", "cat", "brown hen", "hat")
    assert source.maker.recipe.classes == images.maker.recipe.classes
    assert source.pair(0, 0)[0].shape == (3, 32, 32)
    for index in range(6):
        assert 1 <= images.sample(index)["labels"]["scenes"].max() <= 4


@pytest.mark.parametrize(
    "make", [lambda path: path / "nowhere", lambda path: path], ids=["missing", "empty"]
)
def test_a_folder_without_cut_outs_is_refused(tmp_path, make):
    with pytest.raises(ValueError, match=r"data\.root"):
        SceneMaker(RECIPES["prototype"], root=str(make(tmp_path)))
