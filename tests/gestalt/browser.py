"""A headless Chromium, driven through a pipe by its DevTools protocol: no driver and no package."""

import json
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, PROGRAMS)), None)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on the PATH; install one to test pages in a browser"
)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--remote-debugging-pipe"
)
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowLeft": 37, "ArrowRight": 39}


class Page:
    """One tab.

    Attributes:
        requests: addresses that the page asked for, data addresses left out.
        complaints: messages on its console and uncaught exceptions.
    """

    def __init__(self, commands: int, answers: int):
        self.commands, self.answers = commands, os.fdopen(answers, "rb", buffering=0)
        self.rest, self.number, self.session = b"", 0, None
        self.requests, self.complaints, self.loaded = [], [], False
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method, **parameters):
        """Call a method of the protocol, and return its result."""
        self.number += 1
        message = {
            "id": self.number,
            "method": method,
            "params": parameters,
            **({"sessionId": self.session} if self.session else {}),
        }
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self.number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self):
        while b"\0" not in self.rest:
            piece = self.answers.read(1 << 16)
            assert piece, "Chromium ended"
            self.rest += piece
        line, _, self.rest = self.rest.partition(b"\0")
        message = json.loads(line)
        if message.get("method") == "Page.loadEventFired":
            self.loaded = True
        elif message.get("method") == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            self.requests += [] if url.startswith(("data:", "blob:")) else [url]
        elif message.get("method") in (
            "Log.entryAdded",
            "Runtime.exceptionThrown",
            "Runtime.consoleAPICalled",
        ):
            self.complaints.append(message["params"])
        return message

    def open(self, url, *, width=1280):
        """Load a page in a window of this size."""
        self.loaded, self.requests, self.complaints = False, [], []
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.send("Page.navigate", url=url)
        while not self.loaded:
            self._next()

    def run(self, script):
        """Return the value of JavaScript, after any promise."""
        result = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def point(self, selector, *, click=False):
        """Move the mouse to the middle of an element, and click if asked to."""
        script = (
            f"(() => {{const e = document.querySelector({json.dumps(selector)}); "
            f"e.scrollIntoView({{block: 'center'}});"
        )
        box = self.run(
            f"{script} const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + "
            f"r.height / 2]}})()"
        )
        for kind in ("mouseMoved", *(("mousePressed", "mouseReleased") if click else ())):
            button = "none" if kind == "mouseMoved" else "left"
            self.send(
                "Input.dispatchMouseEvent",
                type=kind,
                x=box[0],
                y=box[1],
                button=button,
                clickCount=int(click),
            )

    def press(self, key):
        """Press and release a key."""
        text = {"Enter": "\r", " ": " "}.get(key)
        common = {
            "key": key,
            "code": "Space" if key == " " else key,
            "windowsVirtualKeyCode": KEYS[key],
        }
        self.send(
            "Input.dispatchKeyEvent", type="keyDown", **common, **({"text": text} if text else {})
        )
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)


@contextmanager
def browsing():
    """Yield a page in a browser of its own, with a profile that is removed."""
    command_end, commands = os.pipe()
    answers, answer_end = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        shell = f'exec "$@" 3<&{command_end} 4>&{answer_end}'
        flags = f"{FLAGS} --user-data-dir={profile}".split()
        words = ["bash", "-c", shell, "bash", CHROMIUM, *flags]
        process = subprocess.Popen(
            words,
            pass_fds=(command_end, answer_end),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(command_end)
        os.close(answer_end)
        page = None
        try:
            page = Page(commands, answers)
            yield page
        finally:
            process.terminate()
            process.wait(timeout=30)
            os.close(commands)
            (os.close(answers) if page is None else page.answers.close())
