"""Imports point one way: a reader may stop at any room without looking into those above it."""

import ast
import re
from functools import cache

import pytest

from gestalt.commands import COMMANDS
from tests.gestalt.command import ROOT, succeed

LADDER = (  # a room imports from the rungs below its own
    {"__main__"},
    {"commands"},
    {"api", "zero_shot", "ablation", "publishing"},
    {"runs"},
    {"results"},
    {"models"},
    {"config"},
    {"measures", "module", "pretraining"},
    {"training"},
    {"model"},
    {"encoders"},
    {"losses", "aggregation"},
    {"projection", "subsampling", "data_modules", "tables"},
    {"tokens", "support"},
)

INSIDE: dict[str, tuple[set[str], ...]] = {  # the same within a room, for its folders and files
    "config": (
        {"loading", "saved"},
        {"check", "trust"},
        {"merge", "words", "start"},
        {"schema", "folders"},
    ),
    "data_modules": (
        {"tools", "image_text"},
        {"image_sets", "validation"},
        {"sources", "loading"},
        {"scenes", "order"},
        {"corpora"},
        {"labels", "pairs"},
        {"pixels", "keys"},
        {"opening"},
    ),
    "encoders": (
        {"towers"},
        {"image", "text"},
        {"dense_model", "text_sentence"},
        {"readings", "sentence_files"},
        {"last_block", "boundary", "positions", "weights"},
        {"backbones", "checkpoints"},
        {"keys", "state_dicts", "vocabulary", "open_clip_texts"},
        {"inits"},
    ),
    "losses": (
        {"build"},
        {"nouns", "self_distillation"},
        {"terms"},
        {"contrastive", "sigmoid", "distillation"},
        {"blocks"},
        {"matrix", "captions", "noun_list", "keys"},
    ),
    "measures": (
        {"matching"},
        {"grouping"},
        {"segmentation", "robustness"},
        {"classification", "retrieval"},
        {"callback"},
        {"context", "dense"},
        {"evaluation"},
        {"keys", "rows"},
    ),
    "models": (
        {"between"},
        {"start"},
        {"opening"},
        {"finding", "folder"},
        {"names"},
        {"zoo"},
        {"building"},
        {"classifier"},
    ),
}

NAMES_ROWS = {"tables", "support.moved", "measures.evaluation.measures"}
"""Files whose strings name code anywhere: rows of a table, and old names."""

TABLES = ("pandas", "pyarrow", "datasets", "sklearn", "scipy", "matplotlib")
MODELS = ("timm", "transformers", "open_clip")
LIGHTNING = ("lightning", "torchmetrics", "tensorboard")
LARGE = ("torch", "numpy", "huggingface_hub", *TABLES, *MODELS, *LIGHTNING)
NOT_AT_THE_TOP = {  # packages that a module, and all that it imports, imports within functions
    "__main__": LARGE,
    "runs.process": LARGE,
    "data_modules.tools.get": LARGE,
    "commands.mapping": (*TABLES, *MODELS, *LIGHTNING),
    "zero_shot": (*TABLES, *MODELS),
    "results.diagnosis": ("torch", *TABLES, *MODELS, *LIGHTNING),
    **dict.fromkeys(("api", "models.building", "models.opening"), (*LIGHTNING, "matplotlib")),
    **{f"commands.{name}": LARGE for name in COMMANDS},  # to parse the words
}

BUILDS = """
import sys

sys.modules["gestalt.config"] = None
import torch

from gestalt.data_modules.sources import open_data
from gestalt.data_modules.keys import Data
from gestalt.encoders.keys import Image, Text
from gestalt.encoders.towers import build_image_tower, build_text_tower
from gestalt.losses.build import build_loss
from gestalt.losses.keys import Loss
from gestalt.pretraining.keys import Pretraining
from gestalt.pretraining.keys import recipe_of
from gestalt.training.keys import Optimizer, Trainer
from gestalt.training.schedule import make_optimizer
from gestalt.training.trainer import keywords_of

build_loss(Loss())
tower = build_image_tower(Image("vit_tiny_patch16_224", init="random", eval_size=32))
build_text_tower(Text("open_clip", init="random", layers=1, width=16, heads=2))
make_optimizer(tower, torch.nn.Module(), keys=Optimizer())
keywords_of(Trainer())
open_data(Data(source="scenes", limit=4), size=32, seed=0)
recipe_of("dino", Pretraining())
"""


