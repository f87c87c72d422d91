"""Restrict what a configuration from elsewhere may use.  Code, files, addresses and a second model
are opened or run only if the user names them again.
"""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gestalt.config.schema import DEFAULTS, Experiment, to_plain
from gestalt.config.words import keys_named, read_word
from gestalt.support.keys import flatten
from gestalt.support.names import is_path
from gestalt.support.plugins import find_code
from gestalt.support.typed import ConfigError

PLACES = (
    "benchmark_root",
    "data.root",
    "data.options",
    "data.mixture",
    "data.captions.root",
    "data.manifest",
    "data.include",
    "data.cache",
    "evaluation.benchmarks",
    "evaluation.calibration",
    "evaluation.proxy",
    "evaluation.unlabelled",
)
"""Prefixes of keys that name files, folders, addresses or a second model that scoring or
``load_from_checkpoint`` opens.
"""


def code_of(config: Experiment) -> dict[str, str]:
    """Return ``key=value`` word -> name of the code, for each ``python:`` object that a
    configuration names.
    """
    words = [f"{key}={value}" for key, value in flatten(to_plain(config)).items()]
    return {word: code for word in words if (code := find_code(word))}


def refuse_code(code: Iterable[str], words: Sequence[str], *, origin: str) -> None:
    """Refuse ``python:`` code that a file from elsewhere names, unless words of the user name it
    too.

    Args:
        code: words from ``code_of`` for the file's configuration.
        words: words of the user.
        origin: the file.

    Raises:
        ConfigError: the message says which words trust the code.
    """
    keys = (flatten(read_word(word)) for word in words)
    given = {f"{key}={value}" for layer in keys for key, value in layer.items()}
    if missing := [word for word in code if word not in given]:
        raise ConfigError(
            f"{missing[0]}: {origin} names code, which would be run; if you trust it, add "
            f"{shlex.join(missing)} to the command, or to overrides of gestalt.load"
        )


@dataclass(frozen=True)
class Places:
    """Places that only a file from elsewhere names, and that must not be opened.

    Attributes:
        origin: the file.
        words: ``key=value``, quoted for the shell, for each place that the user has not named
            again. URLs are without secrets.
    """

    origin: str = ""
    words: Mapping[str, str] = field(default_factory=dict)

    def refuse(self, *prefixes: str) -> None:
        """Refuse to open the places whose keys begin with one of the prefixes.

        Raises:
            ConfigError: there are such places; the message has the words that name them.
        """
        found = [word for key, word in self.words.items() if key.startswith(prefixes)]
        if found:
            raise ConfigError(
                f"{' '.join(found)}: {self.origin} names what would be opened here; if you trust "
                "it, add these words to a command that takes key=value, or to overrides in Python; "
                "to open something else, give these keys other values"
            )


TRUSTED = Places()
"""No places, for a configuration of the user: everything that it names may be opened."""


def places_of(config: Experiment, words: Sequence[str], *, origin: str) -> Places:
    """Return the places that the configuration of a file from elsewhere names and that the user's
    words do not name again.

    Raises:
        ConfigError: the configuration names code, or a calibration, which every protocol would
            read.
    """
    refuse_code(code_of(config), words, origin=origin)
    named = keys_named(words)
    values = {
        key: value
        for key, value in flatten(to_plain(config)).items()
        if key.startswith(PLACES) and key not in named and value != DEFAULTS.get(key)
    }
    if not any(map(is_path, config.evaluation.benchmarks)):
        values.pop("evaluation.benchmarks", None)
    places = Places(
        origin,
        {
            key: shlex.quote(f"{key}={value if isinstance(value, str) else json.dumps(value)}")
            for key, value in values.items()
        },
    )
    if config.evaluation.calibration is not None:
        places.refuse("evaluation.calibration", "evaluation.benchmarks")
    return places
