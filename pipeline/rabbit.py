"""The queue as we use it: quorum queues, confirmed publishes, and consumers that never acknowledge on a dead channel.

Overrides private hooks of Dramatiq 2.2.1, pinned exactly; `tests/unit/pipeline/test_rabbit.py` fails when they change.
"""

from __future__ import annotations

import contextlib
import random
import socket
from typing import Any
from urllib.parse import unquote, urlsplit

import pika
from dramatiq.brokers.rabbitmq import RabbitmqBroker, _RabbitmqConsumer
from dramatiq.common import dq_name, xq_name
from dramatiq.message import Message
from dramatiq.middleware import Middleware, Retries, ShutdownNotifications, SkipMessage
from pika.adapters.utils.connection_workflow import AMQPConnectorException

from pipeline.crash import crash

DELIVERY_LIMIT = 20  # a message that kills its worker this often is a dead letter
NO_DELIVERY_LIMIT = 1_000_000  # every return counts, also of delayed and dead letters; unset means 20 from 4.0 on
DEAD_LETTERS = {"x-queue-type": "quorum", "x-delivery-limit": NO_DELIVERY_LIMIT}  # no time to live: operators empty it
HEARTBEAT_S = 5  # of consumers, whose threads are always at the wire
# A connection that is used now and then sends no heartbeat in between: RabbitMQ would cut it each time, and the next
# message would pay for a new one. TCP's own limits find a dead peer as soon as something is said to it.
NO_HEARTBEAT = 0
# Half-open connections are noticed within 5 s.
_TCP_OPTIONS = {"TCP_USER_TIMEOUT": 5000, "TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 2}


class SafeConsumer(_RabbitmqConsumer):
    """Binds a delivery to its own channel.

    After a reconnect delivery tags begin again at 1; acknowledging by an old number would remove another message.
    """

    def __next__(self) -> Any:
        message = super().__next__()
        if message is not None:
            message._owner = self
        return message

    def ack(self, message: Any) -> None:
        if message._owner is self:
            crash("wakeups.before_ack")
            super().ack(message)

    def nack(self, message: Any) -> None:
        """A wake-up that failed to the end is thrown away: the sweep sends another, and writes the dead letters itself."""
        if message._owner is self:
            super().ack(message)


class SkipOrphans(Middleware):
    """Leaves a prefetched message whose channel is gone: it was delivered again, to somebody."""

    def before_process_message(self, broker: Any, message: Any) -> None:
        owner = getattr(message, "_owner", None)
        if owner is not None and not owner.channel.is_open:
            raise SkipMessage


class OrderBroker(RabbitmqBroker):
    """Dramatiq's broker with quorum queues and no time to live for dead letters: only operators empty these."""

    @property
    def consumer_class(self) -> type[SafeConsumer]:
        return SafeConsumer

    def _build_queue_arguments(self, queue_name: str) -> dict[str, Any]:
        return {
            **super()._build_queue_arguments(queue_name),
            "x-queue-type": "quorum",
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }

    def _declare_queue(self, queue_name: str) -> Any:
        arguments = {**self._build_queue_arguments(queue_name), "x-delivery-limit": DELIVERY_LIMIT}
        return self._declare(queue_name, arguments)

    def _declare_dq_queue(self, queue_name: str) -> Any:
        arguments = {**self._build_queue_arguments(queue_name), "x-delivery-limit": NO_DELIVERY_LIMIT}
        return self._declare(dq_name(queue_name), arguments)

    def _declare_xq_queue(self, queue_name: str) -> Any:
        return self._declare(xq_name(queue_name), DEAD_LETTERS)

    def _declare(self, name: str, arguments: dict[str, Any]) -> Any:
        return self.channel.queue_declare(queue=name, durable=True, arguments=arguments)


def connect(url: str, *, heartbeat_s: int = HEARTBEAT_S) -> OrderBroker:
    """A broker for the queue's URLs (several nodes are separated by commas); connects at first use."""
    retries = Retries(max_retries=3, min_backoff=500, max_backoff=10_000)
    return OrderBroker(
        parameters=nodes(url, heartbeat_s), confirm_delivery=True, middleware=[SkipOrphans(), retries, ShutdownNotifications()]
    )


def nodes(url: str, heartbeat_s: int) -> list[dict[str, Any]]:
    """pika's parameters for each node, in an order of chance, so that not all load hits the first."""
    each = [parameters(node, heartbeat_s) for node in url.split(",")]
    random.shuffle(each)
    return each


def open_connection(url: str) -> pika.BlockingConnection:
    """A connection to any of the nodes, for one who speaks now and then. Raises AMQPError or OSError."""
    try:
        return pika.BlockingConnection([pika.ConnectionParameters(**node) for node in nodes(url, NO_HEARTBEAT)])
    except AMQPConnectorException as error:  # no AMQPError of pika's own: a node that took the call and said nothing
        raise pika.exceptions.AMQPConnectionError(str(error) or type(error).__name__) from error


def cut(connection: Any) -> None:
    """Break a connection from another thread; whoever waits on it gets an error at once."""
    transport = getattr(getattr(connection, "_impl", None), "_transport", None)
    sock = getattr(transport, "_sock", None)
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def parameters(url: str, heartbeat_s: int = HEARTBEAT_S) -> dict[str, Any]:
    """pika's parameters for one node, with deadlines that turn a lost network into an error within seconds."""
    parts = urlsplit(url)
    options = {name: value for name, value in _TCP_OPTIONS.items() if hasattr(socket, name)}
    return {
        "host": parts.hostname or "127.0.0.1",
        "port": parts.port or 5672,
        "virtual_host": unquote(parts.path[1:]) if len(parts.path) > 1 else "/",
        "credentials": pika.PlainCredentials(unquote(parts.username or "guest"), unquote(parts.password or "guest")),
        "heartbeat": heartbeat_s,
        "socket_timeout": 2,
        "stack_timeout": 3,
        "blocked_connection_timeout": 5,
        "connection_attempts": 1,
        "tcp_options": options,
    }


def wakeup_message(queue: str, since: str | None) -> Message[Any]:
    return Message(queue_name=queue, actor_name=queue, args=(since,), kwargs={}, options={})
