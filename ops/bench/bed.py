"""The bench's own stack: the Procfile's processes on private servers, with the stub broker and accounts without limits.

It lives in a run folder of its own, `.run-bench`, and its database is emptied at each start; a stack that runs in
`.run`, and servers that DATABASE_URL and its like name, are left alone.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from psycopg import Connection, connect
from psycopg.rows import TupleRow

from domain.reference import all_instruments
from ops.bench.processes import Reading, read
from ops.child import Process
from ops.console import Say, silence
from ops.probes import http_ok
from ops.processes import read_procfile, web_concurrency
from ops.sandbox import SandboxAccount, seed
from ops.stack import PROJECT, Stack
from pipeline.desk import IST
from store import settings
from store.migrate import upgrade
from store.unit import Store

ROOT = PROJECT / ".run-bench"
BROKER = "stub"
VHOST = "plain"  # the virtual host of the chain we are compared with
ACCOUNTS = 16
INSTRUMENTS = ("NSE:INFY", "NSE:RELIANCE", "NSE:TCS", "NSE:HDFCBANK")
SETTLED_WITHIN_S, LOOK_EVERY_S = 10.0, 0.5
QUIET_CORES = 0.25  # of all processes and servers; without any load they take 0.1
STOP_GRACE_S = 15  # nothing is measured meanwhile: let each end its work
UNLIMITED_PAISE = 10**16
GIVEN = ("DATABASE_URL", "OWNER_DATABASE_URL", "RABBITMQ_URL", "REDIS_URL")
UNLIMITED = ("order_value_max_paise", "quantity_max", "open_orders_max", "orders_per_s_max", "exposure_max_paise")
BACKENDS = "select application_name, array_agg(pid) from pg_stat_activity where application_name <> '' group by 1"


class Bed:
    """A running stack to be measured. `with Bed(…) as bed`."""

    def __init__(self, root: Path = ROOT, *, say: Say = silence, keep: bool = False) -> None:
        self._keep = keep  # the run folder, even when all went well
        self.accounts = tuple(f"BENCH{number:02d}" for number in range(ACCOUNTS))
        self.instruments = bids()
        self.api_key = ""
        self._processes: dict[str, Process] = {}
        self._is_paused = False
        environment = {name: value for name, value in os.environ.items() if name not in GIVEN}
        self.stack = Stack(
            root,
            self._make_processes,
            ports={"web": None},
            prepare=self._prepare,
            vhosts=("/", VHOST),
            say=say,
            environment=environment,
        )

    def __enter__(self) -> Self:
        self.stack.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        """Stop all of it; unless something went wrong, nothing is left but `bench.json` elsewhere."""
        self.stack.__exit__(*error)
        if error == (None, None, None) and not self._keep:
            for place in (self.stack.folder.outside, self.stack.folder.root):
                shutil.rmtree(place, ignore_errors=True)

    @property
    def port(self) -> int:
        return self.stack.ports["web"]

    def connect(self) -> Connection[TupleRow]:
        return connect(self.stack.owner_database_url, autocommit=True, application_name="bench")

    def read(self, more: Mapping[str, int]) -> Reading:
        """CPU and memory of every process and service, and of PostgreSQL's part in them by who asked for it."""
        with self.connect() as connection:
            backends = {f"postgres: {name}": pids for name, pids in connection.execute(BACKENDS) if name != "bench"}
        return read({**self.stack.pids(), **backends, **more})

    def names(self) -> list[str]:
        """Our own processes, without the servers."""
        return list(self._processes)

    def change(self, name: str, **environment: str) -> None:
        """Run one process again with another environment."""
        process = self._processes[name]
        self.stack.supervisor.stop(name)
        self.stack.supervisor.start(replace(process, env={**process.env, **environment}))
        self.stack.supervisor.wait_ready(name)

    def pause(self) -> None:
        """The servers alone, so that what is compared with us has the machine for itself."""
        self.stack.supervisor.stop(*self._processes)
        self._is_paused = True

    def resume(self) -> None:
        """Our processes again, if they were paused."""
        if self._is_paused:
            for process in self._processes.values():
                self.stack.supervisor.start(process)
            self.stack.supervisor.wait_ready(*self._processes)
            self._is_paused = False

    def settle(self, within_s: float = SETTLED_WITHIN_S) -> None:
        """Until the stack has hardly anything to do, so that one measurement doesn't pay for the one before it.

        No longer than the time given: what goes on for longer, such as a vacuum, belongs to what is measured.
        """
        deadline, before = time.monotonic() + within_s, self.read({})
        while time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_S)
            now = self.read({})
            spent_s = sum(seconds for name, seconds in now.since(before).items() if ":" not in name)
            if spent_s < QUIET_CORES * LOOK_EVERY_S:
                return
            before = now

    def renew(self) -> None:
        """An empty database, and processes that remember nothing: started when they are needed."""
        self.pause()
        self._prepare(self.stack)

    def _prepare(self, stack: Stack) -> dict[str, Any]:
        with connect(stack.owner_database_url, autocommit=True) as connection:
            connection.execute("drop schema public cascade")
            connection.execute("create schema public")
            connection.execute("drop schema if exists plain cascade")
        upgrade(stack.owner_database_url)
        accounts = tuple(
            SandboxAccount(name, BROKER, "key", "secret", "token", is_default=not number, limit_paise=UNLIMITED_PAISE)
            for number, name in enumerate(self.accounts)
        )
        secret = stack.folder.secret("secret")
        self.api_key = seed(stack.database_url, secret=secret, accounts=accounts, requests_per_s=1_000_000)["trader"]
        store = Store(stack.database_url, name="bench", size=1, by_key=False)
        try:
            with store.unit() as unit:
                for name in UNLIMITED:
                    settings.change(unit, name, None, by="bench")
        finally:
            store.close()
        return {}

    def _make_processes(self, stack: Stack) -> list[Process]:
        """The Procfile's, with one dispatch process: the stub's."""
        ready = stack.folder.root / "ready"
        ready.mkdir(mode=0o700, exist_ok=True)
        commands = read_procfile(PROJECT / "Procfile")
        dispatch = next(command for name, command in commands.items() if name.startswith("dispatch-"))
        ours = {name: command for name, command in commands.items() if not name.startswith("dispatch-")}
        ours[f"dispatch-{BROKER}"] = " ".join([*dispatch.split()[:-1], BROKER])
        web: dict[str, str | int | Path] = {"PORT": stack.ports["web"], "WEB_CONCURRENCY": web_concurrency()}
        for name, command in ours.items():
            is_web = name == "web"
            self._processes[name] = Process(
                name,
                ["/bin/sh", "-c", f"exec {command}"],
                env=stack.environment(STUB_BROKER="1", **(web if is_web else {})),
                ready=http_ok(f"{stack.base_url}/readyz") if is_web else None,
                ready_file=None if is_web else ready / name,
                folder=PROJECT,
                stop_grace_s=STOP_GRACE_S,
            )
        return list(self._processes.values())


def bids() -> tuple[tuple[str, str], ...]:
    """Instruments, each with yesterday's close as the price: within any band."""
    known = all_instruments(datetime.now(IST).date())
    return tuple((name, str(known[name].close)) for name in INSTRUMENTS)
