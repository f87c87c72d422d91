"""The part of the schema on the loss."""

from dataclasses import dataclass
from typing import Literal

from gestalt.config.keys import key

LOSSES = {
    "contrastive": "symmetric cross-entropy between the images and texts of a batch, over all ranks",
    "sigmoid": "SigLIP's logistic loss of each image with each text, over all ranks, with a learned bias",
}
"""The built-in losses and what they are; ``loss.py`` has the functions."""

TERMS = {
    "hard_negatives": "each image is nearer to its caption than to the caption with one noun replaced",
    "nouns": "each noun of a caption is told from other nouns and from other images by the patches that it selects, over all ranks",
    "self_distillation": "patches of a masked image predict the prototypes of the same patches of the whole image",
    "text_conditioned": "each caption pools the patches of each image by attention, and is compared with that, over all ranks",
}
"""The built-in terms and what they are; the files of ``terms/`` have the modules."""

NOUN_TERMS = ("nouns", "hard_negatives")
"""Terms that read the nouns of captions."""

NOUN_LIST = ("loss.nouns_most", "loss.nouns_least_share", "loss.nouns_alike")
"""Keys of the list of nouns, which count in a run with any of these terms."""


@dataclass
class Loss:
    """The loss of a batch of images and texts, symmetric and contrastive unless an installed package adds another."""

    name: str = key("contrastive", "The loss function.", choices=tuple(LOSSES), registry="losses")
    directions: Literal["sum", "mean"] = key(
        "sum", "Sum or mean of the image-to-text and the text-to-image loss: the paper sums, its public code averages."
    )
    equal_texts: Literal["negatives", "positives"] = key("negatives", "How other images with the same caption are treated.")
    chunk: int | None = key(
        None,
        "Images of a rank that the loss compares with all texts at a time: fewer need less memory and give the same loss. `null`: 2^24 "
        "pairs at a time.",
        kind="images",
        above=0,
        hashed=False,
    )
    terms: dict[str, float] = key(
        {},
        f"Further terms of the loss and their weights: {', '.join(TERMS)}, or those of installed packages. Weight 0 leaves a term out; "
        "empty: the loss of pairs alone.",
    )
    nouns_most: int = key(
        300,
        "Largest number of nouns that `nouns` and `hard_negatives` read: the most frequent nouns of the captions.",
        kind="nouns",
        above=1,
    )
    nouns_least_share: float = key(
        0.002, "Smallest share of the pairs whose captions must contain a noun for the noun to be read.", above=0, at_most=1
    )
    nouns_alike: float | None = key(
        None,
        "Cosine, of the text tower's embeddings before training, from which on two nouns such as dog and puppy are not negatives of each "
        "other. `null`: every other noun is a negative.",
        above=-1,
        at_most=1,
    )
    nouns_phrase: str = key(
        "a photo of a {}",
        "Text that embeds a noun; `{}` stands for the noun.",
        pattern=r"[^{}]*\{\}[^{}]*",
        form="a text with {} in it",
    )
    nouns_pooling: Literal["max", "softmax"] = key(
        "max",
        "Patches that a noun selects: the nearest one, or all of them, weighted by the softmax of their cosines with the noun.",
    )
    nouns_temperature: float = key(0.1, "Temperature of the softmax of `nouns_pooling`.", above=0)
    text_conditioned_temperature: float = key(0.1, "Temperature of the softmax over patches in `text_conditioned`.", above=0)
    self_distillation_prototypes: int = key(8192, "Number of prototypes of `self_distillation`.", above=1)


def terms_of(loss: Loss) -> dict[str, float]:
    """Return the terms with a weight above 0, by name."""
    return {name: weight for name, weight in sorted(loss.terms.items()) if weight > 0}
