"""What lies in the dead-letter queues, read and put back."""

from __future__ import annotations

import contextlib

import orjson
import pika
import pika.exceptions
from dramatiq.common import xq_name

from pipeline.chain import all_stages, queue_of
from pipeline.rabbit import open_connection
from tests.chaos.points import BROKERS


def dead_letters(queue_url: str) -> list[str]:
    """The order ids of all dead letters; "?" for one that names none. None are taken away."""
    found = []
    connection = open_connection(queue_url)
    try:
        for stage in all_stages(BROKERS):
            channel = connection.channel()
            try:
                while (got := channel.basic_get(xq_name(queue_of(stage))))[0] is not None:
                    found.append(_order_of(got[2]))
            except pika.exceptions.ChannelClosedByBroker:  # nobody has made this queue yet
                continue
    finally:
        with contextlib.suppress(pika.exceptions.AMQPError):
            connection.close()  # what was not acknowledged returns to its queue
    return found


def _order_of(body: bytes | None) -> str:
    try:
        return str(orjson.loads(body or b"{}").get("orderId", "?"))
    except (ValueError, AttributeError):
        return "?"
