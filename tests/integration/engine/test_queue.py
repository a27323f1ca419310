"""The queue as RabbitMQ keeps it, and connections that are lost, frozen and found again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import dramatiq
import orjson
import pika
import pika.exceptions
import pytest
from dramatiq.common import dq_name, xq_name
from dramatiq.worker import Worker
from house import eventually
from proxies import Proxy

import pipeline.chain
from domain.ids import new_id
from pipeline.chain import queue_of
from pipeline.queueview import QueueView
from pipeline.rabbit import OrderBroker, SafeConsumer, connect, wakeup_message
from pipeline.wakeups import Wakeups

Seen = Callable[[str], int]
logging.getLogger("pika").setLevel(logging.CRITICAL)


@pytest.fixture
def channel(queue_url: str) -> Iterator[Any]:
    connection = pika.BlockingConnection(pika.URLParameters(queue_url))
    yield connection.channel()
    connection.close()


@pytest.fixture
def prefix(monkeypatch: pytest.MonkeyPatch, channel: Any) -> Iterator[str]:
    """Queues of this test's own, deleted at its end."""
    prefix = f"test.{new_id()[-12:]}."
    monkeypatch.setattr(pipeline.chain, "QUEUE_PREFIX", prefix)
    yield prefix
    for stage in ("one", "two"):
        for name in (queue_of(stage), dq_name(queue_of(stage)), xq_name(queue_of(stage))):
            channel.queue_delete(name)


@pytest.fixture
def wire(queue_url: str) -> Iterator[Proxy]:
    proxy = Proxy(queue_url)
    yield proxy
    proxy.close()


@pytest.fixture
def broker(wire: Proxy, prefix: str) -> Iterator[OrderBroker]:
    broker = connect(wire.url)
    yield broker
    broker.close()


@pytest.fixture
def seen(queue_url: str, prefix: str) -> Iterator[Callable[[str], int]]:
    """How many messages are ready at a stage."""
    view = QueueView(queue_url)
    yield lambda stage: (view.depth(queue_of(stage)) or (0, 0))[0]
    view.close()


def test_queues_are_quorum_queues_and_dead_letters_have_no_end(broker: OrderBroker, channel: Any) -> None:
    name = queue_of("one")
    broker.declare_queue(name, ensure=True)
    dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": xq_name(name)}
    quorum = {"x-queue-type": "quorum"}
    safe = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}

    # RabbitMQ refuses a declaration whose arguments differ from what is there.
    declared = channel.queue_declare
    declared(name, durable=True, arguments=quorum | dead | safe | {"x-delivery-limit": 20})
    declared(dq_name(name), durable=True, arguments=quorum | dead | safe | {"x-delivery-limit": 1_000_000})
    declared(xq_name(name), durable=True, arguments=quorum | {"x-delivery-limit": 1_000_000})
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="PRECONDITION_FAILED"):
        channel.connection.channel().queue_declare(
            xq_name(name), durable=True, arguments=quorum | {"x-message-ttl": 604_800_000}
        )


def test_a_dead_letter_survives_being_looked_at_fifty_times(view: QueueView, channel: Any) -> None:
    name = queue_of("one")
    assert view.bury(name, {"orderId": "1"})

    for _ in range(50):
        method, _, body = channel.basic_get(xq_name(name))
        assert body == b'{"orderId":"1"}'
        channel.basic_nack(method.delivery_tag, requeue=True)


def test_an_ack_after_a_reconnect_removes_nothing(broker: OrderBroker, wire: Proxy, seen: Seen) -> None:
    name = queue_of("one")
    for number in range(2):
        broker.enqueue(wakeup_message(name, str(number)))
    old = SafeConsumer(broker, name, prefetch=1, timeout=2000)
    held = next(old)
    assert held.args == ("0",)
    wire.cut()
    wire.mend()
    new = eventually(lambda: _consumer(broker, name))
    again = eventually(lambda: next(new))

    new.ack(held)  # as Dramatiq's worker thread does: by the old message, on the consumer of now
    assert next(new) is None  # one at a time: nothing more comes while what is in hand isn't acknowledged
    new.ack(again)
    rest = eventually(lambda: next(new))
    assert rest.args != again.args
    new.ack(rest)
    new.close()
    with pytest.raises(dramatiq.errors.ConnectionClosed):
        old.close()

    eventually(lambda: seen("one") == 0)


def test_a_wakeup_that_failed_to_the_end_is_no_dead_letter(broker: OrderBroker, view: QueueView) -> None:
    """As when the database is away for longer than the tries take; the sweep wakes the stage when it is back."""
    name = queue_of("one")
    broker.enqueue(wakeup_message(name, None))
    consumer = SafeConsumer(broker, name, prefetch=1, timeout=200)
    failed = eventually(lambda: next(consumer))

    consumer.nack(failed)

    assert next(consumer) is None
    consumer.close()
    assert [(view.depth(queue) or (0, 0))[0] for queue in (name, xq_name(name))] == [0, 0]


def _consumer(broker: OrderBroker, name: str) -> SafeConsumer | None:
    try:
        return SafeConsumer(broker, name, prefetch=1, timeout=500)
    except dramatiq.errors.ConnectionError:
        return None


