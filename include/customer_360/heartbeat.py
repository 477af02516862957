"""Tells a watch outside that marts were published: a dead scheduler can raise no alert of its own."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from include.customer_360.settings import load_settings

TRIES = 2
SECONDS_FOR_AN_ANSWER = 5.0


def call_heartbeat(info: Callable[..., None], warning: Callable[..., None]) -> None:
    """Call HEARTBEAT_URL, where there is one; when nothing good answers, say so and go on.

    No more than its host is said of it: the rest is often the key to it.
    """
    url = load_settings().heartbeat_url.get_secret_value()
    if not url:
        return
    # Imported here: every task imports this file.
    import httpx

    host = urlsplit(url).hostname or "HEARTBEAT_URL"
    for attempt in range(1, TRIES + 1):
        try:
            answer = httpx.get(url, timeout=SECONDS_FOR_AN_ANSWER, follow_redirects=True)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            said = type(error).__name__
        else:
            if answer.is_success:
                info("The heartbeat at %s is told.", host)
                return
            said = f"HTTP {answer.status_code}"
        if attempt == TRIES:
            warning(
                "The heartbeat at %s was not told, in %d tries: %s. The marts are published; whoever watches it may be "
                "alarmed. Correct HEARTBEAT_URL or what stands between.",
                host,
                TRIES,
                said,
            )
