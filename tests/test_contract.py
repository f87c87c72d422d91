"""docs/contract.md states what the code has: commands, names, groups, fields, files and hashes."""

import dataclasses
import json
import re
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

from torch import nn

import gestalt
from gestalt.__main__ import Parser
from gestalt.commands import COMMANDS
from gestalt.commands.list import KINDS
from gestalt.config.schema import Experiment, config_hash
from gestalt.encoders.checkpoints import RESUME_KEYS
from gestalt.encoders.dense_model import DenseModel
from gestalt.encoders.weights import WeightsOrigin, tensors_hash
from gestalt.measures.segmentation.presets import top_down_protocol
from gestalt.models import folder
from gestalt.models.folder import CARD, TEXT
from gestalt.models.names import CHECKPOINT, DESCRIPTION, RESULT, WEIGHTS
from gestalt.module import ContrastiveModule
from gestalt.results import record
from gestalt.runs import cache_key as key
from gestalt.support.files import short_digest
from gestalt.tokens import Tokens
from gestalt.training.checkpoints import BEST

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "contract.md").read_text()
SCHEMAS = json.loads((ROOT / "src/gestalt/support/schemas.json").read_text())["definitions"]
ON_ALL = {"-h", "--help", "--debug"}


def section(heading):
    """Return the text of the page below a heading."""
    return re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)[1]


def rows(heading):
    """The names in the section's blocks, by what their row begins with."""
    found = re.findall(r"^(\w\S*(?: \w+)*) {2,}(\S.*)$", section(heading), flags=re.MULTILINE)
    for row, names in found:
        assert len(set(names.split())) == len(names.split()), row
    assert len(dict(found)) == len(found)
    return {row: set(names.split()) for row, names in found}


def words_taken(parser):
    """Positional arguments in capitals, options, and key=value, as a parser has them."""
    options = set(parser._option_string_actions)
    assert options >= ON_ALL
    taken = options - ON_ALL
    for action in parser._get_positional_actions():
        name = action.metavar or action.dest.upper()
        taken.add(f"[{name}]" if action.nargs == "?" else name)
    return taken


def test_the_commands_and_their_options_are_those_of_the_parser():
    found = {}
    for name in COMMANDS:
        parser = Parser()
        import_module(f"gestalt.commands.{name}").flags(parser)
        tools = parser._subparsers._group_actions[0].choices if parser._subparsers else {"": parser}
        for tool, flags in tools.items():
            found[f"{name} {tool}".strip()] = words_taken(flags)
    assert rows("Commands") == found


def members(kind, *, base=object):
    """The public names of a class that its base lacks, with those of its fields."""
    fields = (item.name for item in dataclasses.fields(kind)) if base is object else ()
    return {name for name in {*dir(kind), *fields} - {*dir(base)} if name[0] != "_"}


def test_the_public_names_are_those_of_the_classes():
    page = rows("Python")
    names = members(DenseModel, base=nn.Module)
    flag = "__isabstractmethod__"
    abstract = {name for name in names if getattr(getattr(DenseModel, name), flag, False)}
    unset = {name for name in DenseModel.__annotations__ if not hasattr(DenseModel, name)}
    model = page.pop("Model, methods")
    assert all(callable(getattr(gestalt.Model, name)) for name in model)
    assert page.pop("DenseModel, concrete") <= names - abstract
    assert page.pop("Run") <= members(gestalt.Run)
    assert page.pop("gestalt, use") | page.pop("gestalt, train") == set(gestalt.__all__)
    assert page == {
        "Model, attributes": members(gestalt.Model) - model,
        "SegmentedImage": members(gestalt.SegmentedImage),
        "Tokens": set(Tokens._fields),
        "DenseModel, abstract": abstract | unset,
    }


def test_the_groups_of_plug_ins_are_those_of_the_registries():
    named = re.findall(r"`gestalt\.(\w+)`", section("Plug-ins"))
    closed = {"experiments", "scales", "grids", "surveys", "inits", "models"}
    assert {*named} == KINDS.keys() - closed


def test_the_fields_and_the_format_of_records_are_those_of_their_schema():
    page, schema = rows("Files"), SCHEMAS["record"]
    fields = [page[row] for row in ("all", "models", "evaluation", "runs", "label maps")]
    assert set.union(*fields) == {*schema["properties"], *SCHEMAS["run"]["properties"]}
    assert sum(map(len, fields)) == len(set.union(*fields))
    assert fields[0] >= set(schema["required"])
    stated = int(re.search(r'`"format": (\d+)`', PAGE)[1])
    assert stated == record.FORMAT


def test_the_format_of_a_file_is_that_of_its_schema():
    for name, module in {"record": record, "features": key, "exported": folder}.items():
        assert SCHEMAS[name]["properties"]["format"]["const"] == module.FORMAT, name


def test_the_keys_of_checkpoints_and_exported_models_are_those_that_are_written():
    saved = {"state_dict": {}}
    origin = WeightsOrigin("random", "fresh weights")
    model = SimpleNamespace(image_origin=origin, text_origin=origin)
    module = SimpleNamespace(model=model, global_step=0, last_loss=0, token_count="")
    vars(module).update(read_steps=lambda: None, steps_planned=1, config=None, rate_factor=None)
    ContrastiveModule.on_save_checkpoint(module, saved)
    assert rows("Files")["checkpoint"] == {*RESUME_KEYS, *saved}
    assert rows("Files")["config.json"] == set(SCHEMAS["exported"]["properties"])


def test_the_files_of_runs_and_exported_models_are_those_that_are_written():
    files = re.search(r"^A \[run's folder.*?\n\n", section("Files"), flags=re.MULTILINE | re.DOTALL)
    best = CHECKPOINT.with_stem(BEST)
    run = ["config.yaml", RESULT, "evaluations/", str(CHECKPOINT), str(best)]
    exported = [DESCRIPTION, WEIGHTS, f"{TEXT}/", CARD]
    conditions = {"gestalt eval", "text.family=sentence"}
    assert {*re.findall(r"`(.*?)`", files[0])} - conditions == {*run, *exported}


def test_the_hashes_have_the_stated_number_of_digits():
    stated = re.findall(r"^- `?([\w ]+)`? \((\d+)", section("Hashes"), flags=re.MULTILINE)
    protocol = top_down_protocol("whole_square")
    hashes = {
        "config_hash": config_hash(Experiment()),
        "weights_sha256": tensors_hash({}),
        "Protocol digest": protocol.digest(),
        "Data digest": short_digest(""),
    }
    assert {name: int(count) for name, count in stated} == {
        name: len(digits) for name, digits in hashes.items()
    }
    assert dataclasses.replace(protocol, source="elsewhere").digest() == protocol.digest()
