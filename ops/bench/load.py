"""The generator: HTTP load from one cheap process, each request timed from the moment at which it was due.

    echo '<plan as JSON>' | python -m ops.bench.load      prints when it starts, then the tally, as JSON

Open loop: a schedule says when each request is due, and nothing that the server does moves it. A request that finds
every connection busy waits here, and its wait counts, so that a server that stalls can't hide the stall by being sent
less (coordinated omission). With `window` the loop is closed instead: so many requests under way at any time; only the
search for the highest load uses that.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sys
import time
import uuid
from array import array
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import uvloop

from ops.bench.alarm import Alarm
from ops.bench.percentiles import percentiles
from ops.bench.plan import Plan, Tally
from ops.bench.requests import answer_length, request_parts

SPARSE = 500  # requests per second: below it each is sent at its own moment, above it a few at a time
TOGETHER_S = 0.005  # how long a few are gathered (to wake up for each would cost more than to send it)
PAUSE_AFTER_503_S = 0.05  # closed loop only: refusals are not asked for as fast as they are given


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    __slots__ = ("_due", "_generator", "_rest", "busy", "transport")

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._rest = b""
        self._due = 0.0
        self.busy = False
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def send(self, request: list[bytes], due: float) -> None:
        self.busy = True
        self._due = due
        self.transport.write(b"".join(request))

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        length = answer_length(data)
        if length is None or len(data) < length:
            self._rest = data
            return
        self._rest = b""
        self.busy = False
        self._generator.answered(self, data, self._due)

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest = b""
        self._generator.lost(self)


class Generator:
    """Runs one plan on the running loop."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.tally = Tally()
        self._parts = request_parts(plan)
        self._run = uuid.uuid4().hex[:16]
        self._loop = asyncio.get_running_loop()
        self._finished: asyncio.Future[None] = self._loop.create_future()
        self._alarm = Alarm()
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._backlog: deque[float] = deque()
        self._statuses: Counter[bytes] = Counter()
        self._latencies = array("d")
        self._refusals = array("d")
        self._lags = array("d")
        self._ids: list[bytes] = []
        self._jitter = random.Random(7)
        self._number = 0  # of the next due request
        self._under_way = 0
        self._scheduling = True
        self._begin = self._measure_from = self._end = self._due = 0.0

    async def run(self, on_start: Callable[[float], None]) -> Tally:
        await asyncio.gather(*(self._connect() for _ in range(self.plan.window or self.plan.connections)))
        gc.collect()
        gc.freeze()
        gc.disable()
        cpu = time.process_time()
        self._begin = time.perf_counter() + 0.01
        self._measure_from = self._begin + self.plan.warmup_s
        self._end = self._begin + self.plan.seconds
        wall = time.time() + 0.01
        self.tally.started, self.tally.measured_from = wall, wall + self.plan.warmup_s
        self.tally.ended = wall + self.plan.seconds
        on_start(self.tally.started)
        self._loop.call_later(self.plan.seconds + self.plan.grace_s, self._stop)
        if self.plan.rate > 0:
            self._due = self._next_due()
            self._loop.add_reader(self._alarm.fd, self._ring)
            self._alarm.ring_at(self._due)
        else:
            self._loop.call_later(self.plan.seconds, self._end_schedule)
            for connection in list(self._idle):
                self._refill(connection)
        await self._finished
        self._close(time.process_time() - cpu)
        return self.tally

    def answered(self, connection: Connection, data: bytes, due: float) -> None:
        now = time.perf_counter()
        self._under_way -= 1
        status = data[9:12]
        self._statuses[status] += 1
        if status == b"202" and self._measure_from <= now < self._end:
            self.tally.accepted_measured += 1
        if due >= self._measure_from:
            if status == b"202":
                self._latencies.append(now - due)
            elif status == b"503":
                self._refusals.append(now - due)
        if status == b"202":
            at = data.find(b'"intentId"') + 10
            start = data.find(b'"', at) + 1
            self._ids.append(data[start : start + 36])
        elif status == b"503":
            if b"\r\nretry-after:" not in data[: data.find(b"\r\n\r\n")].lower():
                self.tally.without_retry_after += 1
        elif not self.tally.first_problem:
            self.tally.first_problem = data[:1000].decode(errors="replace")
        if connection.transport.is_closing():
            return
        if not self.plan.rate and status != b"202":
            self._loop.call_later(PAUSE_AFTER_503_S, self._refill, connection)
        else:
            self._refill(connection)

    def lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._finished.done():
            return  # cut by ourselves; what was under way is counted
        if connection.busy:
            self._under_way -= 1
            self.tally.disconnects += 1
            self.tally.unanswered += 1
        self._end_if_all_answered()
        if not self._finished.done():
            self._loop.create_task(self._connect(refill=True))

    async def _connect(self, refill: bool = False) -> None:
        try:
            _, connection = await self._loop.create_connection(lambda: Connection(self), self.plan.host, self.plan.port)
        except OSError:
            if not refill:
                raise
            self._loop.call_later(0.2, lambda: self._loop.create_task(self._connect(refill=True)))
            return
        self._open.add(connection)
        if refill:
            self._refill(connection)
        else:
            self._idle.append(connection)

    def _next_due(self) -> float:
        """Evenly spread, each at a random moment of its own slot, so that no clock of the server's keeps step."""
        return self._begin + (self._number + self._jitter.random()) / self.plan.rate

    def _ring(self) -> None:
        self._alarm.quiet()
        self._tick()

    def _tick(self) -> None:
        now = time.perf_counter()
        while self._due <= now and self._due < self._end:
            self._send_or_wait(self._due, now)
            self._number += 1
            self._due = self._next_due()
        if self._due < self._end:
            self._alarm.ring_at(max(self._due, now + (TOGETHER_S if self.plan.rate > SPARSE else 0)))
        else:
            self._end_schedule()

    def _send_or_wait(self, due: float, now: float) -> None:
        if self._idle:
            self._send(self._idle.pop(), due, now)
        elif len(self._backlog) < self.plan.backlog_max:
            self._backlog.append(due)
        else:
            self.tally.given_up += 1

    def _send(self, connection: Connection, due: float, now: float) -> None:
        before, after = self._parts[self.tally.sent % len(self._parts)]
        connection.send([before, b"%s-%012d" % (self._run.encode(), self.tally.sent), after], due)
        self.tally.sent += 1
        self._under_way += 1
        if due >= self._measure_from:
            self._lags.append(now - due)

    def _refill(self, connection: Connection) -> None:
        """What a connection does next: the oldest request that waits, in a closed loop a new one, else nothing."""
        if connection.transport.is_closing() or connection.busy:
            return
        if self._backlog:
            self._send(connection, self._backlog.popleft(), time.perf_counter())
        elif self.plan.window and self._scheduling:
            now = time.perf_counter()
            self._send(connection, now, now)
        else:
            self._idle.append(connection)
            self._end_if_all_answered()

    def _end_schedule(self) -> None:
        self._scheduling = False
        self._end_if_all_answered()

    def _end_if_all_answered(self) -> None:
        if not self._scheduling and not self._under_way and not self._backlog:
            self._stop()

    def _stop(self) -> None:
        if not self._finished.done():
            self._finished.set_result(None)

    def _close(self, cpu_s: float) -> None:
        tally = self.tally
        tally.unanswered += self._under_way
        tally.given_up += len(self._backlog)
        tally.statuses = {status.decode(): count for status, count in sorted(self._statuses.items())}
        tally.latency_ms = percentiles(latency * 1000 for latency in self._latencies)
        tally.refusal_latency_ms = percentiles(latency * 1000 for latency in self._refusals)
        tally.lag_ms = percentiles(lag * 1000 for lag in self._lags)
        tally.cpu_us_per_request = round(cpu_s * 1e6 / max(tally.sent, 1), 1)
        if self.plan.intent_ids:
            Path(self.plan.intent_ids).write_bytes(b"".join(self._ids))
        self._loop.remove_reader(self._alarm.fd)
        self._alarm.close()
        for connection in self._open:
            connection.transport.abort()


async def run(plan: Plan, on_start: Callable[[float], None] = lambda started: None) -> Tally:
    return await Generator(plan).run(on_start)


def tell_start(started: float) -> None:
    print(json.dumps({"started": started}), flush=True)


def main() -> None:
    wanted = json.loads(sys.stdin.read())
    wanted["accounts"] = tuple(wanted["accounts"])
    wanted["instruments"] = tuple((instrument, price) for instrument, price in wanted["instruments"])
    print(json.dumps(asdict(uvloop.run(run(Plan(**wanted), tell_start)))))


if __name__ == "__main__":
    main()
