"""Warm processes start their Python children as ``subprocess`` does."""

import json
import os
import sys
from pathlib import Path

import pytest

from tests import warm

PARENT = """
import json, os, subprocess, sys
echo = [sys.executable, "-c", "print(input())"]
results = [subprocess.run(echo, input="in", text=True, capture_output=True).stdout]
code = "import os, sys; print(os.getcwd() in sys.path)"
for flags, safe in ([], ""), (["-P"], ""), ([], "1"):
    with open("out", "w+") as file:
        env = {**os.environ, "PYTHONSAFEPATH": safe}
        subprocess.run([sys.executable, *flags, "-c", code], stdout=file, env=env)
        file.seek(0)
        results.append(file.read())
print(json.dumps([subprocess.Popen.__name__, *map(str.strip, results)]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are read from /proc")
def test_children_have_their_pipes_and_no_working_directory_on_a_safe_path(tmp_path: Path) -> None:
    done = warm.run([sys.executable, "-c", PARENT], cwd=tmp_path, env={**os.environ}, timeout=120)
    assert json.loads(done.stdout) == ["WarmPopen", "in", "True", "False", "False"]
