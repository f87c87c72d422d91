"""Build the terms of the loss, and the list of nouns that some of them read."""

from collections.abc import Iterator

import torch

from data_modules.corpora.bad_samples import BadSample
from data_modules.sources import Source
from gestalt.config.schema import ConfigError, Experiment
from gestalt.config.schema_loss import NOUN_TERMS
from gestalt.model import DualEncoder
from gestalt.terms import Term
from gestalt.terms.noun_list import NounList, frequent_nouns
from gestalt.terms.table import TERMS, Parts

PAIRS = 5000
"""Most pairs whose captions are read for the list of nouns, spread evenly over the data."""


def nouns_of(config: Experiment, source: Source) -> NounList | None:
    """List the nouns of the training captions, alike in every process; None if no term reads them.

    Raises:
        ConfigError: the captions name no noun often enough, or the data can only be read in sequence.
    """
    terms = [name for name in NOUN_TERMS if name in config.loss.terms]
    if not terms:
        return None
    key = f"loss.terms.{terms[0]}={config.loss.terms[terms[0]]}"
    if source.in_sequence:
        raise ConfigError(
            f"{key}: data.root is read in sequence, and the list of nouns needs pairs from all of it; name local tars instead"
        )
    options = config.loss
    nouns = frequent_nouns(_captions(source), most=options.nouns_most, least_share=options.nouns_least_share)
    if len(nouns) < 2:
        why = f"captions name {len(nouns)} nouns often enough, and 2 are needed"
        raise ConfigError(f"{key}: {why}; lower loss.nouns_least_share={options.nouns_least_share}")
    return nouns


def _captions(source: Source) -> Iterator[list[str]]:
    """Yield the captions of pairs that can be read."""
    count = min(PAIRS, len(source))
    for number in range(count):
        try:
            yield source.texts(number * len(source) // count)
        except BadSample:
            continue


def build_terms(config: Experiment, model: DualEncoder, *, nouns: NounList | None) -> dict[str, Term]:
    """Build the terms that ``loss.terms`` names."""
    if not config.loss.terms:
        return {}
    phrases = None
    if nouns is not None:
        phrases = model.text_tower.pad([config.loss.nouns_phrase.replace("{}", noun) for noun in nouns.nouns])
    parts = Parts(config.loss, phrases=phrases, tower_width=model.image_tower.width, width=config.projection.width)
    with torch.random.fork_rng(devices=[]):  # a term changes no other random draw
        torch.manual_seed(config.seed)
        return {name: TERMS[name](parts) for name in config.loss.terms}
