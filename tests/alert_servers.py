"""Servers on loopback that take what people are told: a mail server, and an HTTP endpoint."""

from __future__ import annotations

import email
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from local.local_airflow import free_port

SECONDS_TO_BE_TOLD = 60
SECONDS_FOR_ONE_TOO_MANY = 3


@dataclass
class Posted:
    """One request: its path and its JSON."""

    path: str
    body: dict[str, Any]


@dataclass
class Mail:
    """One mail: its recipients, subject and text."""

    to: list[str]
    subject: str
    text: str


@dataclass
class AlertServers:
    """Both, with what came to them, and the connections that lead there, as environment variables."""

    http_port: int
    smtp_port: int
    posts: list[Posted] = field(default_factory=list)
    mails: list[Mail] = field(default_factory=list)
    answer: int = 200

    def connections(self, *names: str) -> dict[str, str]:
        """Return the variables of connections alerts_http, alerts_slack and alerts_smtp, or of those named."""
        url = f"http://127.0.0.1:{self.http_port}"
        smtp_extra = {
            "from_email": "airflow@example.com",
            "to": "data-engineering@example.com",
            "disable_ssl": True,
            "disable_tls": True,
        }
        all_of_them: dict[str, dict[str, Any]] = {
            "alerts_http": {"conn_type": "http", "host": f"{url}/alerts"},
            "alerts_slack": {"conn_type": "slackwebhook", "host": url, "password": "T0/B0/key"},
            "alerts_smtp": {
                "conn_type": "smtp",
                "host": "127.0.0.1",
                "port": self.smtp_port,
                "extra": json.dumps(smtp_extra),
            },
        }
        return {f"AIRFLOW_CONN_{name.upper()}": json.dumps(all_of_them[name]) for name in names or all_of_them}

    def told_of(self, *run_ids: str, count: int) -> list[tuple[str, str]]:
        """Return event and run of what came by HTTP of these runs, as soon as there are `count`, and a little later."""
        deadline = time.monotonic() + SECONDS_TO_BE_TOLD
        while len(self._of(run_ids)) < count and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(SECONDS_FOR_ONE_TOO_MANY)
        return self._of(run_ids)

    def _of(self, run_ids: Sequence[str]) -> list[tuple[str, str]]:
        told = [(posted.body.get("event", ""), posted.body.get("run_id", "")) for posted in list(self.posts)]
        return [(event, run_id) for event, run_id in told if run_id in run_ids]

    def clear(self) -> None:
        """Forget what came."""
        self.posts.clear()
        self.mails.clear()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Take a mail."""
        message = email.message_from_bytes(envelope.original_content or b"", policy=default)
        body = message.get_body(("html", "plain"))
        assert body is not None
        self.mails.append(Mail(envelope.rcpt_tos, message["subject"], body.get_content()))
        return "250 OK"


@contextmanager
def alert_servers() -> Iterator[AlertServers]:
    """Run them."""
    servers = AlertServers(free_port(), free_port())

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            servers.posts.append(Posted(self.path, json.loads(body)))
            self._answer()

        def do_GET(self) -> None:
            servers.posts.append(Posted(self.path, {}))
            self._answer()

        def _answer(self) -> None:
            self.send_response(servers.answer)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", servers.http_port), Endpoint)
    thread = Thread(target=http.serve_forever, daemon=True)
    thread.start()
    smtp = Controller(servers, hostname="127.0.0.1", port=servers.smtp_port)
    smtp.start()
    try:
        yield servers
    finally:
        smtp.stop()
        http.shutdown()
        http.server_close()
        thread.join()
