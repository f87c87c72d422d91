"""Registries that installed packages add to, by entry points.

A package adds a row by an entry point in the group of the registry, whose value is the object that the built-in table holds::

    [options.entry_points]
    gestalt.aggregations =
        median = my_package.pooling:median_of_parts

Names are known without importing the package; an object is loaded when it is used.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

GROUPS = ("aggregations", "losses", "terms", "sources", "image_sets", "benchmarks", "protocols")
"""Names of the registries; the group of the entry points has ``gestalt.`` in front."""

BUILT_IN = "built in"

Row = TypeVar("Row")


class PluginError(ValueError):
    """An installed package adds a name that is taken, or an object that cannot be imported."""


class Registry(Mapping[str, Row], Generic[Row]):
    """A table by name: the built-in rows, then those that installed packages add to the group.

    Args:
        group: one of GROUPS.
        rows: the built-in rows.

    Attributes:
        built_in: the built-in rows by name.

    Raises:
        PluginError: when a row is looked up or names are listed: two rows share a name, or a package cannot be imported.
    """

    def __init__(self, group: str, rows: Mapping[str, Row]) -> None:
        self._group, self.built_in = group, dict(rows)

    def __getitem__(self, name: str) -> Row:
        """Return a row, imported if a package adds it."""
        if name in self.built_in:
            return self.built_in[name]
        entry = self.added[name]
        row: Row = load(self._group, entry)
        if getattr(row, "name", name) != name:
            raise PluginError(
                f"gestalt.{self._group}: {package_of(entry)} adds {name!r}, but the row's name is {getattr(row, 'name', '')!r}"
            )
        return row

    def __iter__(self) -> Iterator[str]:
        """Yield the names, built-in ones first, without importing a package."""
        yield from self.built_in
        yield from self.added

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self.built_in) + len(self.added)

    def __contains__(self, name: object) -> bool:
        """Return True if a row has this name, without importing a package."""
        return name in self.built_in or name in self.added

    @property
    def added(self) -> dict[str, EntryPoint]:
        """Entry points of installed packages by name."""
        return added_to(self._group, tuple(self.built_in))


@cache
def added_to(group: str, built_in: tuple[str, ...]) -> dict[str, EntryPoint]:
    """Return the entry points that installed packages add to a registry, by name.

    Raises:
        PluginError: a name is built in, or two packages add it.
    """
    added: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=f"gestalt.{group}"), key=lambda entry: (entry.name, package_of(entry))):
        other = package_of(added[entry.name]) if entry.name in added else "gestalt-grouping" if entry.name in built_in else None
        if other is not None:
            raise PluginError(
                f"gestalt.{group}: {package_of(entry)} adds {entry.name!r}, a name of {other}; uninstall one, or rename it there"
            )
        added[entry.name] = entry
    return added


def package_of(entry: EntryPoint) -> str:
    """Return the package that an entry point is of, with its version."""
    return "an unknown package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


def load(group: str, entry: EntryPoint) -> Any:
    """Import the object of an entry point.

    Raises:
        PluginError: names the package that cannot be imported.
    """
    try:
        return entry.load()
    except Exception as error:  # a package of others may raise anything
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise PluginError(f"gestalt.{group}: {entry.name!r} of {package_of(entry)} ({entry.value}) cannot be imported: {why}") from error
