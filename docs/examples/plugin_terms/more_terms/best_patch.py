"""The best patch of each image is drawn to its caption.

B pairs on this rank, N patches, E shared width.
"""

from torch import Tensor
from torch.nn import functional

from gestalt.losses.matrix import widen
from gestalt.losses.terms import Pairs, Parts, Term, mean_over_ranks
from gestalt.support.devices import without_autocast


class BestPatch(Term):
    """One minus the cosine of a caption with the most similar patch of its own image, averaged over
    the pairs of all ranks.

    Args:
        parts: what every term is built from.
        enough: a pair whose cosine is above this has no loss.
    """

    def __init__(self, parts: Parts, *, enough: float = 0.8) -> None:
        super().__init__()
        self.enough = enough

    def forward(self, pairs: Pairs) -> Tensor:
        """Return this rank's share."""
        with without_autocast(pairs.patches.device.type):
            patches, text = widen(pairs.patches, pairs.text)  # (B, N, E), (B, E)
            # channels that face patches: all, or the second half beside a class token
            text = functional.normalize(text[:, -patches.shape[2] :], dim=-1)
            cosines = (functional.normalize(patches, dim=-1) @ text.unsqueeze(2)).squeeze(2)
            loss = (1 - cosines.amax(dim=1)).clamp(min=1 - self.enough)
            return mean_over_ranks(loss, pairs.valid_rows())
