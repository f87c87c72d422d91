"""list: print what can be chosen by name, what each is, and whether it is built in or of an installed package."""

import ast
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from gestalt.config.loading import EXPERIMENTS
from gestalt.config.schema import AGGREGATIONS, INIT_WORDS
from gestalt.config.schema_loss import LOSSES, TERMS
from gestalt.evaluation.benchmarks import BENCHMARKS, Benchmark
from gestalt.evaluation.measures import MEASURES, PROTOCOL_KEYS
from gestalt.evaluation.protocols import PRESETS
from gestalt.runs.names import EXTERNAL
from gestalt.support.plugins import BUILT_IN, added_to, package_of


class Row(NamedTuple):
    """A name that can be chosen."""

    name: str
    description: str
    origin: str = BUILT_IN


def run(arguments: Namespace) -> int:
    """Print one table, or all."""
    for kind in [arguments.kind] if arguments.kind else KINDS:
        if arguments.kind is None:
            print(f"\n{kind}")
        _print(KINDS[kind]())
    return 0


def _print(rows: list[Row]) -> None:
    name, origin = max(len(row.name) for row in rows), max(len(row.origin) for row in rows)
    for row in rows:
        print(f"  {row.name:<{name}}  {row.origin:<{origin}}  {row.description}")


def _added(registry: str, built_in: Iterable[str]) -> Iterator[Row]:
    """Yield the names that installed packages add, with the summaries of the packages; none is imported."""
    for name, entry in added_to(registry, tuple(built_in)).items():
        metadata = {} if entry.dist is None else entry.dist.metadata.json
        yield Row(name, str(metadata.get("summary", "")), package_of(entry))


def _described(registry: str, rows: Mapping[str, str]) -> list[Row]:
    return [*(Row(name, description) for name, description in rows.items()), *_added(registry, rows)]


def _yaml(folder: Path) -> list[Row]:
    """Return the files of a folder with their first comment."""
    return [Row(path.stem, _first_sentence(path.read_text().splitlines()[0].lstrip("# "))) for path in sorted(folder.glob("*.yaml"))]


def _first_sentence(text: str) -> str:
    return text.partition("    Source:")[0].partition(".  ")[0].rstrip(".")


def _modules(package: str) -> dict[str, str]:
    """Return the modules of a package with the first sentence of each, none of them imported."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    files = {path.stem: path for path in sorted(folder.glob("[!_]*.py"))} | {
        path.parent.name: path for path in folder.glob("*/__init__.py")
    }
    texts = {name: ast.get_docstring(ast.parse(file.read_text())) or "" for name, file in files.items()}
    return {name: _first_sentence(text.partition("\n")[0]) for name, text in texts.items()}


def _benchmark(row: Benchmark) -> str:
    files = f"; {row.layout}" if row.layout else ""
    return f"{', '.join(row.measures)} on {row.image_set}{files}"


def _protocols() -> list[Row]:
    rows = {name: f"segmentation: {preset.protocol.source or 'ours'}" for name, preset in PRESETS.built_in.items()}
    tables = {key.removesuffix("_protocol"): table for key, table in PROTOCOL_KEYS.items() if key != "protocol"}
    others = [Row(name, f"{kind}: {row.input_size} px, {row.resize}") for kind, table in tables.items() for name, row in table.items()]
    return [*_described("protocols", rows), *others]


def _measures() -> list[Row]:
    described = _modules("gestalt.measures")
    return [Row(name, described[name]) for name in MEASURES]


KINDS: dict[str, Callable[[], list[Row]]] = {
    "experiments": lambda: _yaml(EXPERIMENTS),
    "scales": lambda: _yaml(EXPERIMENTS / "scales"),
    "grids": lambda: _yaml(EXPERIMENTS / "ablations"),
    "aggregations": lambda: _described("aggregations", AGGREGATIONS),
    "inits": lambda: [Row(name, description) for name, description in INIT_WORDS.items()],
    "losses": lambda: _described("losses", LOSSES),
    "terms": lambda: _described("terms", TERMS),
    "sources": lambda: _described("sources", _modules("data_modules.sources")),
    "image_sets": lambda: _described("image_sets", _modules("data_modules.image_sets")),
    "benchmarks": lambda: _described("benchmarks", {name: _benchmark(row) for name, row in BENCHMARKS.built_in.items()}),
    "protocols": _protocols,
    "measures": _measures,
    "models": lambda: [Row(kind, description) for kind, description in EXTERNAL.items()],
}
