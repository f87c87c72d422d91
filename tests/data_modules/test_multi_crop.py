"""Multi-crop batches: their content, and that they depend only on their key."""

import pytest
import torch
from PIL import Image

from gestalt.data_modules.keys import MixturePart
from gestalt.data_modules.loading import MultiCropDataset, TrainingData
from gestalt.data_modules.pixels import views
from gestalt.data_modules.pixels.bad_samples import GOOD, REASONS, BadSample
from gestalt.data_modules.pixels.views import two_views
from gestalt.data_modules.sources import Source, open_source
from tests.gestalt.painted import random_pixels

VIEWS = two_views(16)


class Noise(Source):
    """Ten images of noise, labelled or not."""

    def __init__(self, classes=None):
        self.classes = classes

    def __len__(self):
        return 10

    def digest(self):
        return "noise"

    def pair(self, index, epoch):
        return random_pixels(3, 24, 24, seed=index), "noise"

    def label(self, index):
        return index % 3


def module(source=None, views=VIEWS, batch_size=4):
    source = source or Noise()
    return TrainingData(source, MultiCropDataset(source, views, seed=0), batch_size=batch_size)


def test_a_batch_holds_every_crop_of_every_image_and_labels_if_the_source_has_them():
    batch = next(iter(module().train_dataloader()))
    assert (batch["crops"].shape, batch["crops"].dtype) == ((2, 4, 3, 16, 16), torch.uint8)
    assert "label" not in batch
    key = int(batch["epoch"][1]), int(batch["sample_id"][1])
    alone = MultiCropDataset(Noise(), views=VIEWS, seed=0)[[key]]
    assert torch.equal(batch["crops"][:, 1:2], alone["crops"])
    batch = next(iter(module(Noise(("a", "b", "c")), views=VIEWS[:1]).train_dataloader()))
    assert batch["crops"].shape == (1, 4, 3, 16, 16)
    assert torch.equal(batch["label"], batch["sample_id"] % 3)


@pytest.mark.parametrize("mixed", [False, True])
def test_an_image_whose_caption_is_unusable_is_a_good_one(tmp_path, mixed):
    Image.new("RGB", (24, 24), "red").save(tmp_path / "a.png")
    (tmp_path / "a.csv").write_text("image,caption\na.png,\n")
    part = MixturePart("table", str(tmp_path / "a.csv"))
    name, options = (
        ("mixture", {"root": None, "parts": [part, part]})
        if mixed
        else ("table", {"root": part.root})
    )
    source = open_source(name, size=24, seed=0, limit=None, **options)
    drawn = MultiCropDataset(source, views=VIEWS, seed=0)[[(0, 0)]]
    assert (drawn["valid"].all(), len(drawn["crops"])) == (True, 2)
    with pytest.raises(BadSample, match="empty_caption"):
        source.pair(0, 0)


class Ramp(Noise):
    """Images whose red is their x and whose green is their y."""

    def pair(self, index, epoch):
        x = torch.arange(96).expand(96, 96)
        return torch.stack([2 * x, 2 * x.T, torch.zeros_like(x)]).to(torch.uint8), "ramp"


def test_places_give_the_image_region_of_each_crop(monkeypatch):
    for name in ("JITTER", "GREY"):
        monkeypatch.setattr(views, name, 0.0)
    plain = [view._replace(blur=0.0, solarise=0.0) for view in VIEWS]
    batch = next(iter(module(Ramp(), views=plain, batch_size=8).train_dataloader()))
    left, top, right, bottom = batch["places"].unbind(dim=-1)
    assert batch["places"].shape == (2, 8, 4)
    assert (left > right).any()  # mirrored
    assert (left < right).any()
    middle = (torch.arange(16) + 0.5) / 16
    red, green = (
        batch["crops"][:, :, channel].float().mean(dim=dim - 1) / 192
        for channel, dim in ((0, 3), (1, 4))
    )
    torch.testing.assert_close(
        red, left[..., None] + middle * (right - left)[..., None], atol=0.02, rtol=0
    )
    torch.testing.assert_close(
        green, top[..., None] + middle * (bottom - top)[..., None], atol=0.02, rtol=0
    )


def test_object_centred_scenes_are_labelled_by_its_class():
    source = open_source("scenes", size=32, recipe="prototype", object_centred=True)
    for index in range(6):
        (placed,) = source.maker.plan(index, seed=0, split="train").objects
        assert source.label(index) == placed.kind < len(source.classes)


class Spoiled(Noise):
    """Noise whose even images, or all images, cannot be read."""

    def __init__(self, *, every=2):
        super().__init__((0, 1, 2))
        self.every = every

    def pair(self, index, epoch):
        if index % self.every == 0:
            raise BadSample("zero_bytes", where="shard.tar", key=str(index))
        return super().pair(index, epoch)


def test_unreadable_images_have_no_row_and_are_named():
    clean, spoiled = (
        next(iter(module(source).train_dataloader())) for source in (Noise((0, 1, 2)), Spoiled())
    )
    valid = spoiled["valid"]
    assert valid.tolist() == [index % 2 == 1 for index in clean["sample_id"].tolist()]
    assert spoiled["sample_id"].equal(clean["sample_id"][valid])
    assert spoiled["crops"].equal(clean["crops"][:, valid])
    assert spoiled["label"].equal(clean["label"][valid])
    assert [REASONS[code] for code in spoiled["reason"] if code != GOOD] == ["zero_bytes"] * int(
        (~valid).sum()
    )
    assert [bool(place) for place in spoiled["place"]] == (~valid).tolist()
