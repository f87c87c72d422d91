"""Build the terms of the loss, and the list of nouns that some of them read."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from gestalt.aggregation import mean_of_parts
from gestalt.config.schema import Experiment
from gestalt.data_modules.corpora.bad_samples import BadSample
from gestalt.data_modules.sources import Source
from gestalt.losses.keys import terms_of
from gestalt.losses.noun_list import NounList, frequent_nouns, similar_nouns
from gestalt.losses.terms import Parts, Term
from gestalt.model import DualEncoder
from gestalt.support.keys import refuse
from gestalt.support.typed import ConfigError
from gestalt.tables import TERMS

RUNS, RUN = 50, 100
"""Number of runs of neighbouring pairs, and of pairs in a run, whose captions give the list of
nouns.  The runs are spread evenly over the data; neighbours lie in one shard or group of rows,
which is read once."""


def reading_nouns(config: Experiment) -> list[str]:
    """Return the terms that read the nouns of the captions."""
    return [name for name in terms_of(config.loss) if TERMS.fact(name, "reads_nouns", False)]


def nouns_of(config: Experiment, source: Source) -> NounList | None:
    """List the nouns of the training captions, the same in every process; None if no term reads
    them.

    Raises:
        ConfigError: the captions name no noun often enough, or the data can only be read in
            sequence.
    """
    terms = reading_nouns(config)
    if not terms:
        return None
    key = f"loss.terms.{terms[0]}={config.loss.terms[terms[0]]}"
    if source.in_sequence:
        raise ConfigError(
            f"{key}: data.root is read in sequence, and the list of nouns needs pairs from all of "
            "it; name local tars instead"
        )
    options = config.loss
    nouns = frequent_nouns(
        _captions(source), most=options.nouns_most, least_share=options.nouns_least_share
    )
    if len(nouns) < 2:
        raise ConfigError(
            f"{key}: captions name {len(nouns)} nouns often enough, and 2 are needed; lower "
            f"loss.nouns_least_share={options.nouns_least_share}"
        )
    return nouns


def _captions(source: Source) -> Iterator[list[str]]:
    """Yield the captions of pairs that can be read."""
    for index in _read_indices(len(source)):
        try:
            yield source.texts(index)
        except BadSample:
            continue


def _read_indices(length: int) -> Iterable[int]:
    """Return the numbers of the pairs that are read, ascending."""
    if length <= RUNS * RUN:
        return range(length)
    starts = [number * (length - RUN) // (RUNS - 1) for number in range(RUNS)]
    return [start + offset for start in starts for offset in range(RUN)]


def build_terms(config: Experiment, model: DualEncoder, nouns: NounList | None) -> dict[str, Term]:
    """Build the terms with a weight above 0; each draws its parameters from ``seed`` alone."""
    if not terms_of(config.loss):
        return {}
    if nouns is not None and config.loss.nouns_alike is not None:
        nouns = NounList(nouns.nouns, similar=_similar(config, model, nouns))
    parts = Parts(
        config.loss,
        nouns,
        pad=model.text_tower.without_weights().pad,
        tower_width=model.image_tower.width,
        width=config.projection.width,
        seed=config.seed,
    )
    terms = {}
    with torch.random.fork_rng(devices=[]):  # a term changes no other random draw
        for name in terms_of(config.loss):
            torch.manual_seed(config.seed)
            terms[name] = TERMS[name](parts)
    return terms


def _similar(config: Experiment, model: DualEncoder, nouns: NounList) -> Tensor:
    """Return the nouns that are not negatives of each other, (V, V) bool, by the text tower's
    weights before training.

    Raises:
        ConfigError: a noun would have no negative.
    """
    level = config.loss.nouns_alike
    assert level is not None
    tower = model.text_tower
    training = tower.training
    phrases = tower.pad([config.loss.nouns_phrase.replace("{}", noun) for noun in nouns.nouns])
    with torch.no_grad():
        embeddings = mean_of_parts(tower.eval()(phrases))
    tower.train(training)
    similar = similar_nouns(embeddings, level=level)
    alone = int(similar.all(dim=1).sum())
    if alone:
        refuse(
            "loss.nouns_alike",
            level,
            f"{alone} of {len(nouns)} nouns are like every other noun, which leaves them no "
            "negative; raise loss.nouns_alike, or choose a loss.nouns_phrase with fewer words "
            "besides the noun",
        )
    return similar
