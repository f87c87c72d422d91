"""Build the terms of the loss for a model."""

import torch
from torch import Tensor

from gestalt.aggregation import mean_of_parts
from gestalt.config.schema import Experiment
from gestalt.losses.keys import terms_of
from gestalt.losses.noun_list import NounList, similar_nouns
from gestalt.losses.terms import Parts, Term
from gestalt.model import DualEncoder
from gestalt.support.keys import refuse
from gestalt.tables import TERMS


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
