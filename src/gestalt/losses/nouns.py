"""Nouns of captions against images.  B pairs on this rank, N patches, V nouns, E shared width."""

import torch
from torch import Tensor
from torch.nn import functional

from gestalt.losses.matrix import widen
from gestalt.losses.noun_list import NounList, check_same_on_ranks
from gestalt.losses.terms import Pairs, Parts, Term, mean_over_ranks
from gestalt.support.devices import without_autocast
from gestalt.support.ranks import logsumexp_over_ranks, sum_over_ranks
from gestalt.tokens import Padded, Tokens


class Nouns(Term):
    """Contrast of each noun that a caption names with other nouns and with other images.

    An image is as near to a noun as the patches that the noun selects: its nearest patch, or the
    mean of all patches weighted by the softmax of their cosines with it; or it is as near as its
    own vector.  Each noun that a caption names is told from the nouns that the caption does not
    name, and its image from the images whose captions do not name it.  Only nouns that the global
    batch names take part.  A noun that is like a named one, such as "animal" beside "dog", may be
    true of the image: it is neither a positive nor a negative.

    Every patch is compared with every noun by the cosine that segmentation reads, so a noun that is
    near to patches everywhere adds to the loss; the loss of pairs, whose maxima mix the channels of
    many patches, does not see that.

    Attributes:
        pooling: "max", "softmax" or "image".
        temperature: temperature of the softmax.
        ids, mask: the nouns as the text tower reads them.

    Source: multi-label contrast of nouns: Xu et al. 2022, GroupViT (arXiv:2202.11094), section 3.3;
    patches pooled by a noun: Stegmueller et al. 2024, SimZSS (arXiv:2406.16085), section 3.3; the
    nearest patch, and positives that never compete with each other: ours.
    """

    reads_captions = False
    ids: Tensor
    mask: Tensor
    similar: Tensor | None

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        loss, nouns = parts.loss, parts.nouns
        assert nouns is not None
        phrases = parts.pad([loss.nouns_phrase.replace("{}", noun) for noun in nouns.nouns])
        self.pooling = loss.nouns_pooling
        self.temperature = loss.nouns_temperature
        self._encoded: Tokens | None = None
        self._unchecked: NounList | None = nouns
        self.register_buffer("ids", phrases.ids, persistent=False)
        self.register_buffer("mask", phrases.mask, persistent=False)
        self.register_buffer("similar", nouns.similar, persistent=False)

    def forward(self, pairs: Pairs) -> Tensor:
        """Return this rank's share of the sum of both contrasts' means over the named nouns of all
        captions.
        """
        if self._unchecked is not None:
            check_same_on_ranks(self._unchecked)
            self._unchecked = None
        nouns = pairs.embed_text(self._phrases(pairs), of_locations=self.pooling != "image")
        with without_autocast(nouns.device.type):
            image, patches, nouns = widen(pairs.image, pairs.patches, nouns)
            nearness = self._nearness(image, patches, nouns)
            logits = nearness * pairs.logit_scale.exp()  # (B, V)
            valid = pairs.valid_rows().unsqueeze(1)
            named = pairs.batch["nouns"] & valid
            not_negative = named
            if self.similar is not None:
                not_negative = named.float() @ self.similar.float() > 0
            present = sum_over_ranks(named.sum(dim=0)) > 0
            others = logits.masked_fill(
                not_negative | ~valid | ~present, torch.finfo(logits.dtype).min / 4
            )
            other_nouns = others.logsumexp(dim=1, keepdim=True)
            other_images = logsumexp_over_ranks(others.logsumexp(dim=0))
            losses = functional.softplus(other_nouns - logits) + functional.softplus(
                other_images - logits
            )
            return mean_over_ranks(losses, named)

    def _phrases(self, pairs: Pairs) -> Padded | Tokens:
        """Return the nouns as the text tower reads them, or what a frozen tower made of them
        once.
        """
        if pairs.encode_text is None:
            return Padded(self.ids, self.mask)
        if self._encoded is None:
            with torch.no_grad():
                self._encoded = pairs.encode_text(Padded(self.ids, self.mask))
        return self._encoded

    def _nearness(self, image: Tensor, patches: Tensor, nouns: Tensor) -> Tensor:
        """Compare each image with each noun.  L2-normalised images (B, E) and nouns (V, E), and
        patches (B, N, E), not normalised, to cosines (B, V).
        """
        if self.pooling == "image":
            return image @ nouns.T
        patches = functional.normalize(patches, dim=-1)
        cosines = patches @ nouns.T  # (B, N, V)
        if self.pooling == "max":
            return cosines.max(dim=1).values
        weights = (cosines / self.temperature).softmax(dim=1).transpose(1, 2)  # (B, V, N)
        return (functional.normalize(weights @ patches, dim=-1) * nouns).sum(dim=-1)


class NounsOfImages(Nouns):
    """``Nouns`` with the pooling "image", beside one with another pooling."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self.pooling = "image"
