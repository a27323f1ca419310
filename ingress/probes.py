"""Whether a dependency answers, asked without a library that could block."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

_HELLO = b"AMQP\x00\x00\x09\x01"


async def amqp_answers(url: str, *, doubtful: bool) -> None:
    """Connect to RabbitMQ; where it is doubtful, shake hands as far as its first frame.

    A half handshake is a warning in RabbitMQ's log each time, so it is left out while publishes go through anyway.

    Raises OSError or EOFError.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "amqps"
    port = parts.port or (5671 if secure else 5672)
    reader, writer = await asyncio.open_connection(parts.hostname or "localhost", port, ssl=secure or None)
    try:
        if doubtful:
            writer.write(_HELLO)
            await reader.readexactly(1)
    finally:
        writer.close()
