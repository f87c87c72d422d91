"""Captions with one noun replaced, as negatives of their images.  B pairs on this rank."""

import torch
from torch import Tensor
from torch.nn import functional

from gestalt.support.devices import without_autocast
from gestalt.terms import Pairs, Parts, Term, mean_over_ranks
from gestalt.terms.noun_list import SameOnRanks
from gestalt.tokens import Padded


class HardNegatives(Term):
    """Logistic loss of an image's cosine with its caption against that with a negative, the caption with one noun replaced.

    Captions without a negative, those that name no noun of the list, take no part.  Every row of a batch is embedded, whether it has a
    negative or not, so that shapes stay the same and nothing waits for the device.

    Args:
        phrases: V nouns of the list as the text tower reads them, by which ranks check that they have the same list.
        alike: (V, V) bool, the nouns that do not replace each other, checked likewise; None for each noun itself only.

    Source: negative captions by substituted nouns: Gupta et al. 2020 (arXiv:2006.09920), where a language model proposes words that fit
    and the loss compares regions and words; NegCLIP, Yuksekgonul et al. 2022 (arXiv:2210.01936), compares whole captions, whose own words
    are swapped.  A noun drawn uniformly from the captions' frequent ones, one negative a caption, compared with it alone: ours.
    """

    def __init__(self, phrases: Padded, *, alike: Tensor | None = None) -> None:
        super().__init__()
        self.same = SameOnRanks(phrases.ids, term="hard_negatives", alike=alike)

    def forward(self, pairs: Pairs) -> Tensor:
        """Return this rank's share of the mean over the captions of all ranks that have a negative."""
        negatives = pairs.embed_text(Padded(pairs.batch["negative_ids"], pairs.batch["negative_mask"]))
        self.same.check(negatives.device)
        with without_autocast(negatives.device.type):
            wide = torch.promote_types(negatives.dtype, torch.float32)
            image, text = pairs.image.to(wide), pairs.text.to(wide)
            nearer = (image * (negatives.to(wide) - text)).sum(dim=-1)  # (B,), by how much the negative is nearer
            losses = functional.softplus(pairs.logit_scale.exp() * nearer)
            return mean_over_ranks(losses, pairs.batch["has_negative"] & pairs.valid_rows())


def build(parts: Parts) -> Term:
    """Build the term."""
    assert parts.phrases is not None
    return HardNegatives(parts.phrases, alike=parts.alike)
