"""What is kept out of the logs of tasks, and that nothing else is."""

from __future__ import annotations

import logging

import pytest

from include.customer_360.known_warnings import KNOWN, silence_known_warnings


@pytest.mark.parametrize("name", KNOWN)
def test_only_the_known_message_of_a_logger_is_left_out(name: str, caplog: pytest.LogCaptureFixture) -> None:
    silence_known_warnings()
    silence_known_warnings()
    logger = logging.getLogger(name)
    assert len(logger.filters) == 1
    logger.propagate = True
    logger.warning("%s, and what it is about", KNOWN[name])
    logger.warning("Something else")
    assert [record.getMessage() for record in caplog.records] == ["Something else"]
