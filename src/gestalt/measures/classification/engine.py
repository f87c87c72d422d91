"""Classification: the class whose prompts are nearest to an image.  B batch, C classes, K prompts,
E shared width, h w patch grid.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gestalt.data_modules.image_sets import LabelSet
from gestalt.evaluation.confusion import as_map_type
from gestalt.evaluation.images import by_size, resize_all
from gestalt.evaluation.prompts import ClassEmbeddings
from gestalt.measures.classification.protocol import ClassificationProtocol
from gestalt.measures.retrieval.engine import embed_images
from gestalt.measures.robustness.protocol import RobustnessProtocol


def with_third(labels: LabelSet, third_class: tuple[str, ...]) -> LabelSet:
    """Append a class for everything else to a label set, unless it has no phrases; it competes by
    its prompts.
    """
    if not third_class:
        return replace(labels, background=None)
    return replace(
        labels,
        names=(*labels.names, " or ".join(third_class)),
        prompts=(*labels.prompts, third_class),
        background=None,
    )


@torch.no_grad()
def class_logits(
    model: Any,
    images: Sequence[Tensor],
    prompts: ClassEmbeddings,
    protocol: ClassificationProtocol,
) -> Tensor:
    """Compute the cosine of B images, (3, H, W) uint8 of any sizes, with the nearest prompt of
    every class, (B, C) float32 in [-1, 1].

    The model must be in eval mode, the prompts on the images' device.
    """
    return by_class(embed_images(model, images, protocol) @ prompts.vectors.T, prompts)


def by_class(cosines: Tensor, prompts: ClassEmbeddings) -> Tensor:
    """Reduce cosines with prompts (..., K) to cosines with classes (..., C): the nearest prompt of
    each; equal phrases have equal ones.
    """
    cosines = prompts.tie(cosines, dim=-1)
    count = int(prompts.class_index.max()) + 1
    empty = cosines.new_full((*cosines.shape[:-1], count), -torch.inf)
    return empty.scatter_reduce(-1, prompts.class_index.expand_as(cosines), cosines, reduce="amax")


def ranks(logits: Tensor, truth: Tensor) -> Tensor:
    """Count the classes ranked before the true one.  Among equal logits the first class comes
    first; NaN comes before all.

    Logits are (B, C); truth is (B,) int64 in [0, C); negative values (padding) count as 0.

    Returns:
        (B,) int64 in [0, C): 0 is right, below k is right among k.
    """
    place = torch.arange(logits.shape[1], device=logits.device)
    truth = truth.clamp_min(0).unsqueeze(1)
    true_logit = logits.gather(1, truth)
    ahead = torch.where(place < truth, ~(logits < true_logit), ~(logits <= true_logit)) & (
        place != truth
    )
    return ahead.sum(dim=1)


def _finite(cosines: Tensor) -> Tensor:
    """Return the cosines; a ValueError refuses NaN and infinity, with which the first class would
    win.
    """
    if not bool(cosines.isfinite().all()):
        raise ValueError(
            "the model's embeddings contain NaN or infinity, so no image has a nearest class"
        )
    return cosines


@torch.no_grad()
def reduced_labels(
    model: Any, images: Sequence[Tensor], prompts: ClassEmbeddings, protocol: RobustnessProtocol
) -> tuple[Tensor, list[Tensor]]:
    """Label B images, (3, H, W) uint8 of any sizes, by the protocol's rule.

    The model must be in eval mode; the prompts, on the images' device, are those of the classes,
    then of the third if there is one.

    Returns:
        (B,) int64 classes, and B maps (h, w), the nearest class of each patch, in the ``map_type``
        of the classes.

    Raises:
        ValueError: an embedding contains NaN or infinity.
    """

    def reduce(stack: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        cosines = torch.einsum("behw,ke->bhwk", model.embed_patches(stack).float(), prompts.vectors)
        logits = by_class(_finite(cosines), prompts)
        if protocol.reduction == "pooled":
            pooled = _finite(model.embed_image(stack).float() @ prompts.vectors.T)
            labels = by_class(pooled, prompts).argmax(dim=1)
        else:
            labels = reduce_map(logits.flatten(1, 2), protocol)
        return zip(labels, as_map_type(logits.argmax(dim=3), classes=logits.shape[3]), strict=True)

    labels, maps = zip(*by_size(resize_all(images, protocol), reduce), strict=True)
    return torch.stack(labels), list(maps)


def reduce_map(logits: Tensor, protocol: RobustnessProtocol) -> Tensor:
    """Reduce logits (B, h * w, C) to labels (B,) by a rule on dense maps; ties go to the first
    class.
    """
    if protocol.reduction == "mean_logit":
        return logits.mean(dim=1).argmax(dim=1)
    classes = logits.shape[2]
    birds = classes - bool(protocol.third_class)
    best, nearest = logits.max(dim=2)
    if protocol.reduction == "majority":
        votes = torch.nn.functional.one_hot(nearest, classes)[..., :birds].sum(dim=1)
        label, won = votes.argmax(dim=1), votes.sum(dim=1) > 0
    else:
        height, place = best.masked_fill(nearest >= birds, -torch.inf).max(dim=1)
        label, won = nearest.gather(1, place.unsqueeze(1))[:, 0], height > -torch.inf
    return torch.where(won, label, classes - 1)
