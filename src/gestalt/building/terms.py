"""Build the terms of the loss, and the list of nouns that some of them read."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from data_modules.corpora.bad_samples import BadSample
from data_modules.order import Key
from data_modules.sources import Source
from gestalt.aggregation import mean_of_parts
from gestalt.config.schema import ConfigError, Experiment, refuse
from gestalt.config.schema_loss import terms_of
from gestalt.encoders.text import TextTower
from gestalt.model import DualEncoder
from gestalt.tables import TERMS
from gestalt.terms import Parts, Term
from gestalt.terms.noun_list import NounList, alike_nouns, frequent_nouns
from gestalt.tokens import Padded

RUNS, RUN = 50, 100
"""Number of runs of neighbouring pairs, and of pairs in a run, whose captions give the list of nouns.  The runs are spread evenly over the
data; neighbours lie in one shard or group of rows, which is read once."""


def nouns_of(config: Experiment, source: Source) -> NounList | None:
    """List the nouns of the training captions, alike in every process; None if no term reads them.

    Raises:
        ConfigError: the captions name no noun often enough, or the data can only be read in sequence.
    """
    terms = [name for name in terms_of(config.loss) if TERMS.fact(name, "reads_nouns", False)]
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


@dataclass(frozen=True)
class Negatives:
    """The reader of negative captions, for loading processes.

    Attributes:
        nouns: what is replaced, and by what.
        tower: a text tower that tokenises, without weights.
        seed: seed of the draws.
    """

    nouns: NounList
    tower: TextTower
    seed: int

    def read(self, texts: Sequence[str], keys: Sequence[Key]) -> dict[str, Tensor]:
        """Return which captions have a negative, and its tokens; other rows have the tokens of some text, so that no row is empty.

        Like a caption, a negative is drawn by the true epoch under ``data.crops`` too.
        """
        drawn = [
            self.nouns.negative(text, seed=self.seed, epoch=epoch, sample_id=index)
            for text, (epoch, index) in zip(texts, keys, strict=True)
        ]
        ids, mask = self.tower.pad([negative or text or self.nouns.nouns[0] for text, negative in zip(texts, drawn, strict=True)])
        return {"has_negative": torch.tensor([negative is not None for negative in drawn]), "negative_ids": ids, "negative_mask": mask}


def negatives_of(config: Experiment, model: DualEncoder, *, nouns: NounList | None) -> Negatives | None:
    """Return the reader of negative captions; None without the term that compares them."""
    if nouns is None or "hard_negatives" not in terms_of(config.loss):
        return None
    nouns = NounList(nouns.nouns, alike=_alike(config, model, nouns))
    return Negatives(nouns, model.text_tower.without_weights(), seed=config.seed)


def build_terms(config: Experiment, model: DualEncoder, *, nouns: NounList | None) -> dict[str, Term]:
    """Build the terms with a weight above 0; each draws its parameters from ``seed`` alone."""
    terms = terms_of(config.loss)
    if not terms:
        return {}
    phrases = None if nouns is None else _phrases(config, model, nouns)
    alike = None if nouns is None else _alike(config, model, nouns)
    parts = Parts(config.loss, phrases, tower_width=model.image_tower.width, width=config.projection.width, alike=alike)
    built = {}
    with torch.random.fork_rng(devices=[]):  # a term changes no other random draw
        for name in terms:
            torch.manual_seed(config.seed)
            built[name] = TERMS[name](parts)
    return built


def _phrases(config: Experiment, model: DualEncoder, nouns: NounList) -> Padded:
    """Return the nouns as the text tower reads them."""
    return model.text_tower.pad([config.loss.nouns_phrase.replace("{}", noun) for noun in nouns.nouns])


def _alike(config: Experiment, model: DualEncoder, nouns: NounList) -> Tensor | None:
    """Return the nouns that are not negatives of each other, by the text tower's weights before training; None for each itself only.

    Raises:
        ConfigError: a noun would have no negative.
    """
    level = config.loss.nouns_alike
    if level is None:
        return None
    tower = model.text_tower
    training = tower.training
    with torch.no_grad():
        embeddings = mean_of_parts(tower.eval()(_phrases(config, model, nouns)))
    tower.train(training)
    alike = alike_nouns(embeddings, level=level)
    alone = int(alike.all(dim=1).sum())
    if alone:
        why = f"{alone} of {len(nouns)} nouns are alike every other noun, which leaves them no negative"
        refuse("loss.nouns_alike", level, f"{why}; raise it, or choose a loss.nouns_phrase with fewer words besides the noun")
    return alike
