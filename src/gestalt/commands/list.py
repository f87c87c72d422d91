"""list: print the names that can be chosen, a description of each, and whether it is built in or
comes from an installed package.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from gestalt.config.folders import EXPERIMENTS
from gestalt.data_modules.opening import modules_of
from gestalt.measures.evaluation.benchmarks import BENCHMARKS
from gestalt.measures.evaluation.measures import MEASURES
from gestalt.measures.segmentation.presets import PRESETS
from gestalt.models.zoo.kinds import EXTERNAL
from gestalt.support.plugins import BUILT_IN, Row, docstring_of
from gestalt.tables import (
    AGGREGATIONS,
    IMAGE_TOWERS,
    INITS,
    LOSSES,
    PROJECTIONS,
    READINGS,
    TERMS,
    TEXT_TOWERS,
)


def _yaml(folder: Path) -> list[Row]:
    """Return a row for each YAML file of a folder, with the file's first comment."""
    return [
        Row(path.stem, _first_sentence(path.read_text().splitlines()[0].lstrip("# ")))
        for path in sorted(folder.glob("*.yaml"))
    ]


def _first_sentence(text: str) -> str:
    return text.partition("    Source:")[0].partition(".  ")[0].rstrip(".")


def _folder(group: str) -> list[Row]:
    """Return the rows of a registry whose built-in entries are the files of a folder.  No file is
    imported.
    """
    return [
        replace(row, line=_first_sentence(row.line or docstring_of(str(row.target))))
        for row in modules_of(group).rows()
    ]


def _benchmarks() -> list[Row]:
    rows = []
    for row in BENCHMARKS.rows():
        if row.package == BUILT_IN:
            files = f"; {row.target.layout}" if row.target.layout else ""
            line = f"{', '.join(row.target.measures)} on {row.target.image_set}{files}"
            row = replace(row, line=line)
        rows.append(row)
    return rows


def _protocols() -> list[Row]:
    rows = []
    for row in PRESETS.rows():
        source = row.target.protocol.source or "ours" if row.package == BUILT_IN else ""
        rows.append(replace(row, line=f"segmentation: {source}") if source else row)
    for measure in MEASURES.built_in:
        of_measure = MEASURES[measure]
        if measure != "segmentation":
            rows += [
                Row(name, f"{measure}: {protocol.input_size} px, {protocol.resize}")
                for name, protocol in of_measure.protocols.items()
            ]
    return rows


KINDS: dict[str, Callable[[], list[Row]]] = {
    "experiments": lambda: _yaml(EXPERIMENTS),
    "scales": lambda: _yaml(EXPERIMENTS / "scales"),
    "grids": lambda: _yaml(EXPERIMENTS / "ablations"),
    "surveys": lambda: _yaml(EXPERIMENTS / "surveys"),
    "aggregations": AGGREGATIONS.rows,
    "projections": PROJECTIONS.rows,
    "inits": lambda: list(INITS.values()),
    "losses": LOSSES.rows,
    "terms": TERMS.rows,
    "readings": READINGS.rows,
    "image_towers": IMAGE_TOWERS.rows,
    "text_towers": TEXT_TOWERS.rows,
    "sources": lambda: _folder("sources"),
    "image_sets": lambda: _folder("image_sets"),
    "benchmarks": _benchmarks,
    "protocols": _protocols,
    "measures": lambda: [
        replace(row, line=row.target.description) if row.package == BUILT_IN else row
        for row in MEASURES.rows()
    ],
    "models": lambda: [Row(name, kind.line) for name, kind in EXTERNAL.items()],
}


def flags(parser: ArgumentParser) -> None:
    """Declare the table to print."""
    parser.add_argument("kind", nargs="?", choices=KINDS, help="one table (default: all)")


def run(arguments: Namespace) -> int:
    """Print one table, or all."""
    for kind in [arguments.kind] if arguments.kind else KINDS:
        if arguments.kind is None:
            print(f"\n{kind}")
        rows = KINDS[kind]()
        name = max(len(row.name) for row in rows)
        package = max(len(row.package) for row in rows)
        for row in rows:
            print(f"  {row.name:<{name}}  {row.package:<{package}}  {row.line}")
    return 0
