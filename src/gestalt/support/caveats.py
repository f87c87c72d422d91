"""Caveats: warnings of what a result does not show by itself."""


class Caveat(UserWarning):
    """A fact about a model or its labels without which a result misleads."""
