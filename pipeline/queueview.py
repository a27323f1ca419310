"""A look at the queue from outside: how deep it is, and the dead letters, which are written here."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import orjson
import pika
import pika.exceptions
from dramatiq.common import xq_name
from pika.adapters.blocking_connection import BlockingChannel

from pipeline.crash import crash
from pipeline.rabbit import DEAD_LETTERS, cut, open_connection

log = logging.getLogger(__name__)

DEADLINE_S = 3.0  # a confirmed publish may block without end; past this its connection is cut
AWAY_S = 2.0  # after a failure the queue is left alone for this time
NOT_FOUND = 404
_T = TypeVar("_T")


class QueueView:
    """Looks at queues and writes dead letters, over a connection of its own; None and False while RabbitMQ is away.

    Nothing here waits for longer than a few seconds, whatever RabbitMQ does: the sweep has other work.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: pika.BlockingConnection | None = None
        self._channel: BlockingChannel | None = None
        self._away_until = 0.0
        self._is_away = False

    def depth(self, queue: str) -> tuple[int, int] | None:
        """(messages ready, consumers); a queue that nobody has made yet has none of either."""
        try:
            declared = self._ask(lambda channel: channel.queue_declare(queue=queue, passive=True))
        except pika.exceptions.ChannelClosedByBroker as error:
            return (0, 0) if error.reply_code == NOT_FOUND else None
        except (pika.exceptions.AMQPError, OSError) as error:
            if not self._is_away:
                log.warning("the queue can't be looked at: %s", error or type(error).__name__)
            self._is_away = True
            return None
        self._is_away = False
        return declared.method.message_count, declared.method.consumer_count

    def bury(self, queue: str, body: dict[str, object]) -> bool:
        """Write a dead letter; when it can't be said that it was, it may be there all the same."""
        try:
            self._ask(lambda channel: _publish(channel, xq_name(queue), orjson.dumps(body)))
        except (pika.exceptions.AMQPError, OSError) as error:
            log.warning("a dead letter could not be written: %s", error or type(error).__name__)
            return False
        return True

    def close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None and connection.is_open:
            try:
                connection.close()
            except (pika.exceptions.AMQPError, OSError) as error:
                log.debug("closing the view of the queue: %s", error)

    def _ask(self, question: Callable[[BlockingChannel], _T]) -> _T:
        """Asked again on a new connection where the old one turns out to be dead, as after a quiet time."""
        if time.monotonic() < self._away_until:
            raise pika.exceptions.AMQPConnectionError("RabbitMQ was away a moment ago")
        was_open = self._connection is not None
        is_late = threading.Event()

        def end() -> None:
            is_late.set()  # first: whoever waits gets its error at once
            cut(self._connection)

        timer = threading.Timer(DEADLINE_S, end)
        timer.daemon = True
        timer.start()
        try:
            return question(self._open())
        except pika.exceptions.ChannelClosedByBroker:
            self._channel = None
            raise
        except (pika.exceptions.AMQPError, OSError):
            self.close()
            if not was_open or is_late.is_set():
                self._away_until = time.monotonic() + AWAY_S
                raise
        finally:
            timer.cancel()
        return self._ask(question)

    def _open(self) -> BlockingChannel:
        if self._connection is None or not self._connection.is_open:
            self._connection = open_connection(self._url)
            self._channel = None
        if self._channel is None or not self._channel.is_open:
            self._channel = self._connection.channel()
            self._channel.confirm_delivery()
        return self._channel


def _publish(channel: BlockingChannel, queue: str, body: bytes) -> None:
    channel.queue_declare(queue=queue, durable=True, arguments=DEAD_LETTERS)
    crash("letters.before_publish")
    properties = pika.BasicProperties(delivery_mode=2, content_type="application/json")
    channel.basic_publish(exchange="", routing_key=queue, body=body, properties=properties, mandatory=True)
    crash("letters.after_publish")
