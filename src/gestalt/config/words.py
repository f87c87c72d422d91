"""Read the ``key=value`` words of the command line, which are called ``overrides`` in code."""

from collections.abc import Sequence

from gestalt.config.folders import EXPERIMENTS
from gestalt.support.keys import Keys, flatten, unflatten
from gestalt.support.typed import ConfigError, read_values

FOLDERS = {
    "name": "name the experiment after `gestalt train`",
    "scale": "a saved run keeps its scale; for a new run choose --scale",
}
"""Key that names a run's folder -> how to choose it.  Only a run's ``config.yaml`` may set it."""


def read_word(word: str) -> Keys:
    """Parse a ``key=value`` word of the command line into nested keys."""
    key, sign, value = word.partition("=")
    if not sign or not key:
        hint = f"{word!r}: an override is key=value, such as trainer.max_epochs=2"
        if word in [path.stem for path in (EXPERIMENTS / "scales").glob("*.yaml")]:
            hint += f"; for the scale write --scale {word}"
        raise ConfigError(hint)
    if key.isupper():
        raise ConfigError(
            f"{word!r}: {key} is not a key, but may be a variable of make, which goes outside "
            "ARGS; see gestalt --help"
        )
    if key in FOLDERS:
        raise ConfigError(f"{word}: not a key to set; {FOLDERS[key]}")
    try:
        return unflatten({key: read_values(value)})
    except ValueError as error:
        raise ConfigError(f"{word!r}: the value cannot be read: {error}") from error


def layers_of(words: Sequence[str]) -> list[tuple[str, Keys]]:
    """Return each word as a layer of :func:`gestalt.config.merge.merge`."""
    return [("command line", read_word(word)) for word in words]


def keys_named(words: Sequence[str]) -> set[str]:
    """Return the keys that words of the command line set."""
    return {key for word in words for key in flatten(read_word(word), keep_empty=True)}
