"""The class of an image by a rule on its dense map, with a third class for everything else.
B batch, C classes, E shared width, h w patch grid.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gestalt.data_modules.image_sets import LabelSet
from gestalt.encoders.dense_model import DenseModel
from gestalt.measures.classification.callback import by_class
from gestalt.measures.evaluation.images import by_size, finite, resize_all
from gestalt.measures.evaluation.prompts import ClassEmbeddings
from gestalt.measures.robustness.protocol import RobustnessProtocol

NO_CLASS = "no image has a nearest class"


def with_third(labels: LabelSet, third_class: tuple[str, ...]) -> LabelSet:
    """Append a class for everything else to a label set, unless it has no phrases; it competes by
    its prompts.
    """
    further = (third_class,) if third_class else ()
    return replace(
        labels,
        names=(*labels.names, *map(" or ".join, further)),
        prompts=(*labels.prompts, *further),
        background=None,
    )


@torch.no_grad()
def reduced_labels(
    model: DenseModel,
    images: Sequence[Tensor],
    prompts: ClassEmbeddings,
    protocol: RobustnessProtocol,
) -> Tensor:
    """Label B images, (3, H, W) uint8 of any sizes, by the protocol's rule.

    The model must be in eval mode; the prompts, on the images' device, are those of the classes,
    then of the third if there is one.

    Returns:
        (B,) int64 classes.

    Raises:
        ValueError: an embedding contains NaN or infinity.
    """

    def reduce(stack: Tensor) -> Tensor:
        if protocol.reduction == "pooled":
            pooled = finite(model.embed_image(stack).float() @ prompts.vectors.T, NO_CLASS)
            return by_class(pooled, prompts).argmax(dim=1)
        cosines = torch.einsum("behw,ke->bhwk", model.embed_patches(stack).float(), prompts.vectors)
        logits = by_class(finite(cosines, NO_CLASS), prompts)
        return reduce_map(logits.flatten(1, 2), protocol)

    return torch.stack(by_size(resize_all(images, protocol), reduce))


def reduce_map(logits: Tensor, protocol: RobustnessProtocol) -> Tensor:
    """Reduce logits (B, h * w, C) to labels (B,) by a rule on dense maps; ties go to the first
    class.
    """
    if protocol.reduction == "mean_logit":
        return logits.mean(dim=1).argmax(dim=1)
    classes = logits.shape[2]
    birds = classes - 1 if protocol.third_class else classes
    best, nearest = logits.max(dim=2)
    if protocol.reduction == "majority":
        votes = torch.nn.functional.one_hot(nearest, classes)[..., :birds].sum(dim=1)
        label, won = votes.argmax(dim=1), votes.sum(dim=1) > 0
    else:
        height, place = best.masked_fill(nearest >= birds, -torch.inf).max(dim=1)
        label, won = nearest.gather(1, place.unsqueeze(1))[:, 0], height > -torch.inf
    return torch.where(won, label, classes - 1)
