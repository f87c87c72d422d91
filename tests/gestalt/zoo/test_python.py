"""A model of the user's own code is scored by the parts that it has."""

import sys

import pytest
import torch
from torch.nn import functional

from gestalt.building.targets import open_target
from gestalt.zoo.kinds import open_vision

CODE = '''
import torch
from torch import nn

class Radio(nn.Module):
    """A model like NVIDIA's RADIO: a summary and a map of other widths, each with a head."""

    stride, size, mean, std = 8, 32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    logit_scale = 2.0

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Conv2d(3, 6, 8, stride=8)
        self.summary_head = nn.Linear(12, 4)
        self.feature_head = nn.Conv2d(6, 4, 1)
        self.words = nn.EmbeddingBag(50, 4)

    def encode(self, pixels):
        maps = self.features(pixels)
        return torch.cat([maps.amax((2, 3)), maps.mean((2, 3))], dim=1), maps

    def head(self, summary, maps):
        return self.summary_head(summary)

    def locations(self, maps):
        return self.feature_head(maps)

    def embed_text(self, texts):
        return self.words(torch.tensor([[len(text) % 50] for text in texts]))

class Plain(nn.Module):
    stride, size, mean, std = (8, 8), 32, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)

    def encode(self, pixels):
        return nn.functional.avg_pool2d(pixels, 8)

def lacking():
    module = Plain()
    module.encode = None
    module.__class__ = nn.Module
    return module

def thing():
    return 3
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Name of a module in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    sys.modules.pop("mine", None)  # of another test, whose file is gone
    (tmp_path / "mine.py").write_text(CODE)
    yield "mine"
    sys.modules.pop("mine", None)


def images(size=(16, 24)):
    return torch.randint(
        0, 256, (2, 3, *size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8
    )


@torch.no_grad()
def test_summary_map_and_texts_pass_the_heads_of_the_module(module):
    target = open_target(f"python:{module}:Radio")
    ours, own = target.model, target.model.model
    summary, maps = own.encode(images() / 255)
    torch.testing.assert_close(
        ours.embed_image(images()), functional.normalize(own.summary_head(summary), dim=-1)
    )
    torch.testing.assert_close(
        ours.embed_patches(images()), functional.normalize(own.feature_head(maps), dim=1)
    )
    torch.testing.assert_close(
        ours.embed_text(["a", "bc"]), functional.normalize(own.embed_text(["a", "bc"]), dim=-1)
    )
    assert (ours.logit_scale, target.config.image.eval_size, ours.has_text) == (2.0, 32, True)
    assert target.identity["model"]["architecture"] == "mine:Radio"
    assert len(target.identity["model"]["file_sha256"]) == 64


@torch.no_grad()
def test_a_module_with_a_map_alone_is_vision_only_and_pools_by_the_mean(module):
    ours = open_target(f"python:{module}:Plain").model
    expected = functional.avg_pool2d((images() / 255 - 0.5) / 0.2, 8)
    torch.testing.assert_close(ours.patch_tokens(images(), projected=False), expected)
    torch.testing.assert_close(
        ours.embed_image(images()), functional.normalize(expected.mean((2, 3)), dim=-1)
    )
    assert not ours.has_text
    with pytest.raises(ValueError, match="is vision-only"):
        ours.embed_text(["a"])


@pytest.mark.parametrize(
    ("name", "said"),
    {
        "mine": "expected python:PACKAGE.MODULE:FACTORY",
        "nowhere_else:f": "no module nowhere_else is installed or lies in",
        "mine:nothing": "module 'mine' has no attribute 'nothing'",
        "mine:thing": "returns a int, expected an nn.Module",
        "mine:lacking": "its Module lacks mean, size, std, stride",
    }.items(),
)
def test_a_python_module_that_cannot_be_scored_is_refused(module, name, said):
    with pytest.raises(ValueError, match=f"python:{name}: .*{said}"):
        open_target(f"python:{name}")


def test_a_configuration_cannot_name_code_as_a_second_model(module):
    with pytest.raises(
        ValueError, match="python:mine:Plain: such a model is named on the command line alone"
    ):
        open_vision(f"python:{module}:Plain")
    assert module not in sys.modules
