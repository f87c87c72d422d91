"""A model that reads the class of a location out of its colour: an oracle for evaluation, with
flaws to order.
"""

from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional

from gestalt.encoders.dense_model import DenseModel
from gestalt.measures.evaluation.vocabularies import Vocabulary

STEP = 20
"""Grey levels between two classes."""


@dataclass(frozen=True)
class Words(Vocabulary):
    """A label set, as a rule without background."""

    background: int | None = None


NAMES = ("ground", "apple", "hour", "unicorn")
LABELS = Words(NAMES, prompts=(("grass", "sky"), ("apple",), ("hour",), ("unicorn",)), background=0)


def random_pixels(*shape: int, seed: int = 0) -> Tensor:
    """uint8 noise that a seed decides."""
    return torch.randint(
        256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


@contextmanager
def without_len():
    """Within the context tensors have no ``len``, which freezes the batch of a traced graph."""
    with mock.patch.object(Tensor, "__len__", side_effect=AssertionError("len of a tensor")):
        yield


def painted(label: Tensor) -> Tensor:
    """The image (3, H, W) uint8 of a label (H, W), each class in its own grey; void is painted as
    class 0.
    """
    return (
        (label.masked_fill(label == 255, 0).long() * STEP + STEP // 2)
        .to(torch.uint8)
        .expand(3, -1, -1)
        .contiguous()
    )


def blocky_label(rows: int, columns: int, *, seed: int, block: int = 4) -> Tensor:
    """A random label (rows * block, columns * block) uint8, constant in each block."""
    cells = torch.randint(
        len(NAMES),
        (rows, columns),
        generator=torch.Generator().manual_seed(seed),
        dtype=torch.uint8,
    )
    return cells.repeat_interleave(block, 0).repeat_interleave(block, 1)


def striped_label(
    rows: int, columns: int, *, seed: int, block: int = 4, upright: bool = True
) -> Tensor:
    """A random label of straight stripes: bilinear maps cut the corners of blocks, but leave
    stripes whole.
    """
    cells = blocky_label(1, columns if upright else rows, block=1, seed=seed)[0]
    label = cells.expand(rows, columns) if upright else cells.unsqueeze(1).expand(rows, columns)
    return label.repeat_interleave(block, 0).repeat_interleave(block, 1)


class PaintedModel(DenseModel):
    """Embeds a patch as the one-hot vector of its colour's class, and a prompt as that of the class
    whose phrase it ends with.
    """

    def __init__(self, labels: Words = LABELS, *, patch: int = 4, flaw: str = "") -> None:
        super().__init__()
        self.labels = labels
        self.patch = patch
        self.flaw = flaw
        self.scale = nn.Parameter(torch.ones(()))

    @property
    def patch_stride(self) -> tuple[int, int]:
        """A square patch."""
        return self.patch, self.patch

    def embed_patches(self, images: Tensor, **reading) -> Tensor:
        """(B, C, h, w) one-hot."""
        grey = functional.avg_pool2d(images[:, 0].float()[:, None], self.patch)[:, 0]
        classes = ((grey - STEP // 2) / STEP).round().long().clamp(0, len(self.labels.names) - 1)
        vectors = functional.one_hot(classes, len(self.labels.names)).permute(0, 3, 1, 2).float()
        if self.flaw == "transposed":
            vectors = vectors.transpose(2, 3).reshape(vectors.shape)
        return functional.normalize(vectors * self.scale, dim=1)

    def patch_tokens(self, images: Tensor, *, projected: bool) -> Tensor:
        """(B, C, h, w) one-hot."""
        return self.embed_patches(images)

    def check_class_attention(self) -> None:
        """It has one, unless that is the flaw."""
        if self.flaw == "no_class_token":
            raise ValueError("the image tower is a CNN")

    def class_attention(self, images: Tensor) -> Tensor:
        """(B, C, h, w): a head a class, each looking at all of its class and a little
        everywhere.
        """
        return self.embed_patches(images) + 1e-6

    def embed_text(self, texts: list[str], *, normalise: bool = True) -> Tensor:
        """(K, C) one-hot."""
        index = [
            next(
                position
                for position, phrases in enumerate(self.labels.prompts)
                if any(text.endswith(phrase) for phrase in (*phrases, self.labels.names[position]))
            )
            for text in texts
        ]
        return functional.one_hot(torch.tensor(index), len(self.labels.names)).float() * self.scale

    def embed_image(self, images: Tensor) -> Tensor:
        """(B, C), L2-normalised shares of the classes."""
        return functional.normalize(self.embed_patches(images).mean(dim=(2, 3)), dim=1)
