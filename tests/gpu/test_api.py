"""The Python API gives the same results on a GPU as on the CPU, returned on the CPU where
documented.
"""

import torch

import gestalt
from tests.gestalt.tiny_model import export, save_photo


def test_a_model_on_the_gpu_matches_the_cpu(tmp_path, device):
    export(tmp_path / "exported")
    photo = save_photo(tmp_path / "photo.png")
    there, here = (
        gestalt.load(tmp_path / "exported", device),
        gestalt.load(tmp_path / "exported", "cpu"),
    )
    assert there.device.type == device.type
    segmented = there.segment(photo, ["dog", "grass"])
    assert segmented.map.device.type == there.group(photo, 3).device.type == "cpu"
    assert (segmented.map != here.segment(photo, ["dog", "grass"]).map).float().mean() < 0.02
    torch.testing.assert_close(
        there.embed_image(photo).cpu(), here.embed_image(photo), rtol=1e-3, atol=1e-3
    )
    torch.testing.assert_close(
        there.similarity(photo, ["dog"]).cpu(),
        here.similarity(photo, ["dog"]),
        rtol=1e-3,
        atol=1e-3,
    )
    assert there.to("cpu").device.type == "cpu"
