"""``gestalt.load`` equals what a library computes: pictures, texts, and each location against each
text, square and not.
"""

from collections.abc import Callable
from typing import NamedTuple

import open_clip
import pytest
import timm
import torch
from open_clip.transformer import TextTransformer
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

import gestalt
from tests.gestalt.models.zoo import test_open_clip
from tests.gestalt.painted import random_pixels
from tests.gestalt.tiny_model import export

TEXTS = ["a photo of a dog", "grass", "a cat"]


class Case(NamedTuple):
    """A model on disk, and its library's answers.

    Attributes:
        name: for ``gestalt.load``.
        size: side of the squares that it reads, in pixels.
        pooled: images (B, 3, H, W) uint8 to (B, E).
        dense: images to (B, N, E), locations in row-major order.
        texts: K texts to (K, E).
    """

    name: str
    size: int
    pooled: Callable[[Tensor], Tensor]
    dense: Callable[[Tensor], Tensor]
    texts: Callable[[list[str]], Tensor]


def normalised(images, mean, std):
    mean, std = (torch.as_tensor(values).reshape(3, 1, 1) for values in (mean, std))
    return (images / 255 - mean) / std


def part(state, prefix):
    return {
        key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)
    }


def of_gestalt(folder):
    """An exported folder of ours: its tensors in timm's ViT and open_clip's text transformer, then
    the method's two lines.
    """
    export(folder / "exported")
    state = load_file(next((folder / "exported").glob("*.safetensors")))
    sizes = {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 32,
        "depth": 2,
        "num_heads": 2,
        "dynamic_img_size": True,
    }
    trunk = timm.create_model("vit_tiny_patch16_224", num_classes=0, **sizes).eval()
    trunk.load_state_dict(part(state, "image.tower.trunk."))
    words = TextTransformer(
        context_length=16, width=16, heads=2, layers=1, proj_type="none", output_tokens=True
    ).eval()
    # its mask is a buffer that no file holds
    words.load_state_dict(part(state, "text.tower.model."), strict=False)
    tokenizer = open_clip.SimpleTokenizer(context_length=16)

    def dense(images):
        pixels = normalised(images, state["image.tower.mean"], state["image.tower.std"])
        return trunk.forward_features(pixels)[:, 1:] @ state["image.projection.linear.weight"].T

    def texts(given):
        ids = tokenizer(given)
        parts = words.ln_final(words.transformer(*(words._embeds(ids))))
        count = ids.argmax(dim=1) + 1  # up to the end token, which has the largest number
        means = torch.stack(
            [row[:length].mean(dim=0) for row, length in zip(parts, count, strict=True)]
        )
        return means @ state["text.projection.linear.weight"].T

    return Case(
        str(folder / "exported"), 32, lambda images: dense(images).amax(dim=1), dense, texts
    )


def of_open_clip(folder):
    theirs = test_open_clip.saved(folder / "model")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder / 'model'}")
    theirs.visual.output_tokens = True
    trained = theirs.visual.positional_embedding.data.clone()

    def dense(images):
        """Of a grid that open_clip's tower was not built for: with its positions stretched as torch
        stretches pictures.
        """
        grid = trained[1:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
        size = (images.shape[2] // 8, images.shape[3] // 8)
        stretched = (
            functional.interpolate(grid, size=size, mode="bicubic", antialias=True).flatten(2)[0].T
        )
        theirs.visual.positional_embedding.data = torch.cat((trained[:1], stretched))
        return theirs.visual(test_open_clip.pixels(theirs, images))[1] @ theirs.visual.proj

    def pooled(images):
        return theirs.visual(test_open_clip.pixels(theirs, images))[0]

    return Case(
        f"open_clip:{folder / 'model'}",
        32,
        pooled,
        dense,
        lambda given: theirs.encode_text(tokenizer(given)),
    )


CASES = {"gestalt": of_gestalt, "open_clip": of_open_clip}


def near(ours, theirs):
    torch.testing.assert_close(ours, functional.normalize(theirs, dim=-1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", CASES)
@torch.no_grad()
def test_a_loaded_model_gives_the_same_embeddings_as_its_library(cwd, kind):
    case = CASES[kind](cwd)
    model = gestalt.load(case.name, "cpu")
    square = random_pixels(2, 3, case.size, case.size, seed=1)
    wide = random_pixels(2, 3, case.size, 2 * case.size, seed=2)
    near(model.embed_image(square), case.pooled(square))
    texts = functional.normalize(case.texts(TEXTS), dim=-1)
    near(model.embed_text(TEXTS), texts)
    for images, protocol in ((square, "whole_square"), (wide, "whole_short_side")):
        ours = torch.stack(model.similarity(images, TEXTS, protocol=protocol))  # (B, K, h, w)
        theirs = functional.normalize(case.dense(images), dim=-1) @ texts.T
        torch.testing.assert_close(ours.flatten(2).transpose(1, 2), theirs, atol=1e-5, rtol=0)
