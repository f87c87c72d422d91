"""Thirty mistakes of users are each reported in one line before torch is imported; ``python tests/misuses.py`` times them."""

import json
import subprocess
import sys
from pathlib import Path

from tests.gestalt.command import environment
from tests.misuses import MISUSES, is_answered, prepare

HEAVY = ("torch", "lightning", "timm", "transformers", "open_clip", "matplotlib")
ONE_PROCESS = """
import contextlib, io, json, sys
from gestalt.__main__ import main
answers = {}
for name, words in json.load(sys.stdin).items():
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        status = main(words)
    answers[name] = status, errors.getvalue(), sorted(sys.modules)
json.dump(answers, sys.stdout)
"""


def test_a_mistake_is_reported_in_one_line_before_torch_is_imported(tmp_path: Path) -> None:
    assert len(MISUSES) == 30
    prepare(tmp_path)
    words = json.dumps({name: misuse.words for name, misuse in MISUSES.items()})
    command = [sys.executable, "-c", ONE_PROCESS]
    done = subprocess.run(command, input=words, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True)
    for name, (status, errors, modules) in json.loads(done.stdout).items():
        assert is_answered(status, errors, misuse=MISUSES[name]), f"{name}: {status} {errors}"
        assert not set(HEAVY) & set(modules), name
