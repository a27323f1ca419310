"""The coordinator's processes, as the Procfile names them, with what each is told and when it counts as ready."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ops.child import Process
from ops.console import Say, silence
from ops.probes import http_ok
from ops.stack import PROJECT, Stack

WITHOUT_QUEUE = ("web", "clock", "listen")  # they take intents, keep time and hear news while RabbitMQ is away
SIMULATED = ("upstox", "zerodha")
# Imported once for all processes; each would take a second or more for it. Not the door, whose metrics look at import for
# the folder in which several web processes count together.
IMPORTS = (
    "domain",
    "store",
    "brokers",
    "readmodel",
    "pipeline",
    "ops.clock",
    "falcon.asgi",
    "uvloop",
    "gunicorn.app.wsgiapp",
    "gunicorn.arbiter",
    "gunicorn.glogging",
    "sqlalchemy.dialects.postgresql.psycopg",
)
PORTS: Mapping[str, int | None] = {
    "web": 8000,
    "simulator-upstox": None,
    "simulator-zerodha": None,
    "simulator-control": None,
}

Prepare = Callable[[Stack], Mapping[str, Any]]


def coordinator_stack(
    root: Path,
    *,
    prepare: Prepare | None = None,
    fast: bool = False,
    say: Say = silence,
    environment: Mapping[str, str] = os.environ,
) -> Stack:
    """The whole system: every process of the Procfile, and the simulated brokers it talks to.

    `prepare` stands in for the usual migration and seeding (ops/preparing.py).
    """

    def prepared(stack: Stack) -> dict[str, Any]:
        simulators = {name: simulator_url(stack, name) for name in (*SIMULATED, "control")}
        return {"simulators": simulators} | dict((prepare or usual_preparation())(stack))

    return Stack(
        root,
        processes,
        ports=PORTS,
        prepare=prepared,
        imports=IMPORTS,
        fast=fast,
        say=say,
        environment=environment,
    )


def usual_preparation() -> Prepare:
    """Imported only when it is needed: by then the servers are starting, and the import takes as long as they do."""
    from ops.preparing import prepare

    return prepare


def processes(stack: Stack) -> list[Process]:
    """The simulator and every line of the Procfile; side by side: none needs another to start."""
    ready = stack.folder.root / "ready"
    ready.mkdir(mode=0o700, exist_ok=True)
    brokers = {f"{name.upper()}_BASE_URL": simulator_url(stack, name) for name in SIMULATED}
    web: dict[str, str | int | Path] = {"PORT": stack.ports["web"], "WEB_CONCURRENCY": web_concurrency()}
    found = [simulator(stack, ready)]
    for name, command in read_procfile(PROJECT / "Procfile").items():
        is_web = name == "web"
        found.append(
            Process(
                name,
                ["/bin/sh", "-c", f"exec {command}"],
                env=stack.environment(**brokers, **(web if is_web else {})),
                ready=http_ok(f"{stack.base_url}/readyz") if is_web else None,
                ready_file=None if is_web else ready / name,
                folder=PROJECT,
                needs_queue=name not in WITHOUT_QUEUE,
                module=module_of(command),
            )
        )
    return found


def simulator(stack: Stack, ready: Path) -> Process:
    """The brokers' side of the wire; it remembers its books over a restart."""
    ports = {f"SIMULATOR_{name.upper()}_PORT": stack.ports[f"simulator-{name}"] for name in (*SIMULATED, "control")}
    postbacks = f"{stack.base_url}/postbacks"
    state = stack.folder.root / "simulator.json"
    env = stack.environment(**ports, SIMULATOR_STATE=state, SIMULATOR_POSTBACKS=postbacks)
    module = ["brokers.simulator"]
    return Process(
        "simulator",
        ["python", "-m", *module],
        env=env,
        ready_file=ready / "simulator",
        folder=PROJECT,
        needs_queue=False,
        module=module,
    )


def simulator_url(stack: Stack, name: str) -> str:
    return f"http://127.0.0.1:{stack.ports[f'simulator-{name}']}"


def web_concurrency() -> int:
    """WEB_CONCURRENCY, else half of the cores, since the stages and the servers need the others."""
    return int(os.environ.get("WEB_CONCURRENCY") or max(1, (os.cpu_count() or 1) // 2))


def module_of(command: str) -> list[str]:
    """What `python -m` is followed by in a line of the Procfile; gunicorn is a module, too. Empty where a shell is needed."""
    match shlex.split(command):
        case ["python", "-m", *module] if "$" not in command:
            return module
        case ["gunicorn", *_] as module if "$" not in command:
            return module
    return []


def read_procfile(path: Path) -> dict[str, str]:
    """The command of each process, in the file's order."""
    lines = (re.fullmatch(r"([a-z0-9_-]+):\s*(.+)", line.strip()) for line in path.read_text().splitlines())
    return {line[1]: line[2] for line in lines if line}
