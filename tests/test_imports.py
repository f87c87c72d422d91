"""Imports point one way: a reader may stop at any room without looking into those above it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LADDER = (  # a room imports from its own rung and from those below it
    {"__main__"},
    {"commands", "api"},
    {"building", "publishing"},
    {"studies", "pretraining"},
    {"ledger"},
    {"measures"},
    {"callbacks", "zoo", "module", "micro_batches", "features"},
    {"model", "runs"},
    {"encoders", "projection", "aggregation", "config"},
    {"distillation", "evaluation", "loss", "schedule", "subsampling", "terms", "tokens"},
    {"gather", "pair_matrix", "valid_rows"},
    {"support"},  # the one room of gestalt that data_modules uses
)
KNOW_THE_DATA = ("building", "commands.data")  # the rooms of gestalt that import data_modules


def modules():
    for base, room in ((ROOT / "src", "gestalt"), (ROOT, "data_modules")):
        for path in sorted((base / room).rglob("*.py")):
            parts = path.relative_to(base).with_suffix("").parts
            yield ".".join(part for part in parts if part != "__init__"), path


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def rung(name):
    """The number of a module's rung, counted from the top; the package itself, which names what the API gives, is at the top."""
    parts = name.split(".")
    return next((number for number, rooms in enumerate(LADDER) if parts[1] in rooms), None) if len(parts) > 1 else 0


def test_every_room_stands_on_the_ladder():
    assert not [name for name, _ in modules() if name.startswith("gestalt") and rung(name) is None]


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=[name for name, _ in modules()])
def test_imports_point_down_the_ladder(name, path):
    for target in imported(path):
        if name.startswith("data_modules"):
            assert not target.startswith("gestalt") or target.startswith("gestalt.support."), f"{name} imports {target}"
        elif target.startswith("data_modules"):
            assert name.removeprefix("gestalt.").startswith(KNOW_THE_DATA), f"{name} imports {target}"
        elif target.startswith("gestalt."):
            assert rung(target) is not None, f"{name} imports {target}, which is on no rung"
            assert rung(target) >= rung(name), f"{name} imports {target}, which is above it"
