"""Log lines of the processes behind the door: the fact, and the ids it is about."""

from __future__ import annotations

import logging
import os

_OWN = logging.makeLogRecord({}).__dict__.keys() | {"message", "asctime", "taskName"}


class WithFacts(logging.Formatter):
    """Adds what a line was given as `extra`: `order set aside  order_id=… stage=risk`."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        facts = " ".join(f"{name}={value}" for name, value in record.__dict__.items() if name not in _OWN)
        line = super().formatMessage(record)
        return f"{line}  {facts}" if facts else line


def begin() -> None:
    """Log to standard error, from LOG_LEVEL (INFO) on."""
    handler = logging.StreamHandler()
    handler.setFormatter(WithFacts("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=os.environ.get("LOG_LEVEL", "INFO"), handlers=[handler])
    logging.getLogger("pika").setLevel(logging.CRITICAL)  # it tells every reconnect as an error, in many lines