def test_a_worker_goes_on_after_the_queue_was_away(broker: OrderBroker, wire: Proxy, monkeypatch: Any) -> None:
    monkeypatch.setattr("dramatiq.worker.CONSUMER_RESTART_DELAY_SECS", 0.05)
    ran: list[str | None] = []

    @dramatiq.actor(actor_name=queue_of("one"), queue_name=queue_of("one"), broker=broker)
    def act(since: str | None = None) -> None:
        ran.append(since)

    worker = Worker(broker, worker_threads=1, worker_timeout=100)
    worker.start()
    broker.enqueue(wakeup_message(queue_of("one"), "before"))
    eventually(lambda: ran == ["before"])
    wire.cut()
    wire.mend()

    broker.enqueue(wakeup_message(queue_of("one"), "after"))

    eventually(lambda: ran[-1] == "after")
    worker.stop(timeout=2000)


@pytest.fixture
def wakeups(wire: Proxy, prefix: str) -> Iterator[Wakeups]:
    wakeups = Wakeups(wire.url)
    wakeups.start()
    yield wakeups
    wire.mend()
    wakeups.stop(5.0)


def test_wakeups_are_published_and_coalesced(wakeups: Wakeups, seen: Seen) -> None:
    for _ in range(500):
        wakeups.wake("one")
    wakeups.wake("two")

    eventually(lambda: seen("two") == 1)
    assert 1 <= seen("one") <= 50


def test_a_wakeup_while_the_queue_is_away_is_dropped_and_the_next_one_goes(
    wakeups: Wakeups, wire: Proxy, seen: Seen
) -> None:
    wakeups.wake("one")
    eventually(lambda: seen("one") == 1)
    wire.cut()
    wakeups.wake("one")
    eventually(lambda: not wakeups.connected)
    wire.mend()

    eventually(lambda: wakeups.wake("one") or seen("one") >= 2)  # type: ignore[func-returns-value]
    eventually(lambda: wakeups.connected)


def test_a_publish_that_is_never_confirmed_is_cut_and_never_blocks_who_wakes(
    wakeups: Wakeups, wire: Proxy, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    wakeups.wake("one")
    eventually(lambda: seen("one") == 1)
    eventually(lambda: wakeups._publishing_since is None)  # it is confirmed too: the deadline is the next one's alone
    wire.freeze()
    started = time.monotonic()
    wakeups.wake("one")

    eventually(lambda: "connection cut" in caplog.text, within_s=4)
    slowest = 0.0
    for _ in range(100):
        before = time.monotonic()
        wakeups.wake("two")
        slowest = max(slowest, time.monotonic() - before)
    wire.mend()
    eventually(lambda: seen("one") >= 2)

    assert time.monotonic() - started >= 2.0
    assert slowest < 0.5


def test_wakeups_stop_while_the_queue_is_away(wire: Proxy, prefix: str) -> None:
    wire.cut()
    wakeups = Wakeups(wire.url)
    wakeups.start()
    wakeups.wake("one")

    wakeups.stop(5.0)

    assert not wakeups._thread.is_alive()


@pytest.fixture
def view(wire: Proxy, prefix: str) -> Iterator[QueueView]:
    view = QueueView(wire.url)
    yield view
    wire.mend()
    view.close()


def test_a_view_counts_what_is_ready_and_who_consumes(view: QueueView, broker: OrderBroker) -> None:
    assert view.depth(queue_of("one")) == (0, 0)
    for _ in range(3):
        broker.enqueue(wakeup_message(queue_of("one"), None))
    eventually(lambda: view.depth(queue_of("one")) == (3, 0))

    consumer = SafeConsumer(broker, queue_of("one"), prefetch=1, timeout=2000)
    next(consumer)
    eventually(lambda: view.depth(queue_of("one")) == (2, 1))
    consumer.close()


def test_a_view_finds_the_queue_again_at_once_after_a_lost_connection(view: QueueView, wire: Proxy) -> None:
    assert view.depth(queue_of("one")) == (0, 0)
    wire.cut()
    wire.mend()

    assert view.depth(queue_of("one")) == (0, 0)


def test_a_view_says_when_the_queue_is_away_and_does_not_ask_again_at_once(view: QueueView, wire: Proxy) -> None:
    wire.cut()

    assert view.depth(queue_of("one")) is None
    assert not view.bury(queue_of("one"), {})
    wire.mend()
    eventually(lambda: view.depth(queue_of("one")) == (0, 0))


def test_a_dead_letter_that_is_never_confirmed_does_not_hold_the_sweep_up(view: QueueView, wire: Proxy) -> None:
    assert view.bury(queue_of("one"), {"orderId": "1"})
    wire.freeze()
    started = time.monotonic()

    assert not view.bury(queue_of("one"), {"orderId": "2"})
    assert view.depth(queue_of("one")) is None

    assert time.monotonic() - started < 5


def test_a_dead_letter_makes_its_queue_where_no_worker_ever_did(view: QueueView, channel: Any) -> None:
    assert view.bury(queue_of("two"), {"orderId": "1", "error": "ValueError"})

    _, properties, body = channel.basic_get(xq_name(queue_of("two")), auto_ack=True)
    assert orjson.loads(body) == {"orderId": "1", "error": "ValueError"}
    assert properties.delivery_mode == 2
