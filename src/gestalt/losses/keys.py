"""The part of the schema on the loss."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from gestalt.support.keys import Key, Reader, key, positive, refuse, unhashed
from gestalt.support.names import nearest
from gestalt.tables import LOSSES, TERMS

NOUN_LIST = ("loss.nouns_most", "loss.nouns_least_share", "loss.nouns_alike")
"""Keys of the list of nouns, which count in a run with a term that reads it."""


@dataclass
class Loss:
    """The loss of a batch of images and texts, and auxiliary losses."""

    read_by: ClassVar[Reader] = Reader.TRAINING

    name: str = key("contrastive", "The loss function.", choices=LOSSES)
    directions: Literal["sum", "mean"] = key(
        "sum",
        "Sum or mean of the image-to-text and the text-to-image loss: the paper sums, its public "
        "code averages.",
    )
    equal_texts: Literal["negatives", "positives"] = key(
        "negatives", "How other images with the same caption are treated."
    )
    chunk: int | None = unhashed(
        None,
        "Images of a rank that the loss compares with all texts at a time: fewer need less memory "
        "and give the same loss. `null`: 2^24 pairs at a time.",
        kind="images",
        above=0,
    )
    pairs: float = key(
        1.0,
        "Weight of the contrastive loss on image-text pairs. 0: train with the auxiliary "
        "losses of `terms` alone.",
        at_least=0,
    )
    terms: dict[str, float] = key(
        {},
        f"Auxiliary losses and their weights: {', '.join(TERMS.built_in)}, those of installed "
        "packages, or `python:package.module:Name`. A weight of 0 leaves one out. Empty: the "
        "contrastive loss alone.",
    )
    options: dict[str, Any] = key(
        {},
        "Arguments of your own losses or those of a package, by the name of the function or "
        "class: `{warm: {heat: 2.0}}`.",
    )
    nouns_most: int = key(
        300,
        "Maximum number of nouns that `nouns` uses: the most frequent nouns of the captions.",
        kind="nouns",
        above=1,
    )
    nouns_least_share: float = positive(
        0.002,
        "Minimum share of the image-text pairs whose captions contain a noun for the noun to be "
        "used.",
        at_most=1,
    )
    nouns_alike: float | None = key(
        None,
        "Two nouns such as dog and puppy whose text embeddings before training have at least this "
        "cosine are not negatives of each other. `null`: every other noun is a negative.",
        above=-1,
        at_most=1,
    )
    nouns_phrase: str = key(
        "a photo of a {}",
        "Prompt template for a noun; `{}` stands for the noun.",
        pattern=r"[^{}]*\{\}[^{}]*",
        form="a text with {} in it",
    )
    nouns_pooling: Literal["max", "softmax", "image"] = key(
        "max",
        "What is compared with a noun: the best-matching patch, all patches weighted by the "
        "softmax of their cosines with the noun, or the pooled vector of the image "
        "(`image.aggregation`).",
    )
    nouns_temperature: float = positive(0.1, "Temperature of the softmax of `nouns_pooling`.")
    self_distillation_prototypes: int = key(
        8192, "Number of prototypes of `self_distillation`.", above=1
    )


def terms_of(loss: Loss) -> dict[str, float]:
    """Return the terms with a weight above 0, by name."""
    return {name: weight for name, weight in sorted(loss.terms.items()) if weight > 0}


def own_name(name: str) -> str:
    """Return the name of a loss or term among ``loss.options``; of code, that of its object."""
    return name.rpartition(":")[2]


def check_loss(loss: Loss) -> None:
    """Check the terms' names and weights, and the names that have options.

    Raises:
        ConfigError: names the key and what to choose.
    """
    if loss.directions != "sum" and LOSSES.row(loss.name).one_direction:
        why = f"loss.name={loss.name} compares a pair once, in no direction; choose sum"
        refuse("loss.directions", loss.directions, why)
    if loss.pairs == 0 and not terms_of(loss):
        refuse(
            "loss.pairs", loss.pairs, "nothing is left to train; add one of loss.terms, or choose 1"
        )
    for name, weight in loss.terms.items():
        if name not in TERMS:
            refuse(f"loss.terms.{name}", weight, f"not a term of the loss; {nearest(name, TERMS)}")
        if complaint := Key("", at_least=0).complaint(weight):
            refuse(f"loss.terms.{name}", weight, f"{complaint}; 0 leaves the term out")
    used = [own_name(name) for name in (loss.name, *terms_of(loss))]
    for name, options in loss.options.items():
        if name not in used:
            refuse(
                f"loss.options.{name}", options, f"no loss or term in use; {nearest(name, used)}"
            )
        if not isinstance(options, dict):
            why = "must be a mapping of arguments, such as {heat: 2.0}"
            refuse(f"loss.options.{name}", options, why)
