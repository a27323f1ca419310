"""The queue: wake-ups for stages, which it may lose, repeat, delay and reorder; and who consumes which."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING

import psycopg

from domain.errors import StoreAway
from pipeline.chain import QUEUE_PREFIX

from .loop import Process

if TYPE_CHECKING:
    from .world import World

DEEP = "-"
RETRY_S = 0.5
Handler = Callable[[str | None], object]


class Consumer:
    """A process that takes wake-ups of some stages, a few at a time."""

    def __init__(self, process: Process, handlers: dict[str, Handler], threads: int) -> None:
        self.process, self.handlers, self.threads = process, handlers, threads
        self.holds: list[tuple[str, str | None]] = []  # delivered and not acknowledged


class Queue:
    """Every stage's queue. A message that was not done with when its process died is delivered again.

    Each stage draws from numbers of its own: in which order a process wakes several stages is not the seed's to say.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.waiting: dict[str, deque[str | None]] = {}
        self.consumers: list[Consumer] = []
        self.letters: list[dict[str, object]] = []
        self._coming: dict[str, list[str | None]] = {}
        self._random: dict[str, Random] = {}

    def of(self, stage: str) -> Random:
        rng = self._random.get(stage)
        if rng is None:
            rng = self._random[stage] = Random(f"{self.world.plan.seed} {stage}")
        return rng

    def publish(self, process: Process, stage: str, since: str | None) -> None:
        """As the publisher thread of a process does: a moment later, unless the process dies first."""
        coming = self._coming.setdefault(stage, [])
        if since in coming or DEEP in coming:
            return
        rng, world, chances = self.of(stage), self.world, self.world.chances
        coming.append(since)
        delay_s = rng.uniform(0.001, 0.01)
        if not world.is_quiet and rng.random() < chances.message_late:
            delay_s = rng.uniform(0.01, 2.0)

        def arrive() -> None:
            coming.remove(since)
            if not process.is_alive or world.is_in(world.plan.queue_away):
                return
            if not world.is_quiet and rng.random() < chances.message_lost:
                return
            many = 2 if not world.is_quiet and rng.random() < chances.message_repeated else 1
            for _ in range(many):
                self.put(stage, since)

        world.loop.at(world.loop.now + delay_s, arrive)

    def put(self, stage: str, since: str | None) -> None:
        self.waiting.setdefault(stage, deque()).append(since)
        self.deliver(stage)

    def deliver(self, stage: str) -> None:
        waiting = self.waiting.get(stage)
        while waiting:
            takers = [c for c in self.consumers if stage in c.handlers and len(c.holds) < c.threads]
            if not takers:
                return
            self._run(takers[self.of(stage).randrange(len(takers))], stage, waiting.popleft())

    def join(self, consumer: Consumer) -> None:
        """A new process consumes, and begins by looking at everything."""
        self.consumers.append(consumer)
        for stage in consumer.handlers:
            self.publish(consumer.process, stage, DEEP)
            self.deliver(stage)

    def leave(self, process: Process) -> None:
        """It died: what it had not acknowledged goes to others."""
        gone = [consumer for consumer in self.consumers if consumer.process is process]
        self.consumers = [consumer for consumer in self.consumers if consumer.process is not process]
        for stage, since in [message for consumer in gone for message in consumer.holds]:
            self.put(stage, since)

    def depth(self, queue: str) -> tuple[int, int] | None:
        if self.world.is_in(self.world.plan.queue_away):
            return None
        stage = queue.removeprefix(QUEUE_PREFIX)
        consuming = sum(stage in consumer.handlers for consumer in self.consumers)
        return len(self.waiting.get(stage, ())), consuming

    def bury(self, queue: str, body: dict[str, object]) -> bool:
        self.letters.append(body)
        return not self.world.is_in(self.world.plan.queue_away)

    def close(self) -> None: ...

    def _run(self, consumer: Consumer, stage: str, since: str | None) -> None:
        loop, message = self.world.loop, (stage, since)
        consumer.holds.append(message)

        def act() -> None:
            try:
                consumer.handlers[stage](since)
            except (StoreAway, psycopg.Error):  # as Dramatiq does with whatever a handler raises
                loop.at(loop.now + RETRY_S, lambda: self.put(stage, since))
            consumer.holds.remove(message)  # acknowledged
            for other in consumer.handlers:
                self.deliver(other)

        loop.spawn(consumer.process, act)


class Wakeups:
    """Stands for `pipeline.wakeups.Wakeups`, one for each process."""

    connected = True

    def __init__(self, world: World, process: Process) -> None:
        self._world, self._process = world, process

    def wake(self, stage: str, *, since: datetime | None = None, deep: bool = False) -> None:
        self._world.queue.publish(self._process, stage, DEEP if deep else since.isoformat() if since else None)

    def wake_later(self, stage: str, wait_s: float) -> None:
        loop, queue = self._world.loop, self._world.queue
        loop.at(loop.now + wait_s, lambda: queue.publish(self._process, stage, None))

    def stop(self, timeout_s: float = 2.0) -> None: ...
