"""A model of the user's own code is scored by the parts that it has."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
from torch import nn
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

def failing():
    raise FileNotFoundError("no weights\\nhere")
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
        "mine:failing": "the factory raised FileNotFoundError: no weights here$",
        "mine:lacking": "its Module lacks mean, size, std, stride",
    }.items(),
)
def test_a_python_module_that_cannot_be_scored_is_refused(module, name, said):
    with pytest.raises(ValueError, match=f"python:{name}: .*{said}"):
        open_target(f"python:{name}")


def test_a_configuration_cannot_name_code_as_a_proxy_model(module):
    with pytest.raises(
        ValueError, match="python:mine:Plain: such a model is named on the command line alone"
    ):
        open_vision(f"python:{module}:Plain")
    assert module not in sys.modules


class StandIn(nn.Linear):
    """Fake of RADIO, dino.txt and TIPSv2 as the examples call them; features are mean colours."""

    adaptors = property(lambda self: {"siglip2-g": self})
    logit_scale, head_mlp = torch.ones(1), nn.Identity()

    def tokenizer(self, texts):
        return torch.ones(len(texts), 6).cumsum(dim=1)

    tokenize = tokenizer

    def encode_text(self, texts):
        return self.tokenizer(texts) if isinstance(texts, list) else texts

    def encode_image(self, pixels, stride=14):
        rows = functional.avg_pool2d(pixels, stride).flatten(2).transpose(1, 2)
        return SimpleNamespace(cls_token=rows, patch_tokens=rows, summary=rows[:, 0], features=rows)

    def forward(self, pixels):
        return dict.fromkeys(("backbone", "siglip2-g"), self.encode_image(pixels, 16))

    def encode_image_with_patch_tokens(self, pixels):
        rows = self.encode_image(pixels, 16).features
        return rows[:, :2].flatten(1).roll(3, dims=1), rows, None


@pytest.mark.parametrize("name", ["radio:Radio", "dinotxt:DinoTxt", "tips:Tips"])
@torch.no_grad()
def test_an_example_reads_its_model_by_the_interface_of_its_authors(monkeypatch, name):
    monkeypatch.chdir(Path(__file__).parents[3] / "docs" / "examples")
    monkeypatch.setattr(sys, "path", [*sys.path])
    stand_in = StandIn(1, 1)
    opened = {"radio_model": stand_in}
    monkeypatch.setattr(torch.hub, "load", lambda _, entry, **__: opened.get(entry, [stand_in] * 2))
    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", lambda *_, **__: stand_in)
    model = open_target(f"python:{name}").model
    shown = images([2 * side for side in model.patch_stride])
    expected = functional.avg_pool2d(model.normalise(shown), model.patch_stride)
    expected = functional.normalize(expected, dim=1)
    torch.testing.assert_close(model.embed_patches(shown), expected)
    torch.testing.assert_close(model.embed_image(shown), expected[:, :, 0, 0])
    assert model.embed_text(["a", "dog"]).shape == (2, 3 if name == "dinotxt:DinoTxt" else 6)
