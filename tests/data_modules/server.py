"""A web server of files in memory that stalls, fails, redirects, lies on the length or cannot send
ranges.
"""

import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Files by name.

    Attributes:
        statuses: name to the statuses of its next answers, before the file is sent; a redirection
            leads to the same name.
        stalled: names whose answer sends a header and then nothing.
        ranges: False if every answer is the whole file.
        requests: names, one a request.
        stamps: name to the entity tag that its answers have.
        authorization: header without which it refuses; None for none.
        lengths: name to the length that the header states, if it is not the file's.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.statuses, self.stalled, self.ranges, self.requests, self.stamps = (
            {},
            {},
            set(),
            True,
            [],
            {},
        )
        self.authorization, self.lengths = None, {}
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.stop = threading.Event()

    def handle_error(self, request, client_address):
        """Say nothing of clients that have gone."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        """Print nothing."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        name = self.path.lstrip("/")
        self.server.requests.append(name)
        content, status = self.server.files.get(name), 200
        if self.server.statuses.get(name):
            content, status = b"", self.server.statuses[name].pop(0)
        elif self.server.authorization not in (None, self.headers.get("Authorization")):
            content, status = b"", 401
        elif content is None:
            content, status = b"", 404
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        whole = content
        if status == 200 and asked and self.server.ranges:
            content, status = content[int(asked[1]) : int(asked[2]) + 1], 206
        self.send_response(status)
        self.send_header("Content-Length", str(self.server.lengths.get(name, len(content))))
        self.send_header("Location", f"/{name}")
        self.close_connection |= name in self.server.lengths
        if status == 206:
            self.send_header(
                "Content-Range", f"bytes {asked[1]}-{int(asked[1]) + len(content) - 1}/{len(whole)}"
            )
        if name in self.server.stamps:
            self.send_header("ETag", self.server.stamps[name])
        self.end_headers()
        if name in self.server.stalled:
            self.server.stop.wait(20)
        elif self.command == "GET":
            self.wfile.write(content)


@contextmanager
def serving():
    """A server that runs in the block."""
    running = Server()
    threading.Thread(
        target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    ).start()
    yield running
    running.stop.set()
    running.shutdown()
    running.server_close()
