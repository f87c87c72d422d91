"""Registries: a table of names for each choice, to which installed packages add rows with entry
points.

A package adds a row with an entry point in the group of the registry. The value of the entry point
has the form of a built-in row's target::

    [options.entry_points]
    gestalt.aggregations =
        median = my_package.pooling:median_of_parts

Names are known without importing the package; an object is imported when it is used.  An
``OpenRegistry`` also accepts objects of your own code, as ``python:package.module:Name``.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, TypeVar

BUILT_IN = "built in"

CODE = re.compile(r"python:([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*)")
"""Matches ``python:package.module:Name``, an object of your own code."""

OTHERS = (Exception, SystemExit)
"""Errors that third-party code may raise: any exception, and SystemExit."""

Target = TypeVar("Target")


class PluginError(ValueError):
    """An installed package adds a name that is taken, or an object that cannot be imported."""


@dataclass(frozen=True)
class Row:
    """A name that can be chosen.

    Attributes:
        name: what a configuration says.
        line: description in one line.
        target: ``module:object``, which is imported when it is used, or the object itself; empty
            for a name without an object.
        package: the package that adds it, with its version.

    Subclasses add fields that checks need without importing the object, such as
    ``needs_class_token``. An object of a package has them as attributes.
    """

    name: str
    line: str = ""
    target: Any = ""
    package: str = BUILT_IN


class Registry(Mapping[str, Target]):
    """Objects by name: those of the built-in rows, then those that installed packages add to the
    group.

    Args:
        group: name of the registry.  The group of entry points has the prefix ``gestalt.``.
        rows: the built-in rows, or objects by name.

    Attributes:
        built_in: the built-in rows by name.

    Raises:
        PluginError: when a row is looked up or names are listed: two rows share a name, or a
            package cannot be imported.
    """

    def __init__(self, group: str, rows: Iterable[Row] | Mapping[str, Target]) -> None:
        self.group = group
        if isinstance(rows, Mapping):
            rows = [Row(name, target=target) for name, target in rows.items()]
        self.built_in = {row.name: row for row in rows}

    def __getitem__(self, name: str) -> Target:
        """Return the object of a row, imported now."""
        if name not in self.built_in:
            entry = self.added[name]
            try:
                found: Target = entry.load()
            except OTHERS as error:
                raise PluginError(
                    f"gestalt.{self.group}: {name!r} of {package_of(entry)} ({entry.value}) cannot "
                    f"be imported: {in_one_line(error)}"
                ) from error
            named = getattr(found, "name", name)
            if named != name:
                raise PluginError(
                    f"gestalt.{self.group}: {package_of(entry)} adds {name!r}, but the row's name "
                    f"is {named!r}"
                )
            return found
        target: Any = self.built_in[name].target
        return resolve_name(target) if isinstance(target, str) else target

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

    def row(self, name: str) -> Any:
        """Return the row of a name.

        If a package adds the name, the object is imported, and the additional fields of the row are
        read from its attributes.
        """
        if name in self.built_in:
            return self.built_in[name]
        kind, found = type(next(iter(self.built_in.values()))), self[name]
        facts = vars(kind(name)).keys() - vars(Row(name)).keys()
        return kind(name, **{key: getattr(found, key) for key in facts if hasattr(found, key)})

    @property
    def added(self) -> dict[str, Any]:
        """Entry points of installed packages by name."""
        return added_to(self.group, tuple(self.built_in))

    def rows(self) -> list[Row]:
        """Return all rows, without importing packages.

        A row that a package adds is described by the first of these that exists: its docstring, the
        package's summary, or the path of its object.
        """
        added = [
            Row(
                name,
                docstring_of(entry.value) or entry.dist.metadata.json.get("summary", entry.value),
                entry.value,
                package=package_of(entry),
            )
            for name, entry in self.added.items()
        ]
        return [*self.built_in.values(), *added]


class OpenRegistry(Registry[Target]):
    """A registry that also accepts any object of your own code, which is imported when it is
    used.
    """

    def __getitem__(self, name: str) -> Target:
        """Return the object of a row, or the object that ``python:package.module:Name`` names."""
        return import_code(name) if CODE.fullmatch(name) else super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        """Return True for a row, and for any name of code, whose module may be missing."""
        return bool(CODE.fullmatch(str(name))) or super().__contains__(name)


def import_code(name: str) -> Any:
    """Import the object that ``python:package.module:Name`` names.

    Raises:
        PluginError: the object is missing, or importing it raises an error.
    """
    if complaint := code_complaint(name):
        raise PluginError(f"{name}: {complaint}")
    try:
        return resolve_name(name.removeprefix("python:"))
    except OTHERS as error:
        raise PluginError(f"{name}: {in_one_line(error)}") from error


def find_code(word: str) -> str:
    """Return the ``python:package.module:Name`` in a ``key=value`` word, which is the value or the
    last part of the key; empty if there is none.
    """
    key, _, value = word.partition("=")
    found = CODE.fullmatch(value) or CODE.fullmatch(key[key.find("python:") :])
    return found[0] if found else ""


def code_complaint(name: str) -> str:
    """Return the reason why ``python:package.module:Name`` cannot be imported, without importing
    it; empty if there is no such reason.
    """
    match = CODE.fullmatch(name)
    if match is None:
        return "expected python:PACKAGE.MODULE:NAME, such as python:my_package.models:Radio"
    top = match[1].partition(".")[0]
    if top in sys.modules or find_spec(top) is not None:
        return ""
    return (
        f"no module {top} is installed or lies in a folder of PYTHONPATH; in {Path.cwd()} it is "
        f"looked for if the command line names {name}"
    )


def search_here() -> None:
    """Let modules of the working directory be found, after all others, as ``python -m`` does.

    Only a word of the command line may enable this. Otherwise a file from elsewhere that names code
    could bring the code along.
    """
    if not {"", str(Path.cwd())} & set(sys.path):
        sys.path.append(str(Path.cwd()))


def in_one_line(error: BaseException) -> str:
    """Return the class and the message of an error of third-party code, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


