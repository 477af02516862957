"""A Cortex Analyst on this machine, which says what a test plants."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class Analyst(ThreadingHTTPServer):
    """What it answers next, and what it was asked."""

    status: int = 200
    answer: bytes = b"{}"
    headers: dict[str, str]
    asked: list[tuple[str, dict[str, str], dict[str, Any]]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def says(self, *content: dict[str, Any], **more: object) -> None:
        self.status = 200
        message = {"role": "analyst", "content": list(content)}
        self.answer = json.dumps({"request_id": "r-1", "message": message, **more}).encode()

    def refuses(self, status: int, answer: str, **headers: str) -> None:
        self.status, self.answer, self.headers = status, answer.encode(), headers


class _Handler(BaseHTTPRequestHandler):
    server: Analyst

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, dict(self.headers), body))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def analyst_server() -> Iterator[Analyst]:
    """Serve until the end of the block."""
    with Analyst(("127.0.0.1", 0), _Handler) as server:
        server.headers, server.asked = {}, []
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()
