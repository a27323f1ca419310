"""Runs the plain chain on the stack's own servers and takes its figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pika
from psycopg import Connection, connect
from psycopg.rows import TupleRow

from ops.bench.bed import VHOST, Bed
from ops.bench.figures import PLAIN, Figures, Window
from ops.bench.measure import CouldNotMeasure
from ops.bench.plain import SCHEMA, STAGES, all_queues, declare, open_broker, queue_of
from ops.bench.processes import read
from ops.child import Process

START_WITHIN_S = 30
FINISH_WITHIN_S = 30


@dataclass(frozen=True)
class Shape:
    """How the plain chain is run; the default is Dramatiq's own on two cores, and the best of those tried."""

    processes: int = 2
    threads: int = 8
    window: int = 100  # orders kept in the chain while its throughput is measured
    quorum: bool = True

    def __str__(self) -> str:
        kind = "quorum" if self.quorum else "classic"
        return f"{self.processes} processes x {self.threads} threads, {kind} queues"


class PlainChain:
    """The chain with its workers running, on the given servers."""

    def __init__(self, bed: Bed, shape: Shape) -> None:
        self._services, self._accounts, self._shape = bed.stack.services, bed.accounts, shape
        self._instruments = bed.instruments
        self._database = self._services.urls.owner_database_url
        self._queue = self._services.queue_url(VHOST)

    @contextmanager
    def running(self) -> Iterator[None]:
        self._make_ready()
        options = ["--processes", str(self._shape.processes), "--threads", str(self._shape.threads)]
        workers = Process(
            "plain",
            [sys.executable, "-m", "dramatiq", "ops.bench.plain:work", *options, "--worker-shutdown-timeout", "2000"],
            env=os.environ
            | {
                "PLAIN_DATABASE_URL": self._database,
                "PLAIN_RABBITMQ_URL": self._queue,
                "PLAIN_THREADS": str(self._shape.threads),
                "PLAIN_QUEUES": "quorum" if self._shape.quorum else "classic",
            },
            stop_grace_s=8,
        )
        self._services.supervisor.start(workers)
        try:
            self._wait_for_workers()
            yield
        finally:
            self._services.supervisor.stop("plain")
            self._forget()

    def throughput(self, *, warmup_s: float, seconds: float) -> dict[str, Any]:
        """Orders finished per second, with so many in the chain that no worker ever waits for work."""
        return self._run(warmup_s, seconds, {"window": self._shape.window})

    def latency(self, *, rate: float, warmup_s: float, seconds: float) -> dict[str, Any]:
        return self._run(warmup_s, seconds, {"rate": rate})

    def _run(self, warmup_s: float, seconds: float, feed: dict[str, float]) -> dict[str, Any]:
        began = datetime.now(UTC)
        window = Window(began + timedelta(seconds=warmup_s), began + timedelta(seconds=warmup_s + seconds))
        feeder = subprocess.Popen(
            [sys.executable, "-m", "ops.bench.feeder"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        wanted = feed | {
            "database_url": self._database,
            "rabbitmq_url": self._queue,
            "accounts": self._accounts,
            "instruments": self._instruments,
            "seconds": warmup_s + seconds,
            "quorum": self._shape.quorum,
            "already": self._fed,
        }
        pids = self._services.supervisor.pids() | {"feeder": feeder.pid}
        assert feeder.stdin is not None
        assert feeder.stdout is not None
        try:
            feeder.stdin.write(json.dumps(wanted))
            feeder.stdin.close()
            _sleep_until(window.begin)
            before = read(pids)
            _sleep_until(window.end)
            after = read(pids)
            told = feeder.stdout.read()
        finally:
            feeder.kill()
            feeder.wait()
        if not told:
            raise CouldNotMeasure("the plain chain's feeder failed; its error is above")
        fed = json.loads(told)
        self._fed += fed["fed"]
        cpu = after.since(before)
        with self._connect() as connection:
            self._wait_until_finished(connection)
            figures = Figures(connection, PLAIN, began)
            rate, spent = figures.orders_per_s(window), sum(cpu.values()) - cpu["feeder"]
            return {
                "orders_per_s": rate,
                "cpu_ms_per_order": round(spent * 1000 / max(rate * window.seconds, 1.0), 3),
                "accept_to_broker_ms": figures.accept_to_broker(window),
                "accept_to_final_ms": figures.accept_to_final(window),
                "cpu_cores": {name: round(spent / window.seconds, 3) for name, spent in cpu.items()},
                "fed": fed["fed"],
            }

    def _make_ready(self) -> None:
        self._fed = 0
        with self._connect() as connection:
            connection.execute(SCHEMA.encode())
            limit = 10**15
            for account in self._accounts:
                connection.execute("insert into plain.accounts (id, limit_paise) values (%s, %s)", [account, limit])
        self._delete_queues()
        broker = open_broker(self._queue, quorum=self._shape.quorum)
        declare(broker, None)
        for stage in STAGES:  # by one process: two that declare the same quorum queue at once can trip each other up
            broker.declare_queue(queue_of(stage), ensure=True)
        broker.close()

    def _forget(self) -> None:
        self._delete_queues()
        with self._connect() as connection:
            connection.execute("drop schema if exists plain cascade")

    def _delete_queues(self) -> None:
        with self._queue_connection() as connection:
            channel = connection.channel()
            for name in all_queues():
                channel.queue_delete(name)

    def _wait_for_workers(self) -> None:
        """Until every process consumes from every stage's queue."""
        deadline = time.monotonic() + START_WITHIN_S
        with self._queue_connection() as connection:
            channel = connection.channel()
            while time.monotonic() < deadline:
                answers = [channel.queue_declare(queue_of(stage), passive=True) for stage in STAGES]
                if all(answer.method.consumer_count >= self._shape.processes for answer in answers):
                    return
                time.sleep(0.2)
        raise CouldNotMeasure("the plain chain's workers didn't start: see plain.log in the run folder's logs")

    def _wait_until_finished(self, connection: Connection[TupleRow]) -> None:
        """Raises CouldNotMeasure: latencies of those that finished in time alone would flatter it."""
        deadline = time.monotonic() + FINISH_WITHIN_S
        while time.monotonic() < deadline:
            row = connection.execute("select count(*) from plain.orders where finished_at is null").fetchone()
            if row == (0,):
                return
            time.sleep(0.2)
        raise CouldNotMeasure(f"the plain chain did not finish its orders within {FINISH_WITHIN_S} s")

    def _connect(self) -> Connection[TupleRow]:
        return connect(self._database, autocommit=True)

    def _queue_connection(self) -> pika.BlockingConnection:
        return pika.BlockingConnection(pika.URLParameters(self._queue))


def _sleep_until(moment: datetime) -> None:
    time.sleep(max(0.0, (moment - datetime.now(UTC)).total_seconds()))
