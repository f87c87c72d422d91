"""docs/examples/app.py: its size, and in a browser a page that segments and groups, and asks for
nothing outside this machine.
"""

import importlib.util
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.gestalt.browser import browsing, needs_chromium
from tests.gestalt.command import environment
from tests.gestalt.tiny_model import export, save_photo

APP = Path(__file__).resolve().parents[1] / "docs" / "examples" / "app.py"
MISSING = (
    "gradio is not installed; pip install '.[app]' into an environment of its own to test the app"
)
needs_gradio = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason=MISSING)


@contextmanager
def served(model, *, log):
    """Serve the app in a process of its own, as a user does, and yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("w") as out:
        words = [sys.executable, str(APP), str(model), "--port", str(port)]
        process = subprocess.Popen(words, env=environment(), stdout=out, stderr=out)
        try:
            deadline = time.monotonic() + 120
            while "Running on local URL" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.terminate()
            process.wait(timeout=30)


@needs_gradio
@needs_chromium
@pytest.mark.slow
def test_in_a_browser_the_app_segments_and_groups_and_asks_for_nothing_outside(tmp_path):
    photo = save_photo(tmp_path / "photo.png")
    with (
        served(export(tmp_path / "exported"), log=tmp_path / "log.txt") as address,
        browsing() as tab,
    ):
        for width in (360, 1280):
            tab.open(address, width=width)
            tab.until("!!document.querySelector('input[type=file]')")
            tab.choose("input[type=file]", photo)
            tab.until("[...document.images].some((image) => image.src.endsWith('photo.png'))")
            tab.point("button.primary", click=True)
            # a heat map of each label
            tab.until("document.querySelectorAll('#heat img').length >= 3")
            tab.point("#divide", click=True)
            tab.until("document.body.innerText.includes('group 1')")
            assert {urlsplit(url).hostname for url in tab.requests} == {"127.0.0.1"}
            # gradio's own warnings
            assert [
                complaint for complaint in tab.complaints if complaint.get("type") != "warning"
            ] == []
            assert tab.run("document.documentElement.scrollWidth <= innerWidth")
