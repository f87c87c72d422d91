"""A rank that hangs, or whose host is cut off, ends the others within a stated time, with one sentence that names it."""

import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.gestalt.command import environment
from tests.gestalt.training.losing import TIMEOUT

pytestmark = pytest.mark.slow
PROGRAM = str(Path(__file__).with_name("losing.py"))
MARGIN = 30  # seconds that a busy machine may take beyond the stated time
HOSTS = {"gestalt0": "10.231.77.1", "gestalt1": "10.231.77.2"}  # names of emulated hosts and their addresses


def start(rank, address, port, how, *, folder, inside=(), **variables):
    """Start a rank."""
    command = [*inside, sys.executable, PROGRAM, str(rank), address, str(port), how]
    return subprocess.Popen(command, cwd=folder, env=environment(**variables), stderr=subprocess.PIPE, text=True)


def await_step(folder):
    """Wait until the step has begun in which a rank is lost."""
    deadline = time.monotonic() + 120
    while not (folder / "in_a_step").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (folder / "in_a_step").exists()


def ends_naming(process, *, lost):
    """Hold a rank to its promise: it ends in time, with one sentence and no traceback."""
    _, stderr = process.communicate(timeout=TIMEOUT + MARGIN)
    assert process.returncode == 1, stderr
    assert f"gestalt: rank {lost} on {platform.node()} did not answer within " in stderr
    assert "Traceback" not in stderr


def test_a_rank_that_hangs_ends_the_other_within_the_timeout(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    whole, hanging = (start(rank, "127.0.0.1", port, "stop", folder=tmp_path) for rank in range(2))
    try:
        await_step(tmp_path)
        ends_naming(whole, lost=1)
    finally:
        for process in (whole, hanging):
            process.kill()
            process.communicate()
    assert hanging.returncode == -signal.SIGKILL


@pytest.fixture
def hosts():
    """Two hosts with a cable, emulated by network namespaces."""
    if shutil.which("ip") is None or os.geteuid():
        pytest.skip("network namespaces need root and ip")
    first, second = HOSTS
    made = subprocess.run(["ip", "netns", "add", first], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"network namespaces are not permitted here: {made.stderr.strip()}")
    try:
        subprocess.run(["ip", "netns", "add", second], check=True)
        subprocess.run(["ip", "-n", first, "link", "add", first, "type", "veth", "peer", second, "netns", second], check=True)
        for name, address in HOSTS.items():
            subprocess.run(["ip", "-n", name, "address", "add", f"{address}/24", "dev", name], check=True)
            for link in ("lo", name):
                subprocess.run(["ip", "-n", name, "link", "set", link, "up"], check=True)
        yield
    finally:
        for name in HOSTS:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@pytest.mark.usefixtures("hosts")
def test_each_of_two_disconnected_hosts_names_the_lost_rank(tmp_path):
    first, second = HOSTS
    ranks = [
        start(rank, HOSTS[first], 29500, "cut", folder=tmp_path, inside=("ip", "netns", "exec", name), GLOO_SOCKET_IFNAME=name)
        for rank, name in enumerate(HOSTS)
    ]
    try:
        await_step(tmp_path)
        subprocess.run(["ip", "-n", second, "link", "set", second, "down"], check=True)
        (tmp_path / "cut").touch()
        for rank, process in enumerate(ranks):
            ends_naming(process, lost=1 - rank)
    finally:
        for process in ranks:
            process.kill()
            process.communicate()
