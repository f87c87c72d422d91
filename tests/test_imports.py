"""Imports point one way: a reader may stop at any room without looking into those above it."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LADDER = (  # a room imports from its own rung and from those below it
    {"__main__"},
    {"commands", "api", "zero_shot"},
    {"publishing", "ablation"},
    {"results"},
    {"runs"},
    {"models"},
    {"config"},
    {"measures", "module", "pretraining"},
    {"training"},
    {"model"},
    {"encoders", "losses", "aggregation"},
    {"projection", "subsampling", "data_modules", "tables"},
    {"tokens", "support"},
)


def modules():
    for base, room in ((ROOT / "src", "gestalt"), (ROOT, "data_modules")):
        for path in sorted((base / room).rglob("*.py")):
            parts = path.relative_to(base).with_suffix("").parts
            name = ".".join(part for part in parts if part != "__init__")
            yield (name if room == "gestalt" else f"gestalt.{name}"), path


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def rung(name):
    """The number of a module's rung, counted from the top; the package itself, which names what the
    API gives, is at the top.
    """
    room = name.removeprefix("gestalt.").partition(".")[0]
    return (
        0
        if room == "gestalt"
        else next((number for number, rooms in enumerate(LADDER) if room in rooms), None)
    )


def test_every_room_stands_on_the_ladder():
    assert not [name for name, _ in modules() if rung(name) is None]


def test_imports_point_down_the_ladder():
    wrong = []
    for name, path in modules():
        for target in imported(path):
            if target.startswith("gestalt.") and (
                rung(target) is None or rung(target) < rung(name)
            ):
                wrong.append(f"{name} imports {target}")
    assert not wrong
