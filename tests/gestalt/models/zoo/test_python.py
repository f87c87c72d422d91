"""A model of the user's own code is scored by the parts that it has."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from gestalt.config.trust import TRUSTED
from gestalt.models.opening import open_target
from gestalt.models.zoo.kinds import open_vision
from gestalt.models.zoo.python import FunctionModel
from tests.gestalt.painted import random_pixels

CODE = '''
import torch
from torch import nn

class Radio(nn.Module):
    """A model like NVIDIA's RADIO: a summary and a map of other widths, each with a head."""

    stride, size, mean, std = 8, 32, (0, 0, 0), (1, 1, 1)
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

class Grey(Plain):
    mean = (0.5, 0.5)

class Odd(Plain):
    stride = "a"

def thing():
    return 3

def failing():
    raise FileNotFoundError("no weights\\nhere")

def leaving():
    raise SystemExit(0)
'''


@pytest.fixture
def module(cwd, monkeypatch):
    """Name of a module in the working directory."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    sys.modules.pop("mine", None)  # of another test, whose file is gone
    (cwd / "mine.py").write_text(CODE)
    yield "mine"
    sys.modules.pop("mine", None)


def images(size=(16, 24)):
    return random_pixels(2, 3, *size, seed=1)


@torch.no_grad()
def test_summary_map_and_texts_pass_the_heads_of_the_module(module):
    target = open_target(f"python:{module}:Radio")
    ours, own = target.model, target.model.model
    summary, maps = own.encode(images() / 255)
    assert_close(
        ours.embed_image(images()), functional.normalize(own.summary_head(summary), dim=-1)
    )
    assert_close(ours.embed_patches(images()), functional.normalize(own.feature_head(maps), dim=1))
    assert_close(
        ours.embed_text(["a", "bc"]), functional.normalize(own.embed_text(["a", "bc"]), dim=-1)
    )
    assert (ours.logit_scale, target.config.image.eval_size, ours.has_text) == (2.0, 32, True)
    assert target.identity["model"]["architecture"] == "mine:Radio"
    assert len(target.identity["model"]["file_sha256"]) == 64


@torch.no_grad()
def test_a_module_with_a_map_alone_is_vision_only_and_pools_by_the_mean(module):
    ours = open_target(f"python:{module}:Plain").model
    expected = functional.avg_pool2d((images() / 255 - 0.5) / 0.2, 8)
    assert_close(ours.patch_tokens(images(), projected=False), expected)
    assert_close(ours.embed_image(images()), functional.normalize(expected.mean((2, 3)), dim=-1))
    assert not ours.has_text
    with pytest.raises(ValueError, match="is vision-only"):
        ours.embed_text(["a"])


@pytest.mark.parametrize(
    ("name", "said"),
    {
        "mine": "expected python:PACKAGE.MODULE:NAME",
        "nowhere_else:f": "no module nowhere_else is installed or lies in",
        "mine:nothing": "module 'mine' has no attribute 'nothing'",
        "mine:thing": "returns a int, expected a Module",
        "mine:failing": "raised FileNotFoundError: no weights here$",
        "mine:leaving": "raised SystemExit: 0$",
        "mine:Odd": "stride='a', size=.*: give whole numbers",
        "mine:Grey": r"mean=\(0.5, 0.5\): give three numbers$",
        "mine:lacking": "its Module lacks mean, size, std, stride",
    }.items(),
)
def test_a_python_module_that_cannot_be_scored_is_refused(module, name, said):
    with pytest.raises(ValueError, match=f"python:{name}: .*{said}"):
        open_target(f"python:{name}")


FUNCTIONS = {
    "locations": lambda images: functional.avg_pool2d(images, 8),
    "pooled": lambda images: images.mean((2, 3)),
    "texts": lambda texts: torch.ones(len(texts), 3),
}


def test_of_three_functions_only_those_run_whose_vectors_are_read():
    run = []
    seen = {
        key: lambda given, key=key: run.append(key) or FUNCTIONS[key](given) for key in FUNCTIONS
    }
    ours = FunctionModel(seen, size=32)
    pooled, patches = ours.embed_image(images()), ours.embed_patches(images())
    assert_close(pooled, functional.normalize((images() / 255).mean((2, 3))))
    expected = FUNCTIONS["locations"](images() / 255)
    assert_close(patches, functional.normalize(expected))
    assert (run, ours.patch_stride) == (["pooled", "locations", "locations"], (8, 8))


@pytest.mark.parametrize(
    ("name", "function", "said"),
    [
        (
            "locations",
            lambda images: images[..., 0],
            r"returns a Tensor of shape \(1, 3, 32\), expected 4",
        ),
        ("locations", lambda images: images.maps, "raised .*no attribute 'maps'"),
        (
            "pooled",
            lambda images: (images, 1),
            r"returns a tuple of shape \(\), expected 2 axes, .* 2 and E",
        ),
        (
            "texts",
            lambda texts: torch.ones(1, 4),
            r"returns .* \(1, 4\), expected 2 axes, .* 1 and 3",
        ),
    ],
)
def test_a_function_that_fails_or_returns_another_shape_is_named(name, function, said):
    ours = FunctionModel(FUNCTIONS | {name: function}, size=32)
    with pytest.raises((ValueError, RuntimeError), match=f"model: {name} {said}"):
        (ours.embed_image(images()), ours.embed_text(["a"]), ours.embed_patches(images()))


def test_a_configuration_cannot_name_code_as_a_proxy_model(module):
    with pytest.raises(
        ValueError, match="python:mine:Plain: such a model is named on the command line alone"
    ):
        open_vision(f"python:{module}:Plain", places=TRUSTED)
    assert module not in sys.modules


class StandIn(nn.Linear):
    """Fake of RADIO and dino.txt as their code is called; features are mean colours, and those of
    RADIO in bfloat16, as its checkpoints say.
    """

    adaptors = property(lambda self: {"siglip2-g": self})
    logit_scale, head_mlp = torch.ones(1), nn.Linear(3, 3, bias=False)
    head_mlp.weight.data = torch.eye(3)

    def tokenizer(self, texts):
        return torch.ones(len(texts), 6).cumsum(dim=1)

    tokenize = tokenizer

    def encode_text(self, tokens):
        return tokens

    def encode_image(self, pixels):
        rows = colours(pixels, 16).flatten(2).transpose(1, 2)
        return SimpleNamespace(summary=rows[:, 0], features=rows)

    def forward(self, pixels):
        outputs = self.encode_image(pixels)
        half = SimpleNamespace(features=outputs.features.bfloat16())
        return {"backbone": half, "siglip2-g": outputs}

    def encode_image_with_patch_tokens(self, pixels):
        rows = self.encode_image(pixels).features
        return rows[:, :2].flatten(1).roll(3, dims=1), -rows, rows  # those of the backbone last


def colours(pixels, stride):
    return functional.avg_pool2d(pixels, stride).bfloat16().float()


@pytest.fixture
def opened(monkeypatch):
    """A function that opens an example with the stand-in, which it returns too."""
    monkeypatch.chdir(Path(__file__).parents[4] / "docs/examples")
    monkeypatch.setattr(sys, "path", [*sys.path])
    stand_in = StandIn(1, 1)

    def load(code, entry, *, trust_repo="check", backbone_weights="-00000000.pth", **others):
        assert trust_repo is True or code.startswith("facebookresearch/"), "asks on the terminal"
        if entry == "radio_model":
            assert "radio" not in sys.modules, "the name of RADIO's own package"
            return stand_in
        assert len(re.findall("-(.{8}).pth", backbone_weights)) == 1  # dinov3/hub/backbones.py
        return stand_in, stand_in

    monkeypatch.setattr(torch.hub, "load", load)
    return lambda name: (open_target(f"python:{name}").model, stand_in)


@pytest.mark.parametrize("name", ["nvidia_radio:Radio", "dinotxt:DinoTxt"])
@torch.no_grad()
def test_an_example_reads_its_model_by_the_interface_of_its_authors(opened, name):
    model, _ = opened(name)
    shown = images([2 * side for side in model.patch_stride])
    expected = functional.normalize(colours(model.normalise(shown), model.patch_stride), dim=1)
    assert_close(model.embed_patches(shown), expected)
    assert_close(model.embed_image(shown), expected[:, :, 0, 0])
    assert model.embed_text(["a", "dog"]).shape == (2, 3 if name == "dinotxt:DinoTxt" else 6)
