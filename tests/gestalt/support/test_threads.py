"""How long OpenMP's threads wait for each other: before torch is imported, for every command, and not against the user's choice."""

import os
import subprocess
import sys

import pytest

from gestalt.support.threads import WAIT


@pytest.mark.parametrize(
    ("chosen", "wait"),
    [({}, WAIT), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
    ids=["nothing chosen", "a count chosen", "a policy chosen"],
)
def test_a_command_waits_briefly_unless_the_user_chose_otherwise(chosen, wait):
    environment = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    code = "from gestalt.__main__ import main; import os, sys; main(['list', 'inits']); print(os.environ.get('GOMP_SPINCOUNT'))"
    result = subprocess.run([sys.executable, "-c", code], env={**environment, **chosen}, capture_output=True, text=True, timeout=60)
    assert result.stdout.splitlines()[-1] == wait


def test_the_wait_is_set_before_torch_is_imported():
    code = (
        "import sys; import gestalt.__main__ as command; from gestalt.support import threads\n"
        "threads.shorten_wait = lambda: sys.exit(f'torch imported: {\"torch\" in sys.modules}')\n"
        "command.main(['list'])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stderr.strip() == "torch imported: False"
