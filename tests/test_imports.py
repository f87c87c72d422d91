"""Imports point one way: a reader may stop at any room without looking into those above it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LEVELS = [  # a room may import from its own line and from those below
    {"gestalt.__main__", "gestalt.arguments"},
    {f"gestalt.{command}" for command in ("run", "evaluate", "sweep", "pretrain", "calibrate", "studies", "data_tools")},
    {
        "gestalt.runs",
        "gestalt.outcome",
        "gestalt.build",
        "gestalt.build_pretraining",
        "gestalt.build_source",
        "gestalt.build_measures",
        "gestalt.build_zoo",
    },
    {"gestalt.module", "gestalt.callbacks", "gestalt.ledger", "gestalt.pretraining", "gestalt.zoo"},
    {"gestalt.model", "gestalt.loss", "gestalt.schedule", "gestalt.evaluation", "gestalt.metrics"},
    {"gestalt.encoders", "gestalt.subsampling", "gestalt.aggregation", "gestalt.projection"},
    {"gestalt.tokens"},
]
ANYWHERE = {
    "gestalt.schema",
    "gestalt.calibrated",
    "gestalt.check_data",
    "gestalt.check_evaluation",
    "gestalt.checks",
    "gestalt.config",
    "gestalt.launch",
    "gestalt.locks",
    "gestalt.named_runs",
    "gestalt.memory",
    "gestalt.quiet",
    "gestalt.evaluation.benchmarks",
    "gestalt.evaluation.protocols",
}  # plain data, and files
BUILDERS = {
    f"gestalt.{room}" for room in ("build", "build_pretraining", "build_source", "build_measures", "data_tools")
}  # know data_modules


def modules():
    for base, prefix in ((ROOT / "src", ""), (ROOT, "data_modules")):
        for path in sorted((base / (prefix or "gestalt")).rglob("*.py")):
            parts = path.relative_to(base).with_suffix("").parts
            yield ".".join(part for part in parts if part != "__init__"), path


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def level(name):
    for number, rooms in enumerate(LEVELS):
        if any(name == room or name.startswith(room + ".") for room in rooms):
            return number
    return None


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=[name for name, _ in modules()])
def test_imports_point_down(name, path):
    for target in imported(path):
        if name.startswith("data_modules"):
            assert not target.startswith("gestalt"), f"{name} imports {target}"
        elif target.startswith("data_modules"):
            assert name in BUILDERS, f"{name} imports {target}"
        elif level(target) is not None and target not in ANYWHERE and not any(target.startswith(free + ".") for free in ANYWHERE):
            own = level(name)
            assert own is not None, f"{name} has no place in the map"
            assert level(target) >= own, f"{name} imports {target}, which is above it"


def test_every_room_has_a_place_in_the_map():
    assert not [name for name, _ in modules() if name.startswith("gestalt.") and level(name) is None and name not in ANYWHERE]
