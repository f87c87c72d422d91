"""What an mIoU stands beside: constant background, shuffled text, patch-grid oracle.  C classes, h w patch grid, H W pixels."""

import numpy as np
import torch
from torch import Tensor

from gestalt.evaluation.prompts import ClassEmbeddings
from gestalt.evaluation.top_down import upsampled_argmax
from gestalt.metrics import IGNORE


def constant(label: Tensor, *, index: int) -> Tensor:
    """The same class everywhere, in the shape of the label."""
    return torch.full_like(label, index)


def shuffled_classes(count: int, *, prompts: ClassEmbeddings) -> Tensor:
    """Which class each class is taken for when the prompts change hands: one fixed cycle over the classes that have prompts.

    No class keeps its own prompts, but a single class, which has no other to swap with; nor does a threshold's background take part.
    Relabelling a prediction with it is the same as predicting with shuffled text, and costs no second pass.

    Returns:
        (C,) uint8, on the prompts' device.
    """
    named = sorted(set(prompts.class_index.tolist()))
    order = np.random.default_rng([len(named)]).permutation(named)
    table = np.arange(count, dtype=np.uint8)
    table[order] = np.roll(order, 1)
    return torch.from_numpy(table).to(prompts.class_index.device)


def patch_oracle(label: Tensor, *, grid: tuple[int, int]) -> Tensor:
    """What a map of this grid that knew the label would say: class shares of each cell, up-sampled as logits are, argmax.

    A share is an exact area, also where cells cut through pixels; ignored pixels are left out of it.

    Args:
        label: (H, W) uint8.
        grid: (h, w).

    Returns:
        (H, W) uint8, classes of this label only.
    """
    classes = torch.unique(label)
    classes = classes[classes != IGNORE]
    if len(classes) == 0:
        return label.clone()
    rows, columns = (overlap(side, cells=cells, device=label.device) for side, cells in zip(label.shape, grid, strict=True))
    areas = torch.stack([rows @ (label == value).float() @ columns.T for value in classes])  # (present, h, w)
    shares = areas / areas.sum(dim=0).clamp_min(torch.finfo(areas.dtype).tiny)
    _, index = upsampled_argmax(shares, size=(label.shape[0], label.shape[1]))
    prediction: Tensor = classes[index]
    return prediction


def overlap(side: int, *, cells: int, device: torch.device) -> Tensor:
    """(cells, side) float32: how much of each pixel lies in each of the equal cells that the side is cut into; in [0, 1]."""
    pixel = torch.arange(side, device=device)
    cell = torch.arange(cells, device=device).unsqueeze(1)
    end = torch.minimum((pixel + 1) * cells, (cell + 1) * side)  # in units of 1 / cells of a pixel, so that the arithmetic is of integers
    start = torch.maximum(pixel * cells, cell * side)
    return (end - start).clamp_min(0).float() / cells
