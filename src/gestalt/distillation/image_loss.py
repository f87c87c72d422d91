"""DistillationLoss: cross-entropy of the student to the centred teacher.  V crops, the first G global, B batch, K prototypes."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from gestalt.losses.gather import sum_over_ranks, world_size


class DistillationTerms(NamedTuple):
    """Loss of a batch, and entropies that reveal a collapse, in nats, [0, ln K].

    Attributes:
        loss: mean cross-entropy over pairs of crops and images.
        entropy: entropy of the teacher's distribution of an image, mean over images; ln K if it is uniform.
        entropy_of_mean: entropy of the teacher's mean distribution; near 0 if every image gets the same prototype.
    """

    loss: Tensor
    entropy: Tensor
    entropy_of_mean: Tensor


class DistillationLoss(nn.Module):
    """Cross-entropy of the student's distribution to the teacher's, centred and sharpened, over pairs of different crops.

    Args:
        prototypes: K.
        student_temperature: divides the student's outputs.
        centre_momentum: share of the old centre that a step keeps, [0, 1].

    Source: Caron et al. 2021 (arXiv:2104.14294), section 3.1 and equation 4.
    """

    centre: Tensor

    def __init__(self, prototypes: int, *, student_temperature: float, centre_momentum: float) -> None:
        super().__init__()
        self.student_temperature = student_temperature
        self.centre_momentum = centre_momentum
        self.register_buffer("centre", torch.zeros(prototypes))

    def forward(self, student: Tensor, teacher: Tensor, *, temperature: float) -> DistillationTerms:
        """Compute the loss with the current centre, then update the centre.

        Args:
            student: (V, B, K), the global crops first.
            teacher: (G, B, K), of the same global crops; it gets no gradient.
            temperature: divides the teacher's outputs.
        """
        teacher = teacher.detach().float()
        target = ((teacher - self.centre) / temperature).softmax(dim=-1)
        loss = cross_entropy(student.float() / self.student_temperature, target)
        entropy, entropy_of_mean = entropies(target)
        self._move_centre(teacher)
        return DistillationTerms(loss, entropy, entropy_of_mean)

    @torch.no_grad()
    def _move_centre(self, teacher: Tensor) -> None:
        """Move the centre towards the teacher's mean output over crops, images and ranks, which hold equally many images."""
        mean = sum_over_ranks(teacher.mean(dim=(0, 1))) / world_size()
        self.centre.mul_(self.centre_momentum).add_(mean, alpha=1 - self.centre_momentum)


def cross_entropy(student: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy, mean over images and over pairs of a target's crop and another crop.

    The student has (V, B, K) logits; the target (G, B, K) distributions, one for each of the student's first G crops.
    """
    logs = student.log_softmax(dim=-1)
    others = logs.sum(dim=0) - logs[: len(target)]  # (G, B, K): all crops but the target's own
    pairs = len(target) * (len(student) - 1)
    return -(target * others).sum(dim=-1).mean(dim=1).sum() / pairs


def entropies(target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean entropy of distributions (..., K) and the entropy of their mean, in nats."""
    flat = target.flatten(0, -2)
    return torch.special.entr(flat).sum(dim=-1).mean(), torch.special.entr(flat.mean(dim=0)).sum()
