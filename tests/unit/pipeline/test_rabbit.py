"""The hooks of Dramatiq that are overridden here, held to the version they were written for."""

from __future__ import annotations

import inspect
import socket
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import dramatiq.brokers.rabbitmq as theirs
import dramatiq.worker
import pytest
from dramatiq.middleware import SkipMessage
from pika.exceptions import AMQPConnectionError

from pipeline import rabbit
from pipeline.rabbit import (
    OrderBroker,
    SafeConsumer,
    SkipOrphans,
    connect,
    nodes,
    open_connection,
    parameters,
    wakeup_message,
)


def test_the_version_is_the_one_whose_private_hooks_are_overridden() -> None:
    assert version("dramatiq") == "2.2.1"


@pytest.mark.parametrize(
    ("name", "signature"),
    [
        ("_declare_queue", "(self, queue_name)"),
        ("_declare_dq_queue", "(self, queue_name)"),
        ("_declare_xq_queue", "(self, queue_name)"),
        ("_build_queue_arguments", "(self, queue_name)"),
        ("_ensure_queue", "(self, canonical_queue_name)"),
    ],
)
def test_a_hook_has_the_signature_it_had(name: str, signature: str) -> None:
    assert str(inspect.signature(getattr(theirs.RabbitmqBroker, name))) == signature


def test_a_consumer_has_the_methods_it_had() -> None:
    consumer = theirs._RabbitmqConsumer
    assert str(inspect.signature(consumer.__init__)) == "(self, broker, queue_name, prefetch, timeout)"
    assert [str(inspect.signature(getattr(consumer, name))) for name in ("ack", "nack", "__next__")] == [
        "(self, message)",
        "(self, message)",
        "(self)",
    ]
    assert isinstance(theirs.RabbitmqBroker.consumer_class, property)


def test_the_pieces_a_cut_reaches_for_are_there() -> None:
    """`connections` of the broker, `_impl` and `_transport` of pika's connection: see `rabbit.cut`."""
    from pika.adapters.base_connection import BaseConnection
    from pika.adapters.blocking_connection import BlockingConnection

    assert "self._impl =" in inspect.getsource(BlockingConnection.__init__)
    assert "self._transport" in inspect.getsource(BaseConnection)
    assert connect("amqp://localhost").connections == set()


def test_a_node_that_takes_a_call_and_says_nothing_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rabbit, "parameters", lambda *given: parameters(*given) | {"stack_timeout": 0.3})
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(AMQPConnectionError, match="Timeout"):
        open_connection(f"amqp://127.0.0.1:{silent.getsockname()[1]}")


def test_a_worker_lets_its_prefetch_be_set_before_it_starts() -> None:
    source = inspect.getsource(dramatiq.worker.Worker)
    assert "self.queue_prefetch =" in source
    assert "else self.queue_prefetch" in source


class Declared:
    """A channel that notes what is declared on it."""

    def __init__(self) -> None:
        self.queues: dict[str, dict[str, Any]] = {}

    def queue_declare(self, *, queue: str, durable: bool, arguments: dict[str, Any]) -> None:
        assert durable
        self.queues[queue] = arguments


def test_every_queue_is_a_quorum_queue_and_dead_letters_never_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = Declared()
    monkeypatch.setattr(OrderBroker, "channel", channel)
    broker = connect("amqp://localhost")
    broker.declare_queue("one")
    broker._ensure_queue("one")

    assert set(channel.queues) == {"one", "one.DQ", "one.XQ"}
    assert {arguments["x-queue-type"] for arguments in channel.queues.values()} == {"quorum"}
    assert channel.queues["one"]["x-delivery-limit"] == 20
    assert channel.queues["one.DQ"]["x-delivery-limit"] == 1_000_000
    assert channel.queues["one.XQ"] == {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}


def test_publishes_are_confirmed_and_no_middleware_keeps_state_in_messages() -> None:
    broker = connect("amqp://localhost")

    assert broker.confirm_delivery
    names = [type(each).__name__ for each in broker.middleware]
    assert names == ["SkipOrphans", "Retries", "ShutdownNotifications"]


class NotedConsumer(SafeConsumer):
    """Without a connection; notes the tags it is asked to acknowledge."""

    def __init__(self) -> None:
        self.known_tags = {1, 2}
        self.acked: list[Any] = []
        self.connection = SimpleNamespace(add_callback_threadsafe=self.acked.append)
        self.channel = SimpleNamespace(basic_ack=lambda tag: tag, basic_nack=lambda tag, requeue: tag)


@pytest.mark.parametrize("verb", ["ack", "nack"])
def test_a_message_of_another_channel_is_not_acknowledged_here(verb: str) -> None:
    here, before = NotedConsumer(), NotedConsumer()
    ours, theirs_ = SimpleNamespace(_owner=here, _tag=1), SimpleNamespace(_owner=before, _tag=2)

    getattr(here, verb)(theirs_)
    assert here.acked == []
    getattr(here, verb)(ours)
    assert len(here.acked) == 1


@pytest.mark.parametrize("is_open", [True, False])
def test_what_was_prefetched_on_a_channel_that_is_gone_is_skipped(is_open: bool) -> None:
    message = SimpleNamespace(_owner=SimpleNamespace(channel=SimpleNamespace(is_open=is_open)))
    if is_open:
        SkipOrphans().before_process_message(None, message)
    else:
        with pytest.raises(SkipMessage):
            SkipOrphans().before_process_message(None, message)


def test_a_url_becomes_parameters_that_notice_a_lost_network() -> None:
    found = parameters("amqp://me:p%40ss@queue.example:5673/vh%2F1")

    assert (found["host"], found["port"], found["virtual_host"]) == ("queue.example", 5673, "vh/1")
    assert (found["credentials"].username, found["credentials"].password) == ("me", "p@ss")
    assert (found["heartbeat"], found["socket_timeout"], found["blocked_connection_timeout"]) == (5, 2, 5)
    assert parameters("amqp://localhost")["virtual_host"] == "/"


def test_several_nodes_are_tried_in_an_order_of_chance() -> None:
    url = ",".join(f"amqp://node{number}" for number in range(8))
    orders = {tuple(node["host"] for node in nodes(url, 5)) for _ in range(20)}

    assert len(orders) > 1
    assert {frozenset(order) for order in orders} == {frozenset(f"node{number}" for number in range(8))}


def test_a_wakeup_names_its_stage_twice_and_carries_no_order() -> None:
    message = wakeup_message("oc.v2.risk", None)

    assert (message.queue_name, message.actor_name, message.args, message.kwargs) == (
        "oc.v2.risk",
        "oc.v2.risk",
        (None,),
        {},
    )


def test_cutting_nothing_is_no_error() -> None:
    rabbit.cut(None)