@cache
def added_to(group: str, built_in: tuple[str, ...]) -> dict[str, Any]:
    """Return the entry points that installed packages add to a registry, by name.

    Raises:
        PluginError: a package adds a name that is built in, or two packages add the same name.
    """
    added = {}
    owners = dict.fromkeys(built_in, "gestalt-grouping")
    entries = entry_points(group=f"gestalt.{group}")
    for entry in sorted(entries, key=lambda entry: (entry.name, package_of(entry))):
        if entry.name in owners:
            raise PluginError(
                f"gestalt.{group}: {package_of(entry)} adds {entry.name!r}, a name of "
                f"{owners[entry.name]}; uninstall one, or rename it there"
            )
        owners[entry.name] = package_of(entry)
        added[entry.name] = entry
    return added


def docstring_of(place: str) -> str:
    """Return the first paragraph of the docstring of ``module``, or of a function or class
    ``module:object``, read from its file without an import; empty if none is found.
    """
    module, _, name = place.partition(":")
    top, *inner = module.split(".")
    with suppress(Exception):  # a third-party package may be anything
        spec: Any = find_spec(top)
        file = spec.origin
        if inner:
            (folder,) = spec.submodule_search_locations
            file = Path(folder, *inner)
            file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
        node: Any = ast.parse(Path(file).read_bytes())
        if name:
            node = next(item for item in node.body if getattr(item, "name", "") == name)
        return (ast.get_docstring(node) or "").partition("\n\n")[0].replace("\n", " ")
    return ""


def package_of(entry: Any) -> str:
    """Return the package that defines an entry point, with its version."""
    return f"{entry.dist.name} {entry.dist.version}"
