"""Text-conditioned pooling: each caption pools the patches of each image.

B pairs on this rank, G pairs on all ranks, N patches, E shared width.
"""

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from gestalt.losses.matrix import BLOCK, compare, widen
from gestalt.losses.terms import Pairs, Parts, Term, mean_over_ranks
from gestalt.support.devices import without_autocast
from gestalt.support.ranks import logsumexp_over_ranks


class TextConditioned(Term):
    """Symmetric cross-entropy over images and captions of all ranks, where an image's vector
    depends on the caption it is compared with.

    The vector is the mean of the patches, weighted by the softmax of their cosines with the
    caption.  The comparison is its cosine with that caption.  A negative caption pools by itself,
    since pooling by the true caption would tell the answer.  Further pairs with an equal caption
    are neither positives nor negatives.

    Source: Xiao et al. 2025, FLAIR (arXiv:2412.03561), section 3.2, without its projections, heads
    and zero key (a cosine does not see the key), and with the softmax of the loss of pairs in place
    of the sigmoid.
    """

    def __init__(self, parts: Parts, *, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature  # of the softmax over patches

    def forward(self, pairs: Pairs) -> Tensor:
        """Return this rank's share of the sum of both directions' means over valid pairs."""
        with without_autocast(pairs.patches.device.type):
            patches, image, text = widen(pairs.patches, pairs.image, pairs.text)
            patches = functional.normalize(patches, dim=-1)
            valid = pairs.valid_rows()
            texts, matrix = compare(image, text, text_id=pairs.text_id, valid=valid, measure=False)
            # channels that face patches: all, or the second half beside a class token
            texts = functional.normalize(texts[:, -patches.shape[2] :], dim=-1)
            grams = patches @ patches.transpose(1, 2)  # (B, N, N)
            size = max(1, BLOCK // max(1, patches.shape[0] * patches.shape[1]))
            blocks = [
                checkpoint(_pool, patches, grams, part, self.temperature, use_reentrant=False)
                for part in texts.split(size)
            ]
            logits = torch.cat(blocks, dim=1) * pairs.logit_scale.exp()  # (B, G)
            further = matrix.same_caption()  # pairs with an equal caption
            matrix.positives(further).fill_(False)
            logits = matrix.masked(logits).masked_fill(further, torch.finfo(logits.dtype).min / 4)
            normaliser = logsumexp_over_ranks(logits.logsumexp(dim=0))
            columns = normaliser[matrix.first : matrix.first + len(logits)]
            losses = logits.logsumexp(dim=1) + columns - 2 * matrix.positives(logits)
            return mean_over_ranks(losses, valid)


def _pool(patches: Tensor, grams: Tensor, texts: Tensor, temperature: float) -> Tensor:
    """Return the cosine of each caption with the patches of each image as it pools them.

    The length of a pooled vector follows from the products of its image's patches, so that no
    vector is made for each pair.

    Args:
        patches: (B, N, E), L2-normalised, or zero for an image that does not count.
        grams: (B, N, N), their products.
        texts: (T, E), L2-normalised.
        temperature: temperature of the softmax.

    Returns:
        (B, T).
    """
    cosines = (patches @ texts.T).transpose(1, 2)  # (B, T, N)
    weights = (cosines / temperature).softmax(dim=2)
    squared = ((weights @ grams) * weights).sum(dim=2)
    return (weights * cosines).sum(dim=2) * squared.clamp(min=1e-12).rsqrt()
