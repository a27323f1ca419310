"""One run: a small world around the coordinator's own code, made and driven by one seed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import Any
from uuid import UUID

from brokers.limits import SECOND_US, Granted, LocalBudget, rooms_of
from domain.accounts import Account
from domain.settings import Settings

from . import invariants
from .broker import Request, SimulatedBroker
from .client import USER_ID, Client
from .loop import Died, Loop, Process
from .plan import Plan
from .processes import Door, roles, start
from .queue import Queue
from .record.unit import IDLE_TIMEOUT_S, Record

LOOK_EVERY_S = 1.0  # between looks whether all is settled


class World:
    def __init__(self, plan: Plan) -> None:
        self.plan, self.chances = plan, plan.chances
        self.rng = Random(f"world {plan.seed}")
        self.loop = Loop()
        self.trace: list[tuple[float, str, tuple[Any, ...]]] = []
        self.record = Record(self.loop, self.step, self.clock)
        self.record.judge, self.record.fate = self._judge, self._fate
        self.requests: dict[str, list[Request]] = {}  # what reached a broker, by tag
        self.queue = Queue(self)
        self.brokers = {name: SimulatedBroker(self, name) for name in plan.brokers}
        self.budgets = {
            (name, kind): NotedBudget(self, windows)
            for name, broker in self.brokers.items()
            for kind, windows in (
                ("order", broker.capabilities.order_windows),
                ("read", broker.capabilities.read_windows),
            )
        }
        self.settings = Settings(
            place_timeout_s=plan.place_timeout_s,
            lease_margin_s=plan.lease_margin_s,
            proof_s=plan.proof_s,
            max_unsent_s=plan.max_unsent_s,
            broker_failover_enabled=plan.failover,
            fallback_brokers=plan.brokers,
            open_orders_max=12,
        )
        self.processes: list[Process] = []
        self.doors: dict[Process, Door] = {}
        self.raises: dict[str, int] = {}  # how often judging an order still fails
        self.kills: dict[str, int] = {}  # how many more workers an order kills
        self.client = Client(self)
        self._number = 0
        self._fuse = self._next_fuse()
        self._aims, self._passes = plan.aims, dict[str, int]()
        self._random = self.rng.random

    # ---- the run

    def run(self) -> None:
        """Raises Broken where a promise is broken."""
        self._open_accounts()
        for name, role in roles(self.plan):
            start(self, name, role)
        self.client.begin()
        for at, seconds in self.plan.database_away:
            self.loop.at(at, partial(self._database_away, seconds))
        self.loop.at(self.plan.troubles_end_s + LOOK_EVERY_S, self._look)
        self.loop.at(self.plan.ends_s, self.loop.stop)
        try:
            self.loop.run()
        finally:
            ended_at = self.loop.now
            self.loop.unwind(self.processes)
            self.loop.now = ended_at
        invariants.at_the_end(self)

    def _look(self) -> None:
        invariants.at_a_moment(self)
        if self.is_settled():
            self.loop.stop()
        else:
            self.loop.at(self.loop.now + LOOK_EVERY_S, self._look)

    def is_settled(self) -> bool:
        return self.client.is_answered and invariants.is_settled(self)

    def _open_accounts(self) -> None:
        for broker in self.plan.brokers:
            for number in range(self.plan.accounts):
                account = Account(
                    id=f"{broker[:2].upper()}{number + 1}",
                    user_id=USER_ID,
                    broker=broker,
                    calendar="SIM",
                    is_default=broker == self.plan.brokers[0] and number == 0,
                    session="ALIVE",
                )
                totals = {"blocked_paise": 0, "exposure_paise": 0, "open_orders": 0, "second": 0, "orders_this_second": 0}
                row = {"account": account, "limit_paise": self.plan.limit_paise, **totals}
                self.record.tables["accounts"][account.id] = row

    # ---- time and chance

    @property
    def is_quiet(self) -> bool:
        """The troubles are over: what isn't settled by now has time to be."""
        return self.loop.now >= self.plan.troubles_end_s

    def clock(self) -> datetime:
        return self.plan.begins + timedelta(seconds=self.loop.now)

    def clock_us(self) -> int:
        return int(self.plan.begins.timestamp()) * SECOND_US + int(self.loop.now * SECOND_US)

    def is_in(self, spells: Iterable[tuple[float, float]]) -> bool:
        now = self.loop.now
        return any(at <= now < at + seconds for at, seconds in spells)

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def new_id(self) -> str:
        """A UUID of version 7, as `domain.ids.new_id` gives them."""
        milliseconds, rng = self.clock_us() // 1000, self.rng
        number = milliseconds << 80 | 7 << 76 | rng.getrandbits(12) << 64 | 2 << 62 | rng.getrandbits(62)
        return str(UUID(int=number))

    def note(self, *words: Any) -> None:
        task = self.loop.current
        self.trace.append((self.loop.now, task.process.name if task else "", words))

    # ---- misfortunes

    def step(self, where: str) -> None:
        """Between any two steps a process may die, be stopped for a while, or just take its time."""
        loop = self.loop
        task = loop.current
        if task is None:
            return
        if not task.process.is_alive:
            raise Died
        if loop.now < self.plan.troubles_end_s:
            self._fuse -= 1
            if self._fuse <= 0:
                self._fuse = self._next_fuse()
                self._strike(task.process, where)
            if where in self._aims:
                self._aim(task.process, where)
            if where == "statement" and self._random() < self.chances.slow:
                loop.park(self.rng.uniform(0.05, 1.5))
        if where in ("begin", "commit"):
            loop.park(0.0003 + 0.002 * self._random())

    def kill(self, process: Process) -> None:
        """SIGKILL; another one of its kind is started after a while."""
        self.note("killed", process.name)
        self.loop.kill(process)
        self.record.cut(process)
        self.queue.leave(process)
        name, role = process.name, process.role
        self.loop.at(self.loop.now + self.rng.uniform(0.1, 3.0), lambda: start(self, name, role))

    def pause(self, process: Process, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so long."""
        self.note("stopped", process.name, f"for {seconds:.3f} s")
        process.paused_until = self.loop.now + seconds
        if seconds > IDLE_TIMEOUT_S:
            self.loop.at(self.loop.now + IDLE_TIMEOUT_S, lambda: self.record.cut(process))

    def _aim(self, process: Process, where: str) -> None:
        aim = self._aims[where]
        self._passes[where] = self._passes.get(where, 0) + 1
        if self._passes[where] != aim.pass_number:
            return
        self.note("struck at", where)
        if aim.pause_s is None:
            self.kill(process)
            raise Died
        self.pause(process, aim.pause_s)
        self.loop.sleep(0)

    def _strike(self, process: Process, where: str) -> None:
        if self.rng.random() < self.plan.pauses:
            self.pause(process, self.rng.uniform(0.1, self.plan.pause_max_s))
            self.loop.sleep(0)
            return
        self.note("dies at", where)
        self.kill(process)
        raise Died

    def _next_fuse(self) -> float:
        average = self.plan.steps_between_faults
        return self.rng.expovariate(1 / average) if average else float("inf")

    def _database_away(self, seconds: float) -> None:
        self.note("the database is away", f"for {seconds:.3f} s")
        self.record.go_away(seconds)

    def _fate(self) -> str:
        if self.is_quiet:
            return "taken"
        number = self.rng.random()
        if number < self.chances.answer_to_commit_lost:
            self.note("a commit's answer is lost")
            return "lost answer"
        if number < self.chances.answer_to_commit_lost + self.chances.commit_lost:
            self.note("a commit is lost")
            return "lost"
        return "taken"

    def _judge(self, unit: Any) -> None:
        invariants.of_a_unit(self, unit)
        if self.record.commits % 16 == 0:
            self.loop.at(self.loop.now, lambda: invariants.at_a_moment(self))


class NotedBudget(LocalBudget):
    """The limiter's model, shared by all processes as Redis is; it writes down what it grants."""

    def __init__(self, world: World, windows: Any) -> None:
        self.rooms = rooms_of(windows)
        super().__init__(self.rooms, clock_us=world.clock_us)
        self.granted: dict[str, list[list[int]]] = {}  # [when, how many, of these urgent], by account

    def take(self, account_id: str, wanted: int, *, urgent: bool = False) -> Granted:
        granted = super().take(account_id, wanted, urgent=urgent)
        if granted.count:
            self.granted.setdefault(account_id, []).append([granted.at_us, granted.count])
        return granted

    def give_back(self, granted: Granted, count: int) -> None:
        super().give_back(granted, count)
        if count > 0:
            for entry in self.granted[granted.account_id]:
                if entry[0] == granted.at_us:
                    entry[1] -= min(count, entry[1])
                    break

