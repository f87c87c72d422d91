"""Every JSON file that is read again, changed at every place: a value of another type, a file of
another kind, and what does not add up, are refused in one line that names the file.
``valid.json`` has an example of each.
"""

import json
import math
import os
import signal
from pathlib import Path

import pytest

from gestalt.ablation.jobs import read_state_file
from gestalt.ablation.queue import read_entries
from gestalt.commands.score import _statement, _values
from gestalt.data_modules.corpora.manifest import without_known_bad
from gestalt.encoders.weights import _local_file
from gestalt.measures.segmentation.configured import read_calibration
from gestalt.models.folder import read_description
from gestalt.models.names import is_finished
from gestalt.results.compare import compare
from gestalt.results.grid import read_results
from gestalt.results.report import write_report
from gestalt.runs.cache_key import Description
from tests.data_modules.corpora.test_manifest import Shards
from tests.fuzz.law import held
from tests.gestalt.ablation.fake_run import leave, record
from tests.gestalt.tiny_config import tiny_config

VALID = json.loads(Path(__file__).with_name("valid.json").read_text())
GONE = object()
BEYOND = (math.nan, math.inf, 10**400)
VALUES = (GONE, None, True, "x", -1, *BEYOND, [], {}, ["x"])
"""Replacements of each value in turn."""


def read_record(file):
    """Read a run as the commands do."""
    is_finished(file.parent)
    results = read_results([str(file.parent)])[0]
    return compare(results), write_report(results, file.parent / "report.html")


READERS = {  # kind -> the file's name, and what reads it
    "calibration": ("c.json", lambda file: read_calibration(str(file))),
    "predictions": ("predictions.json", lambda file: _statement(file.parent, names=["a", "b"])),
    "values": ("values.json", _values),
    "manifest": ("m.json", lambda file: without_known_bad(Shards(), file)),
    "cells": ("cells.json", lambda file: read_entries(file.parent)),
    "flop": ("f.json", lambda file: read_state_file(file, "flop")),
    "submitted": ("s.json", lambda file: read_state_file(file, "submitted")),
    "exported": ("config.json", lambda file: read_description(file.parent)),
    "features": ("features.json", lambda file: Description.read(file.parent)),
    "weights": ("w.json", lambda file: _local_file(file.with_suffix(""), None)),
}


def run_record(folder):
    """Write a run into a folder, and return its record with more fields."""
    config = tiny_config()
    content, array = record(config, 0.5)
    leave(folder, config, content, array)
    more = VALID["record"]
    content["benchmarks"][0] |= more["entry"]
    content["benchmarks"] += more["more"]
    return content | more["fields"]


@pytest.fixture(params=[pytest.param("record", marks=pytest.mark.slow), *READERS])
def case(request, tmp_path):
    """A file, its content, and a function that writes it and returns whether it is refused."""
    name, read = READERS.get(request.param, ("result.json", read_record))
    content = run_record(tmp_path) if request.param == "record" else VALID[request.param]
    (tmp_path / "w").touch()
    file = tmp_path / name

    def refused(written):
        if written is not None:
            file.write_bytes(written)
        with held(naming=(name, str(tmp_path))):
            read(file)
            return False
        return True

    assert not refused(json.dumps(content).encode())
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("a reader waits"))
    signal.alarm(300)
    yield file, content, refused
    signal.alarm(0)


def places(tree):
    """Every place in JSON, as a container and a key of it; of a list the first item's."""
    for key in list(tree if isinstance(tree, dict) else range(len(tree[:1]))):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from places(tree[key])


def family(value):
    """The type of JSON that a value is of."""
    return float if type(value) in (int, float) else type(value)


def test_a_value_of_another_type_and_a_missing_one_are_refused(case):
    _, content, refused = case
    for node, key in list(places(content)):
        old = node[key]
        for value in VALUES[isinstance(node, list) :]:
            node[key] = value
            if value is GONE:
                del node[key]
            found = refused(json.dumps(content).encode())
            other = family(value) is not family(old) or value in BEYOND
            if value in (GONE, None) or old is None:
                assert found or node is not content or key in VALID["optional"], key
            elif other or (value == -1 and type(old) is int):
                assert found, f"{key} = {value}"
        node[key] = old


def test_a_file_of_another_kind_is_refused(case):
    file, content, refused = case
    text = json.dumps(content)
    for what, spoiled in {
        "another value": "[]",
        "cut": text[: len(text) // 2],
        "a mark": "\ufeff" + text,
        "deep": f'{text[:-1]}, "z": {"[" * 50_000}{"]" * 50_000}}}',
        "twice": f"{text[:-1]}, {json.dumps(next(iter(content)))}: 1}}",
    }.items():
        assert refused(spoiled.encode()), what
    assert refused(text.encode("utf-16"))
    os.truncate(file, 2**31)
    assert refused(None)
    file.unlink()
    os.mkfifo(file)
    assert refused(None)


def check_refused(content, folder, message):
    (folder / "result.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_record(folder / "result.json")


@pytest.mark.parametrize("message", VALID["contradictions"])
def test_what_does_not_add_up_in_a_record_is_named(tmp_path, message):
    content = run_record(tmp_path)
    changes = dict(VALID["contradictions"][message])
    content["metrics"] |= changes.pop("edited", {})
    content["benchmarks"][0] |= changes
    check_refused(content, tmp_path, message)


def test_a_record_of_too_many_metrics_is_refused(tmp_path):
    content = run_record(tmp_path)
    content["metrics"] |= dict.fromkeys(map(str, range(10**5)), 0.5)
    check_refused(content, tmp_path, "metrics must contain less than or equal to")
