"""How long OpenMP's threads wait for each other: before torch is imported, and not against the
user's choice.
"""

import os
import subprocess
import sys

import pytest

from gestalt.support.threads import WAIT

CODE = """
import os, sys
import gestalt.__main__ as command
from gestalt.support import threads
shorten = threads.shorten_wait
count = lambda: os.environ.get('GOMP_SPINCOUNT')
threads.shorten_wait = lambda: (shorten(), print('torch' in sys.modules, count()))
command.main(['list', 'inits'])
"""


@pytest.mark.parametrize(
    ("chosen", "wait"),
    [({}, WAIT), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
    ids=str,
)
def test_a_command_waits_briefly_unless_the_user_chose_otherwise(chosen, wait):
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    }
    result = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**environment, **chosen},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.stdout.splitlines()[0] == f"False {wait}"
