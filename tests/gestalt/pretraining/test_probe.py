"""The probe: when it runs, its scores, its pictures."""

from types import SimpleNamespace

import torch
from PIL import Image
from torch import nn

from gestalt.building import pretraining
from gestalt.config.loading import load
from gestalt.pretraining.probe import MARGIN, PANEL, Labelled, Probe, principal_picture
from gestalt.training import clock


def probe():
    return Probe(clock.Clock(0.0), every_steps=3, voters=None, shown=lambda: torch.empty(0, 3, 8, 8, dtype=torch.uint8))


class Clock:
    """A stand-in for the trainer with a fixed step."""

    def __init__(self, step, *, first=True):
        self.global_step, self.max_steps, self.is_global_zero = step, 7, first


def looks(monkeypatch, *, first=True):
    seen, one = [], probe()
    monkeypatch.setattr(Probe, "_measure", lambda self, trainer, module: seen.append(trainer.global_step))
    one.on_train_start(Clock(0), None)
    for step in range(1, 8):
        one.on_train_batch_end(Clock(step), None, None, None, step - 1)
    return seen


def test_the_probe_runs_at_the_start_at_intervals_and_at_the_end(monkeypatch):
    assert looks(monkeypatch) == [0, 3, 6, 7]


def test_a_resumed_run_does_not_repeat_the_probe_at_the_start(monkeypatch):
    seen = []
    monkeypatch.setattr(Probe, "_measure", lambda self, trainer, module: seen.append(trainer.global_step))
    probe().on_train_start(Clock(4), None)
    assert seen == []


def test_only_the_first_rank_probes(monkeypatch):
    tower, seen = nn.Identity().train(), []
    module = SimpleNamespace(trained_tower=tower, device=torch.device("cpu"))
    monkeypatch.setattr("gestalt.pretraining.probe.Pretrainer", SimpleNamespace)
    monkeypatch.setattr(Probe, "_score", lambda self, trainer, tower, *, module: seen.append((trainer.global_step, tower.training)))
    monkeypatch.setattr(Probe, "_draw", lambda self, trainer, tower, *, device: seen.append((trainer.global_step, tower.training)))
    for step, first in ((3, False), (6, True)):
        probe()._measure(Clock(step, first=first), module)
    assert seen == [(6, False), (6, False)]  # scores and pictures, in evaluation mode
    assert tower.training


def test_the_first_readable_images_are_drawn(tmp_path):
    rows = ["image,caption", "broken.png,a dog"]
    (tmp_path / "broken.png").write_bytes(b"")
    for number in range(3):
        Image.new("RGB", (40, 40), (80 * number, 0, 0)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,")
    (tmp_path / "a.csv").write_text("\n".join(rows))
    words = ["data.source=table", f"data.root={tmp_path / 'a.csv'}", "image.inits.dino=made"]
    drawn = pretraining._shown(load("clippy_dino_max", scale="tiny", overrides=words))  # of two pictures
    assert drawn.shape == (2, 3, 32, 32)
    assert drawn[:, 0].amax(dim=(1, 2)).tolist() == [0, 80]


def test_the_curves_are_kept_in_the_state():
    one, other = probe(), probe()
    one.curves = {"new_scenes/max": [(0, 0.1), (3, 0.2)]}
    other.load_state_dict(one.state_dict())
    assert other.curves == one.curves


def test_the_picture_shows_each_image_above_its_patches():
    images = torch.zeros(3, 3, 16, 16, dtype=torch.uint8)
    images[:, 0] = 200
    colours = torch.zeros(3, 2, 2, 3, dtype=torch.uint8)
    colours[..., 2] = 90
    sheet = principal_picture(images, colours)
    assert sheet.width == 3 * (PANEL + MARGIN) + MARGIN
    for column in range(3):
        across = MARGIN + column * (PANEL + MARGIN) + PANEL // 2
        assert sheet.getpixel((across, MARGIN + PANEL // 2)) == (200, 0, 0)
        assert sheet.getpixel((across, 2 * MARGIN + PANEL + PANEL // 2)) == (0, 0, 90)


def test_labelled_unpacks_into_images_and_labels():
    images, labels = Labelled(torch.zeros(2, 3, 8, 8), torch.arange(2))
    assert len(images) == len(labels)
