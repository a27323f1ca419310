"""The simulator as a server: a port for each broker's dialect and one for control, around one exchange."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from brokers.simulator.clock import Clock, ist_date
from brokers.simulator.control import Control
from brokers.simulator.doors import Door
from brokers.simulator.exchange import Exchange
from brokers.simulator.faults import Faults
from brokers.simulator.journal import Journal, Record, last_moment, mend, read
from brokers.simulator.limits import Windows
from brokers.simulator.listing import Listing, Source, reference_instruments
from brokers.simulator.postbacks import Postbacks
from brokers.simulator.restore import restore
from brokers.simulator.service import Facade, Service
from brokers.simulator.settings import Settings
from brokers.simulator.starters import first_account
from brokers.simulator.upstox.facade import Upstox
from brokers.simulator.web import WebServer
from brokers.simulator.zerodha.facade import Zerodha

_FACADES: tuple[Callable[[Exchange, Postbacks], Facade], ...] = (Upstox, Zerodha)
_STILL_S = 3600.0  # how long to sleep where nothing is due


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a simulator is made of."""

    seed: str = "1"
    host: str = "127.0.0.1"
    ports: dict[str, int] = field(default_factory=dict)  # by facade, or "control"; 0 or none: any free one
    state: Path | None = None  # the journal's file
    settings: Settings = field(default_factory=Settings)
    clock: Clock = field(default_factory=Clock)
    instruments: Source = reference_instruments
    first_number: int = 0


class Simulator:
    """Everything behind the ports. Lives in one event loop."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._clock = plan, plan.clock
        records = []
        if plan.state is not None:
            mend(plan.state)
            records = list(read(plan.state))
        # From where it stopped, so that a day's end that was slept through is made up for.
        begin = last_moment(records) or self._clock.now()
        self.exchange = Exchange(
            seed=plan.seed,
            settings=plan.settings,
            listing=Listing(plan.instruments, ist_date(begin)),
            now=begin,
            journal=Journal(plan.state),
            first_number=plan.first_number,
        )
        self._due = asyncio.Event()
        faults, windows = Faults(plan.seed), Windows()
        self._postbacks = Postbacks(self.exchange.accounts, faults, self._due.set)
        facades = [make(self.exchange, self._postbacks) for make in _FACADES]
        services = [Service(f, self.exchange, self._clock, faults, windows, self._postbacks) for f in facades]
        self._doors = {service.facade.name: Door(WebServer(service)) for service in services}
        control = Control(self.exchange, self._clock, faults, windows, services, self._doors, self._due.set)
        self._control = WebServer(control)
        self._remember(records, [facade.name for facade in facades])
        self.exchange.floor.listeners.append(self._postbacks)
        for facade in facades:
            self._postbacks.speak_for(facade)

    def _remember(self, records: list[Record], facades: list[str]) -> None:
        restore(self.exchange, records)
        for name in facades:
            account = first_account(name)
            if self.exchange.accounts.get(account.user_id) is None:
                self.exchange.add_account(account)
        if self.exchange.now > self._clock.now():
            self._clock.jump(self.exchange.now)

    async def start(self) -> dict[str, int]:
        """The port of each facade and of control."""
        host, ports = self._plan.host, {}
        for name, door in self._doors.items():
            ports[name] = await door.open(host, self._plan.ports.get(name, 0))
        ports["control"] = await self._control.start(host, self._plan.ports.get("control", 0))
        self._pump = asyncio.create_task(self._run())
        return ports

    async def stop(self) -> None:
        self._pump.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._pump
        for door in self._doors.values():
            await door.shut()
        await self._control.stop()
        await self._postbacks.stop()
        self.exchange.journal.close()

    async def _run(self) -> None:
        """Let the exchange go on when something is due, also when nobody asks."""
        while True:
            self._due.clear()
            self.exchange.advance(self._clock.now())
            next_at = self.exchange.timeline.next_at
            wait_s = None if next_at is None else self._clock.seconds_until(next_at)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STILL_S if wait_s is None else min(wait_s, _STILL_S)):
                    await self._due.wait()


async def until_quiet(within_s: float = 2.0) -> None:
    """Let every other task of the loop end: one that was accepted at the last moment still has its connection to close.

    What runs on for longer is left to whoever ends the loop.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while len(asyncio.all_tasks()) > 1:
                await asyncio.sleep(0.005)


class SimulatorServer:
    """The simulator in a thread of its own, for tests:

    with SimulatorServer() as simulator:
        simulator.control("PUT", "/clock", {"frozen": True})
        requests.post(simulator.urls["upstox"] + "/v3/order/place", …)
    """

    def __init__(self, plan: Plan | None = None) -> None:
        self._plan = plan or Plan()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._main, name="simulator", daemon=True)
        self._failure: BaseException | None = None
        self.urls: dict[str, str] = {}

    def __enter__(self) -> SimulatorServer:
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """What the control API answers.

        Raises:
            ValueError: it answered with an error, whose words are given.
        """
        host = self.urls["control"].removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=10)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            content = json.loads(response.read())
        finally:
            connection.close()
        if response.status >= 400:
            raise ValueError(content["error"])
        return content

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - told to the thread that waits for the start
            self._failure = error
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        simulator = Simulator(self._plan)
        ports = await simulator.start()
        self.urls = {name: f"http://{self._plan.host}:{port}" for name, port in ports.items()}
        self._started.set()
        await self._stopping.wait()
        await simulator.stop()
        await until_quiet()
