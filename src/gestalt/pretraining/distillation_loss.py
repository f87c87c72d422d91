"""Self-distillation's loss and its centre.  V crops, of which the first G are global, B batch, K prototypes."""

from typing import NamedTuple

import torch
from torch import Tensor, distributed, nn


class Distilled(NamedTuple):
    """One batch's loss, and what tells a collapse.  Entropies are in nats, between 0 and ln K.

    Attributes:
        loss: mean cross-entropy over pairs of crops and images.
        entropy: of the teacher's distribution of an image, mean over images; ln K where it says nothing.
        entropy_of_mean: of the teacher's mean distribution; near 0 where every image gets the same prototype.
    """

    loss: Tensor
    entropy: Tensor
    entropy_of_mean: Tensor


class DistillationLoss(nn.Module):
    """Cross-entropy between the teacher's centred and sharpened distribution and the student's, over pairs of different crops.

    Args:
        prototypes: K.
        student_temperature: divides the student's outputs.
        centre_momentum: how much of the old centre stays, [0, 1].

    Source: Caron et al. 2021 (arXiv:2104.14294), section 3.1 and equation 4.
    """

    centre: Tensor

    def __init__(self, prototypes: int, *, student_temperature: float, centre_momentum: float) -> None:
        super().__init__()
        self.student_temperature = student_temperature
        self.centre_momentum = centre_momentum
        self.register_buffer("centre", torch.zeros(prototypes))

    def forward(self, student: Tensor, teacher: Tensor, *, temperature: float) -> Distilled:
        """The loss by the centre as it is; then the centre moves.

        Args:
            student: (V, B, K), the global crops first.
            teacher: (G, B, K), of the same global crops; no gradient flows into it.
            temperature: divides the teacher's outputs.
        """
        teacher = teacher.detach().float()
        target = ((teacher - self.centre) / temperature).softmax(dim=-1)
        loss = cross_entropy(student.float() / self.student_temperature, target)
        entropy, entropy_of_mean = entropies(target)
        self._move_centre(teacher)
        return Distilled(loss, entropy, entropy_of_mean)

    @torch.no_grad()
    def _move_centre(self, teacher: Tensor) -> None:
        """Towards the mean of the teacher's outputs over crops, images and ranks; every rank holds as many images."""
        mean = teacher.mean(dim=(0, 1))
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(mean)
            mean /= distributed.get_world_size()
        self.centre.mul_(self.centre_momentum).add_(mean, alpha=1 - self.centre_momentum)


def cross_entropy(student: Tensor, target: Tensor) -> Tensor:
    """Mean over images and over pairs of a target's crop and another crop.

    Args:
        student: (V, B, K) logits.
        target: (G, B, K) distributions, of the student's first G crops.
    """
    logs = student.log_softmax(dim=-1)
    others = logs.sum(dim=0) - logs[: len(target)]  # (G, B, K): all crops but the target's own
    pairs = len(target) * (len(student) - 1)
    return -(target * others).sum(dim=-1).mean(dim=1).sum() / pairs


def entropies(target: Tensor) -> tuple[Tensor, Tensor]:
    """Mean entropy of the distributions (..., K), and the entropy of their mean, in nats."""
    flat = target.flatten(0, -2)
    return torch.special.entr(flat).sum(dim=-1).mean(), torch.special.entr(flat.mean(dim=0)).sum()
