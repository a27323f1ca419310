"""A stack of its own to be shot at: private servers, the Procfile's processes, and the simulator, made hostile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import httpx2
import psycopg

from domain.settings import Settings
from ops.child import Process
from ops.console import Say, silence
from ops.preparing import prepare
from ops.processes import PORTS, SIMULATED, processes, simulator_url
from ops.sandbox import ACCOUNTS, SandboxAccount
from ops.stack import PROJECT, Stack

ROOT = PROJECT / ".run-chaos"
GIVEN = ("DATABASE_URL", "OWNER_DATABASE_URL", "RABBITMQ_URL", "REDIS_URL")
SERVERS = ("postgres", "rabbitmq", "valkey")
LIMIT_PAISE = 10**14
SECOND_ACCOUNTS = (
    SandboxAccount("UP0002", "upstox", "sim-upstox-key-2", "sim-upstox-secret-2", "sim-upstox-token-2"),
    SandboxAccount("ZR0002", "zerodha", "sim-zerodha-key-2", "sim-zerodha-secret-2", "sim-zerodha-token-2"),
)

# How the hostile broker and our patience with it go together. A request is looked at LATEST_S after it came at most,
# which is later than our timeout, and an order shows in the book LATE_S after that. So an order that was taken shows
# LATEST_S - TIMEOUT_S + LATE_S = 3.5 s after our call ended, at the latest. PROOF_S is well above that, because two
# busy cores add delays of their own.
TIMEOUT_S, LEASE_MARGIN_S = 2.0, 1.5
LATEST_S, LATE_S = 3.5, 2.0
PROOF_S = 10.0
APART_S = 5.0  # between the two reads that prove an absence (domain.evidence.APART)
PROVEN_S = TIMEOUT_S + LEASE_MARGIN_S + PROOF_S + APART_S  # from a death right after the attempt to the proof

SETTINGS: dict[str, Any] = {
    "place_timeout_s": TIMEOUT_S,
    "read_timeout_s": 3.0,
    "lease_margin_s": LEASE_MARGIN_S,
    "proof_s": PROOF_S,
    "broker_failover_enabled": True,
    "max_unsent_s": 900,  # nothing is given up for its age: what was accepted has to arrive
    "orders_per_s_max": None,
    "open_orders_max": None,
    "exposure_max_paise": None,
}


def hostile(mildness: float = 1.0) -> list[dict[str, Any]]:
    """The simulator's faults, each with its own chance; drawn from the simulator's seed."""
    chances: list[dict[str, Any]] = [
        {"kind": "latency_after", "seconds": 0.4, "probability": 0.30},
        {"kind": "latency_after", "seconds": TIMEOUT_S + 0.5, "probability": 0.02},  # taken, answered too late
        {"kind": "latency_before", "seconds": LATEST_S, "probability": 0.02},  # taken after we gave up
        {"kind": "drop_after", "probability": 0.02},
        {"kind": "reset_after", "probability": 0.01},
        {"kind": "error_after", "probability": 0.02},
        {"kind": "timed_out", "probability": 0.01},
        {"kind": "html", "probability": 0.005},
        {"kind": "no_id", "probability": 0.005},
        {"kind": "drop_before", "probability": 0.01},
        {"kind": "reset_before", "probability": 0.01},
        {"kind": "error_before", "probability": 0.01},
        {"kind": "rate_limited", "probability": 0.03},
        {"kind": "late_visibility", "seconds": LATE_S, "probability": 0.05},
    ]
    placing = [
        {**fault, "endpoint": endpoint, "count": None, "probability": fault["probability"] * mildness}
        for fault in chances
        for endpoint in ("place", "multi", "cancel", "modify")
        if not (endpoint in ("cancel", "modify") and fault["kind"] in ("no_id", "late_visibility"))
    ]
    telling = [
        {"kind": kind, "endpoint": "postback", "count": None, "probability": 0.2}
        for kind in ("postback_missing", "postback_repeated", "postback_reordered")
    ]
    reading = [
        {"kind": kind, "endpoint": "book", "count": None, "probability": 0.03}
        for kind in ("error_before", "reset_after", "rate_limited", "truncated")
    ]
    streaming = [
        {"kind": kind, "endpoint": "frame", "count": None, "probability": probability}
        for kind, probability in (("frame_missing", 0.1), ("frame_repeated", 0.1), ("frame_reordered", 0.1), ("stream_cut", 0.02))
    ]
    return placing + telling + reading + streaming


class Bed:
    """The running stack. `with Bed(…) as bed`; nothing is left of it unless `keep` or something went wrong."""

    def __init__(
        self,
        root: Path = ROOT,
        *,
        seed: str,
        say: Say = silence,
        keep: bool = False,
        fast: bool = False,
        queue_urls: str | None = None,
        sabotage: str | None = None,
    ) -> None:
        self.seed, self._keep, self._sabotage = seed, keep, sabotage
        self.mildness = 1.0
        self._processes: dict[str, Process] = {}
        environment = {name: value for name, value in os.environ.items() if name not in GIVEN}
        if queue_urls is not None:
            environment["RABBITMQ_URL"] = queue_urls
        self.stack = Stack(
            root,
            self._make_processes,
            ports={**PORTS, "web": None},
            prepare=self._prepare,
            fast=fast,
            say=say,
            environment=environment,
        )
        self._control: httpx2.Client | None = None

    def __enter__(self) -> Self:
        if not self.stack.folder.is_locked():
            self.stack.folder.remove()  # what an earlier campaign has left
        self.stack.__enter__()
        self._control = httpx2.Client(base_url=simulator_url(self.stack, "control"), timeout=30.0, trust_env=False)
        self.control("POST", "/accounts", {"facade": "upstox", "count": 1})
        self.control("POST", "/accounts", {"facade": "zerodha", "count": 1})
        for facade in SIMULATED:
            self.control("PUT", "/postbacks", {"url": f"{self.stack.base_url}/postbacks/{facade}", "facade": facade})
        self.control("PUT", "/settings", {"day_reset_ist": None})
        self.control("PUT", "/prices/NSE:INFY", {"price": "1121.00"})
        self.control("PUT", "/prices/NSE:SBIN", {"price": "1048.70"})
        return self

    def __exit__(self, *error: Any) -> None:
        if self._control is not None:
            self._control.close()
        self.stack.__exit__(*error)
        if error == (None, None, None) and not self._keep:
            for place in (self.stack.folder.outside, self.stack.folder.root):
                shutil.rmtree(place, ignore_errors=True)

    @property
    def record(self) -> str:
        """The record's url, as its owner reads it."""
        return self.stack.owner_database_url

    @property
    def key(self) -> str:
        return str(self.stack.facts["keys"]["trader"])

    @property
    def servers(self) -> tuple[str, ...]:
        """Those of the three that are ours."""
        return tuple(name for name in SERVERS if name in self.stack.pids())

    def names(self) -> list[str]:
        """Our own processes, without the servers and the simulator."""
        return [name for name in self._processes if name != "simulator"]

    def keep(self) -> None:
        """Leave the run folder, with its logs, where it is."""
        self._keep = True

    # The broker's side

    def control(self, method: str, path: str, body: Any = None) -> Any:
        assert self._control is not None
        answer = self._control.request(method, path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def book(self) -> list[dict[str, Any]]:
        """Every order that the brokers ever took, the tag beside it."""
        return list(self.control("GET", "/orders"))

    def make_hostile(self) -> None:
        self.control("POST", "/faults", hostile(self.mildness))

    def make_peaceful(self) -> None:
        self.control("DELETE", "/faults")

    def verify(self) -> str:
        """What `coordinator verify` finds; nothing, when all is well."""
        command = [sys.executable, "-m", "ops.coordinator", "verify"]
        ran = subprocess.run(
            command, env=self.stack.environment(), cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False
        )
        return "" if ran.returncode == 0 else f"{ran.stdout}{ran.stderr}".strip()

    # Deaths

    def arm(self, process: str, point: str) -> None:
        """Have the process die the next time it passes the crash point; it is started again without."""
        file = self._crash_file(process)
        draft = file.with_suffix(".new")
        draft.write_text(point)
        draft.replace(file)

    def is_armed(self, process: str) -> bool:
        """Whether the death that was asked for is still to come."""
        return self._crash_file(process).exists()

    def disarm(self, process: str) -> None:
        self._crash_file(process).unlink(missing_ok=True)

    def pause(self, name: str, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after a while; a server's own children with it."""
        pids = list(_family(self.stack.pids()[name]))
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        threading.Event().wait(seconds)
        for pid in pids:
            _signal(pid, signal.SIGCONT)

    def wait_ready(self, name: str, within_s: float = 90.0) -> float:
        """Seconds until it is ready (again)."""
        began = time.monotonic()
        while not self.stack.supervisor.is_ready(name):
            assert time.monotonic() - began < within_s, f"{name} isn't back after {within_s:.0f} s"
            time.sleep(0.05)
        return time.monotonic() - began

    def _crash_file(self, process: str) -> Path:
        return self.stack.folder.root / f"crash-{process}"

    def _prepare(self, stack: Stack) -> dict[str, Any]:
        facts = prepare(stack, accounts=(*ACCOUNTS, *SECOND_ACCOUNTS), requests_per_s=100_000)
        Settings(**SETTINGS)
        with psycopg.connect(stack.owner_database_url) as connection:
            connection.execute("update accounts set limit_paise = %s", (LIMIT_PAISE,))
            for name, value in SETTINGS.items():
                connection.execute(
                    "insert into settings (name, value, updated_by) values (%s, %s::jsonb, 'chaos')"
                    " on conflict (name) do update set value = excluded.value, version = settings.version + 1",
                    (name, json.dumps(value)),
                )
        return facts

    def _make_processes(self, stack: Stack) -> list[Process]:
        for process in processes(stack):
            own = {"CRASH_FILE": str(self._crash_file(process.name)), "SIMULATOR_SEED": self.seed}
            command = [str(word) for word in process.command]
            if self._sabotage is not None and process.name != "simulator":
                module = f"python -m tests.chaos.sabotaged {self._sabotage} "
                command = [word.replace("python -m ", module) for word in command]
            self._processes[process.name] = replace(process, command=command, env={**process.env, **own}, module=())
        return list(self._processes.values())


def _family(pid: int) -> Iterator[int]:
    yield pid
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, ProcessLookupError):  # gone meanwhile
            continue
        if parent == pid:
            yield from _family(int(stat.parent.name))


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:  # it died meanwhile
        return


def until(what: Callable[[], Any], *, within_s: float, every_s: float = 0.2) -> Any:
    """The first true answer, or the last one when the time is over."""
    deadline = time.monotonic() + within_s
    while not (found := what()) and time.monotonic() < deadline:
        time.sleep(every_s)
    return found
