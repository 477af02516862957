"""Warnings of libraries that nobody can act on, each with its reason: they would stand in the log of every task."""

from __future__ import annotations

import logging
from collections.abc import Mapping

KNOWN: Mapping[str, str] = {
    # Exposures are campaigns and dashboards, which have no task in the build. Cosmos warns before it looks for the
    # converter that it asks for, and RenderConfig.exclude would be handed to dbt as well.
    "cosmos.airflow.graph": "Unavailable conversion function for <DbtResourceType.EXPOSURE>",
    # OpenLineage's reader of dbt's artifacts knows the tests of models only, not those of the snapshot.
    "openlineage.common.provider.dbt.local.DbtLocalArtifactProcessor": "Model node connected to test",
}
"""How the message begins, by the logger's name."""


class _Known(logging.Filter):
    """Lets everything pass but the one message of a logger."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(KNOWN[self.name])


def silence_known_warnings() -> None:
    """Keep these warnings, and no other of the same loggers, out of the logs of this process."""
    for name in KNOWN:
        logger = logging.getLogger(name)
        if not any(isinstance(each, _Known) for each in logger.filters):
            logger.addFilter(_Known(name))
