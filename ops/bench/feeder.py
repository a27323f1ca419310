"""Feeds the plain chain: inserts an order and sends its first message, from a process of its own, without HTTP.

    echo '<feed as JSON>' | python -m ops.bench.feeder      prints what it fed as JSON

Either at a rate (for its latency), or by keeping so many orders in the chain at any time (for its throughput: enough
that no worker ever waits, few enough that no stage starves the others).
"""

from __future__ import annotations

import json
import random
import sys
import time
from dataclasses import dataclass, field

from psycopg import Connection, connect
from psycopg.rows import TupleRow

from domain.ids import broker_tag, new_id
from ops.bench.plain import declare, open_broker

INSERT = """
insert into plain.orders (id, account_id, instrument, side, quantity, price, product, order_type, state, last_seq,
                          broker_tag, accepted_at, updated_at)
values (%s, %s, %s, 'BUY', 1, %s, 'CNC', 'LIMIT', 'RECEIVED', 0, %s, clock_timestamp(), clock_timestamp())
"""
EVENT = "insert into plain.events (order_id, seq, event_type, at, detail) values (%s, 0, 'RECEIVED', clock_timestamp(), '{}')"
LOOK_EVERY_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Feed:
    database_url: str = field(repr=False)
    rabbitmq_url: str = field(repr=False)
    accounts: tuple[str, ...]
    instruments: tuple[tuple[str, str], ...]  # each with the price to bid
    seconds: float
    quorum: bool = True
    rate: float = 0.0  # orders per second; 0: keep `window` in the chain
    window: int = 0
    already: int = 0  # orders fed before this run


class Feeder:
    def __init__(self, feed: Feed, connection: Connection[TupleRow]) -> None:
        self._feed, self._connection = feed, connection
        self._first = declare(open_broker(feed.rabbitmq_url, quorum=feed.quorum), None)["validate"]
        self.fed = 0

    def feed(self, count: int) -> None:
        """So many orders in one transaction, and then a message each."""
        ids = [new_id() for _ in range(count)]
        with self._connection.transaction(), self._connection.cursor() as cursor:
            rows = []
            for order_id in ids:
                turn, self.fed = self.fed, self.fed + 1
                account = self._feed.accounts[turn % len(self._feed.accounts)]
                instrument, price = self._feed.instruments[turn % len(self._feed.instruments)]
                rows.append((order_id, account, instrument, price, broker_tag("PL", order_id)))
            cursor.executemany(INSERT, rows)
            cursor.executemany(EVENT, [(order_id,) for order_id in ids])
        for order_id in ids:
            self._first.send(order_id)

    def unfinished(self) -> int:
        row = self._connection.execute("select count(*) from plain.orders where finished_at is not null").fetchone()
        assert row is not None
        return self._feed.already + self.fed - int(row[0])

    def at_a_rate(self, end: float) -> None:
        jitter, begin = random.Random(7), time.perf_counter()
        while True:
            due = begin + (self.fed + jitter.random()) / self._feed.rate
            if due >= end:
                return
            time.sleep(max(0.0, due - time.perf_counter()))
            self.feed(1)

    def by_window(self, end: float) -> None:
        while (now := time.perf_counter()) < end:
            missing = self._feed.window - self.unfinished()
            if missing > 0:
                self.feed(missing)
            time.sleep(max(0.0, now + LOOK_EVERY_S - time.perf_counter()))


def main() -> None:
    wanted = json.loads(sys.stdin.read())
    wanted["accounts"] = tuple(wanted["accounts"])
    wanted["instruments"] = tuple((instrument, price) for instrument, price in wanted["instruments"])
    feed = Feed(**wanted)
    with connect(feed.database_url, autocommit=True, application_name="plain feeder") as connection:
        feeder = Feeder(feed, connection)
        began, cpu = time.time(), time.process_time()
        end = time.perf_counter() + feed.seconds
        if feed.rate:
            feeder.at_a_rate(end)
        else:
            feeder.by_window(end)
        ended = time.time()
    print(json.dumps({"began": began, "ended": ended, "fed": feeder.fed, "cpu_s": time.process_time() - cpu}))


if __name__ == "__main__":
    main()
