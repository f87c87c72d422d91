"""Build the loss of pairs, and the list of nouns that some of its terms read."""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Any

from gestalt.data_modules.pixels.bad_samples import BadSample
from gestalt.data_modules.sources import Source
from gestalt.losses.keys import Loss, own_name, terms_of
from gestalt.losses.matrix import ContrastiveTerms
from gestalt.losses.noun_list import NounList, frequent_nouns
from gestalt.support.keys import refuse
from gestalt.support.names import nearest
from gestalt.support.typed import ConfigError
from gestalt.tables import LOSSES, TERMS

OPTIONS = ("directions", "equal_texts", "chunk")
"""Keys of ``loss`` that are arguments of the loss function."""


PASSED = (*OPTIONS, "text_id", "valid", "logit_scale", "logit_bias", "measure")
"""Arguments of a loss that are no options: they have keys of their own, or the module passes them.
"""


def options_of(loss: Loss, name: str, function: Callable[..., Any]) -> dict[str, Any]:
    """Return the options of a loss or a term, which are arguments of its function or class with a
    default.

    Raises:
        ConfigError: it has no such argument.
    """
    taken = [
        argument.name
        for argument in inspect.signature(function).parameters.values()
        if argument.default is not argument.empty and argument.name not in PASSED
    ]
    options: dict[str, Any] = loss.options.get(own_name(name), {})
    for option, value in options.items():
        if option not in taken:
            choice = nearest(option, taken) if taken else "it takes none"
            refuse(f"loss.options.{own_name(name)}.{option}", value, f"no such argument; {choice}")
    return options


def build_loss(loss: Loss) -> Callable[..., ContrastiveTerms]:
    """Return the loss function with the options bound that its signature names.

    Raises:
        ConfigError: another option is changed; ``**others`` might ignore it.
    """
    function = LOSSES[loss.name]
    named = inspect.signature(function).parameters
    options = {option: getattr(loss, option) for option in OPTIONS}
    for option, value in options.items():
        default = getattr(Loss, option)
        if option not in named and value != default:
            why = f"loss.name={loss.name} has no argument of this name"
            refuse(
                f"loss.{option}", value, f"{why}; choose {'null' if default is None else default}"
            )
    options = {key: value for key, value in options.items() if key in named}
    return partial(function, **options, **options_of(loss, loss.name, function))


RUNS, RUN = 50, 100
"""Number of runs of neighbouring pairs, and of pairs in a run, whose captions give the list of
nouns.  The runs are spread evenly over the data; neighbours lie in one shard or group of rows,
which is read once."""


def reading_nouns(loss: Loss) -> list[str]:
    """Return the terms that read the nouns of the captions."""
    return [name for name in terms_of(loss) if TERMS.row(name).reads_nouns]


def list_nouns(loss: Loss, source: Source) -> NounList | None:
    """List the nouns of the training captions, the same in every process; None if no term reads
    them.

    Raises:
        ConfigError: the captions name no noun often enough, or the data can only be read in
            sequence.
    """
    terms = reading_nouns(loss)
    if not terms:
        return None
    key = f"loss.terms.{terms[0]}={loss.terms[terms[0]]}"
    if source.in_sequence:
        raise ConfigError(
            f"{key}: data.root is read in sequence, and the list of nouns needs pairs from all of "
            "it; name local tars instead"
        )
    nouns = frequent_nouns(
        _captions(source), most=loss.nouns_most, least_share=loss.nouns_least_share
    )
    if len(nouns) < 2:
        raise ConfigError(
            f"{key}: captions name {len(nouns)} nouns often enough, and 2 are needed; lower "
            f"loss.nouns_least_share={loss.nouns_least_share}"
        )
    return nouns


def _captions(source: Source) -> Iterator[list[str]]:
    """Yield the captions of pairs that can be read, by ascending number."""
    length = len(source)
    runs = [range(length)]
    if length > RUNS * RUN:
        starts = (number * (length - RUN) // (RUNS - 1) for number in range(RUNS))
        runs = [range(start, start + RUN) for start in starts]
    for index in chain.from_iterable(runs):
        try:
            yield source.texts(index)
        except BadSample:
            continue