def modules():
    for base, room in ((ROOT / "src", "gestalt"), (ROOT, "data_modules")):
        for path in sorted((base / room).rglob("*.py")):
            parts = path.relative_to(base).with_suffix("").parts
            name = ".".join(part for part in parts if part != "__init__")
            yield (name if room == "gestalt" else f"gestalt.{name}"), path


@cache
def tree(path):
    return ast.parse(path.read_text())


def imported(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def named(path):
    """Modules that a file names in strings, as in ``resolve_name("gestalt.module:function")``."""
    for node in ast.walk(tree(path)):
        value = node.value if isinstance(node, ast.Constant) else None
        if isinstance(value, str) and re.fullmatch(r"gestalt(\.\w+)+(:\w+)?", value):
            yield value.replace(":", ".")


def room(name, within="gestalt"):
    """The first folder or file of a module's name within a package; the package itself has none."""
    return name.removeprefix(within).removeprefix(".").partition(".")[0]


def rung(name, ladder=LADDER, within="gestalt"):
    """The number of a module's rung, counted from the top."""
    return next((n for n, rooms in enumerate(ladder) if room(name, within) in rooms), -1)


LADDERS = {"gestalt": LADDER, **{f"gestalt.{name}": ladder for name, ladder in INSIDE.items()}}


@pytest.mark.parametrize(("within", "ladder"), LADDERS.items(), ids=LADDERS)
def test_every_room_stands_on_the_ladder(within, ladder):
    found = {room(name, within) for name, _ in modules() if name.startswith(f"{within}.")}
    assert found - {""} == set().union(*ladder)


@pytest.mark.parametrize(("within", "ladder"), LADDERS.items(), ids=LADDERS)
def test_imports_point_down_the_ladder(within, ladder):
    wrong = []
    for name, path in modules():
        if not name.startswith(f"{within}."):
            continue
        texts = () if name.removeprefix("gestalt").removeprefix(".") in NAMES_ROWS else named(path)
        for target in (*imported(path), *texts):
            if (
                target.startswith(f"{within}.")
                and room(name, within) != room(target, within)
                and rung(target, ladder, within) <= rung(name, ladder, within)
            ):
                wrong.append(f"{name} names {target}")
    assert not wrong


def test_no_files_import_each_other_in_a_circle():
    names = {name for name, _ in modules()}
    rest = {}
    for name, path in modules():
        found = {
            target if target in names else target.rpartition(".")[0] for target in imported(path)
        }
        rest[name] = found & names - {name}
    while free := {name for name, needs in rest.items() if not needs & rest.keys()}:
        rest = {name: needs for name, needs in rest.items() if name not in free}
    assert not rest


def test_a_room_is_built_from_its_keys_alone():
    """Nothing of the configuration above the rooms is needed."""
    succeed("", folder=ROOT, program=("-c", BUILDS))


@cache
def at_the_top(path):
    """List the modules and names that a file imports when it is imported itself."""
    found, nodes = [], [*tree(path).body]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{name.name}" for name in node.names]
        elif isinstance(node, ast.Import):
            found += [name.name for name in node.names]
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            nodes += [] if typing else ast.iter_child_nodes(node)
    return found


def first_import_of(heavy, start):
    """The file that brings in a heavy package when a module is imported, and the package."""
    files = dict(modules())
    waiting, seen = [start], {"gestalt"}
    while waiting:
        name = waiting.pop()
        if name not in files:  # a name in a module
            name = name.rpartition(".")[0]
        while name and name not in seen:
            seen.add(name)
            for target in at_the_top(files[name]) if name in files else ():
                if target.partition(".")[0] in heavy:
                    return name, target
                waiting += [target] * target.startswith("gestalt.")
            name = name.rpartition(".")[0]
    return None


@pytest.mark.parametrize(("start", "heavy"), NOT_AT_THE_TOP.items(), ids=NOT_AT_THE_TOP)
def test_a_large_package_is_imported_where_it_is_used(start, heavy):
    assert first_import_of(heavy, f"gestalt.{start}") is None


def test_no_file_imports_sentence_transformers():
    """Its import takes seconds; transformers alone reads its models."""
    assert not [
        name
        for name, path in modules()
        for target in imported(path)
        if target.partition(".")[0] == "sentence_transformers"
    ]
