"""The stages' `.XQ` queues: the operators' view of what is stuck. The rows are the truth; what they don't bear out goes."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from uuid import UUID

import orjson
import pika.exceptions
from dramatiq.common import xq_name
from pika import BlockingConnection
from pika.adapters.blocking_connection import BlockingChannel

from pipeline.chain import queue_of
from pipeline.crash import crash
from pipeline.desk import Desk
from pipeline.rabbit import open_connection
from store import stuck

log = logging.getLogger(__name__)

READ_MAX = 500  # letters that are compared with their rows at a time
NOT_FOUND = 404

Key = tuple[str, int]  # order id, seq


def tidy(desk: Desk, stages: Collection[str]) -> int:
    """Take letters off these stages' queues whose commands are not stuck any more; gives how many.

    A letter is acknowledged only after its row was looked at; killed midway, all others return to their queue.
    """
    taken = 0
    try:
        with _connection(desk) as connection:
            for stage in sorted(stages):
                channel = connection.channel()  # its own: a queue that nobody has made yet closes it
                for tags, keys in _letters(channel, stage):
                    true = _borne_out(desk, stage, keys)
                    for tag, key in zip(tags, keys, strict=True):
                        if key not in true:
                            crash("letters.before_ack")
                            channel.basic_ack(tag)
                            taken += 1
    except (pika.exceptions.AMQPError, OSError) as error:
        log.warning("dead letters stay where they are: %s", error or type(error).__name__)
    return taken


def read(desk: Desk, stage: str) -> Iterator[list[tuple[Key | None, bool]]]:
    """The stage's letters, some at a time, each with whether its command is stuck; a key of None is no letter of ours.

    All return to their queue at the end. Raises pika's errors and OSError.
    """
    with _connection(desk) as connection:
        for _, keys in _letters(connection.channel(), stage):
            true = _borne_out(desk, stage, keys)
            yield [(key, key in true) for key in keys]


@contextmanager
def _connection(desk: Desk) -> Iterator[BlockingConnection]:
    connection = open_connection(desk.environment.queue_url)
    try:
        yield connection
    finally:
        if connection.is_open:
            connection.close()  # what was not acknowledged returns to its queue


def _letters(channel: BlockingChannel, stage: str) -> Iterator[tuple[list[int], list[Key | None]]]:
    """All letters that are there now, as their delivery tags and whose they are."""
    queue = xq_name(queue_of(stage))
    try:
        left = int(channel.queue_declare(queue=queue, passive=True).method.message_count)
    except pika.exceptions.ChannelClosedByBroker as error:
        if error.reply_code == NOT_FOUND:
            return  # nobody has made this queue yet
        raise
    while left > 0:
        tags, keys = [], []
        for _ in range(min(left, READ_MAX)):
            method, _, body = channel.basic_get(queue)
            if method is None or body is None:
                break
            tags.append(method.delivery_tag)
            keys.append(_key_of(body))
        if not tags:
            return
        left -= len(tags)
        yield tags, keys


def _key_of(body: bytes) -> Key | None:
    try:
        letter = orjson.loads(body)
        return str(UUID(letter["orderId"])), int(letter["seq"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _borne_out(desk: Desk, stage: str, keys: Collection[Key | None]) -> set[Key]:
    """Those whose commands are stuck at the stage."""
    asked = sorted({key for key in keys if key is not None})
    with desk.store.unit() as unit:
        return stuck.are_stuck(unit, asked, stage)
