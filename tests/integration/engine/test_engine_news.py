"""News of orders that moved: told through Redis, and never waited for."""

from __future__ import annotations

import time
from collections.abc import Iterator

import orjson
import pytest
from house import House, eventually, intake_engine
from proxies import Proxy

from pipeline.desk import Desk, open_redis
from pipeline.news import CHANNEL, tell


@pytest.fixture
def wire(redis_url: str) -> Iterator[Proxy]:
    proxy = Proxy(redis_url)
    yield proxy
    proxy.close()


@pytest.fixture
def desk(house: House, wire: Proxy) -> Desk:
    desk = house.desk()
    desk.redis = open_redis(wire.url)
    return desk


def seconds_of(desk: Desk, times: int) -> float:
    started = time.monotonic()
    for _ in range(times):
        tell(desk, ["an intent"])
    return time.monotonic() - started


def test_news_name_the_intents_whose_orders_moved(house: House, desk: Desk, redis_url: str) -> None:
    client = open_redis(redis_url)
    with client, client.pubsub() as listener:
        listener.subscribe(CHANNEL)
        eventually(lambda: listener.get_message(timeout=0.1))
        acceptance = house.accept(1, account="NONE")

        intake_engine(desk).run("validate")

        message = eventually(lambda: listener.get_message(ignore_subscribe_messages=True, timeout=0.1))
    assert orjson.loads(message["data"]) == {"intents": [acceptance.intent_id]}


def test_no_batch_waits_long_for_redis_that_is_away(desk: Desk, wire: Proxy) -> None:
    wire.cut()

    assert seconds_of(desk, 100) < 1.5


def test_no_batch_waits_long_for_redis_that_hangs(desk: Desk, wire: Proxy) -> None:
    tell(desk, ["an intent"])
    wire.freeze()

    assert seconds_of(desk, 100) < 2.5


def test_news_are_told_again_when_redis_is_back(desk: Desk, wire: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.news.AWAY_S", 0.01)
    wire.cut()
    tell(desk, ["an intent"])
    assert desk.news_after > 0
    wire.mend()

    eventually(lambda: time.monotonic() > desk.news_after)
    failed_at = desk.news_after
    tell(desk, ["an intent"])

    assert desk.news_after == failed_at
