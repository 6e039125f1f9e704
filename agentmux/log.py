"""Loggers by structlog that stay quiet until the application says otherwise."""

from __future__ import annotations

import logging
from typing import Any

import structlog


def get_logger(name: str) -> Any:
    """A structlog logger called ``name``.

    An application that has configured structlog gets its events there. Otherwise they go to the standard library's
    logger of that name, which by default shows warnings and above: structlog's own default would print every event to
    standard output, which belongs to the application.
    """
    if structlog.is_configured():
        return structlog.get_logger(name)
    return structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, structlog.processors.KeyValueRenderer(key_order=["event"])],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
