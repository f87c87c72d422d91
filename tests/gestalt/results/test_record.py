"""Results as JSON, the commit that made them, and the hash of weights."""

import importlib.util
import json
import math
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import nn

from gestalt.encoders.weights import weights_hash
from gestalt.results import record
from gestalt.results.record import package_version, provenance, write_record


def test_a_record_reads_back_with_its_format_and_null_for_nan(tmp_path):
    path = tmp_path / "result.json"
    write_record(path, {"iou": [0.5, math.nan, (math.nan,)], "metrics": {"miou": math.nan}})
    assert json.loads(path.read_text()) == {
        "format": record.FORMAT,
        "iou": [0.5, None, [None]],
        "metrics": {"miou": None},
    }
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git checkout that holds nothing but a copy of record.py, and a function that runs git in
    it.
    """
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for variable in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(variable, raising=False)
    shutil.copy(record.__file__, tmp_path / "record.py")
    identity = {
        f"GIT_{who}_{what}": "nobody@example.org"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words],
            cwd=tmp_path,
            env={**os.environ, **identity},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    return tmp_path, git


def recorded_commit(folder: Path) -> str:
    spec = importlib.util.spec_from_file_location("record_elsewhere", folder / "record.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.commit()


def test_outside_a_checkout_of_this_code_the_commit_is_unknown(checkout):
    folder, git = checkout
    assert recorded_commit(folder) == "unknown"
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message", "other")
    assert recorded_commit(folder) == "unknown"


def test_without_git_the_commit_is_unknown(monkeypatch):
    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", missing)
    assert record.commit() == "unknown"


def test_the_commit_of_a_changed_checkout_is_marked(checkout):
    folder, git = checkout
    git("init", "--quiet")
    git("add", "record.py")
    git("commit", "--quiet", "--message", "first")
    head = git("rev-parse", "HEAD")
    assert recorded_commit(folder) == head
    with (folder / "record.py").open("a") as file:
        file.write("# changed\n")
    assert recorded_commit(folder) == head + "+changes"
    git("add", "record.py")
    assert recorded_commit(folder) == head + "+changes"  # staged is not committed


def test_provenance_is_json_and_names_the_versions():
    found = json.loads(json.dumps(provenance(torch.device("cpu"))))
    assert found["machine"]["device"] == f"cpu, {found['machine']['processor']}"
    assert torch.__version__.startswith(found["packages"]["torch"])  # without +cu130
    assert found["packages"]["gestalt"] == package_version("gestalt-grouping")
    assert set(found) == {"commit", "dirty", "python", "packages", "machine"}
    assert found["dirty"] == (
        None if found["commit"] == "unknown" else found["commit"].endswith("+changes")
    )
    assert package_version("no-such-package") == "not installed"


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            "first": nn.Linear(3, 2),
            "second": nn.BatchNorm1d(2),
            "scale": nn.ParameterList([nn.Parameter(torch.ones(()))]),
        }
    )


def test_the_least_change_of_any_weight_or_buffer_changes_the_hash():
    before = weights_hash(network())
    assert weights_hash(network()) == before
    for name in network().state_dict():
        model = network()
        value = model.state_dict()[name].view(-1)[-1:]
        value.copy_(
            torch.nextafter(value, torch.tensor(math.inf))
            if value.is_floating_point()
            else value + 1
        )
        assert weights_hash(model) != before, name
    assert weights_hash(network().to(torch.bfloat16)) != before


def test_the_hash_follows_the_names_and_not_the_order_or_the_strides():
    model, other = network(), network()
    weight = other["first"].weight
    other["first"].weight = nn.Parameter(weight.detach().t().contiguous().t())
    assert not other["first"].weight.is_contiguous()
    assert weights_hash(other) == weights_hash(model)
    assert weights_hash(nn.ModuleDict(dict(reversed(list(model.items()))))) == weights_hash(model)
    assert weights_hash(nn.ModuleDict({"third": model["first"]})) != weights_hash(
        nn.ModuleDict({"first": model["first"]})
    )
