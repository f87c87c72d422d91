"""Captions with one noun replaced, as negatives of their images.  B pairs on this rank."""

import re
from collections.abc import Container

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gestalt.data_modules.scenes.recipes import plural_of
from gestalt.losses.noun_list import NounList, SameOnRanks
from gestalt.losses.terms import Pairs, Parts, Term, mean_over_ranks
from gestalt.losses.words import IRREGULAR, LETTERS, may_be_noun, singular
from gestalt.support.devices import without_autocast
from gestalt.tokens import Padded

DRAW = 8
"""Number that tells the draw of a negative caption from other draws of the same (seed, epoch,
sample id).
"""


class HardNegatives(Term):
    """Logistic loss of an image's cosine with its caption against that with a negative, the caption
    with one noun replaced.

    Captions without a negative, those that name no noun of the list, take no part.  Every row of a
    batch is embedded, whether it has a negative or not, so that shapes stay the same.

    Source: negative captions by substituted nouns: Gupta et al. 2020 (arXiv:2006.09920), where a
    language model proposes words that fit and the loss compares regions and words; NegCLIP,
    Yuksekgonul et al. 2022 (arXiv:2210.01936), compares whole captions, whose own words are
    swapped.  A noun drawn uniformly from the captions' frequent ones, one negative a caption,
    compared with it alone: ours.
    """

    reads_nouns = True

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        assert parts.nouns is not None
        self.nouns = parts.nouns
        self.pad = parts.pad
        self.seed = parts.seed
        self.same = SameOnRanks(parts.nouns, term="hard_negatives")

    def forward(self, pairs: Pairs) -> Tensor:
        """Return this rank's share of the mean over the captions of all ranks that have a
        negative.
        """
        texts = pairs.batch["text"]
        keys = zip(pairs.batch["epoch"].tolist(), pairs.batch["sample_id"].tolist(), strict=True)
        drawn = [
            negative_of(text, self.nouns, seed=self.seed, epoch=epoch, sample_id=index)
            for text, (epoch, index) in zip(texts, keys, strict=True)
        ]
        device = pairs.image.device
        ids, mask = self.pad(
            [
                negative or text or self.nouns.nouns[0]
                for text, negative in zip(texts, drawn, strict=True)
            ]
        )
        negatives = pairs.embed_text(Padded(ids.to(device), mask.to(device)))
        counted = (
            torch.tensor([negative is not None for negative in drawn], device=device)
            & pairs.valid_rows()
        )
        self.same.check(device)
        with without_autocast(device.type):
            wide = torch.promote_types(negatives.dtype, torch.float32)
            image, text = pairs.image.to(wide), pairs.text.to(wide)
            # (B,), by how much the negative is nearer
            nearer = (image * (negatives.to(wide) - text)).sum(dim=-1)
            return mean_over_ranks(functional.softplus(pairs.logit_scale.exp() * nearer), counted)


def negative_of(text: str, nouns: NounList, *, seed: int, epoch: int, sample_id: int) -> str | None:
    """Replace one noun that a caption names by one of the list that it does not name and that is
    alike none of its nouns.

    Both are drawn uniformly; a pure function of its arguments.

    Returns:
        The negative caption; None if the caption names no noun of the list, or no noun is left to
        draw.
    """
    named = nouns.find(text)
    near = nouns.mark([text])[0]
    if nouns.similar is not None:
        near = nouns.similar[near].any(dim=0)  # a noun is alike itself
    others = [nouns.nouns[index] for index in (~near).nonzero().flatten().tolist()]
    if not named or not others:
        return None
    old, new = np.random.default_rng([seed, epoch, sample_id, DRAW]).random(2)
    negative = replace_noun(
        text, named[int(old * len(named))], others[int(new * len(others))], known=nouns.nouns
    )
    return None if negative.lower() == text.lower() else negative


WITH_ARTICLE = re.compile(rf"(?:\b(an?)(\s+))?({LETTERS})", re.ASCII | re.IGNORECASE)

PLURALS = {noun: plural for plural, noun in IRREGULAR.items()} | {
    "aircraft": "aircraft",
    **{noun: f"{noun}es" for noun in ("hero", "potato", "tomato")},
    **{noun: f"{noun}s" for noun in ("german", "human", "roman")},
}
"""Plurals that follow no rule of ``plural_of``, beside its own exceptions."""


def plural(noun: str) -> str:
    """Return the plural of a noun; the noun itself if it ends as plurals do, such as "shorts"."""
    if noun in PLURALS:
        return PLURALS[noun]
    return noun if re.search("[^su]s$", noun) else plural_of(noun)


def replace_noun(caption: str, old: str, new: str, *, known: Container[str]) -> str:
    """Replace a noun wherever a caption names it, a plural by a plural; capitals stay, and an
    article before it follows the new noun.

    ``old`` and ``new`` are singulars; ``known`` as in ``singular``.
    """

    def replaced(match: re.Match[str]) -> str:
        article, gap, word = match.groups()
        found = word.lower()
        if not may_be_noun(found) or singular(found, known=known) != old:
            return match[0]
        noun = new if found == old else plural(new)
        if word.isupper():
            noun = noun.upper()
        elif word[0].isupper():
            noun = noun.capitalize()
        if article is None:
            return noun
        vowel = re.match("[aeiou](?!ni[cfqtv])", new) is not None  # "a unicycle", "a uniform"
        return f"{article[0]}{'n' if vowel else ''}{gap}{noun}"

    return WITH_ARTICLE.sub(replaced, caption)
