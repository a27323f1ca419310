"""The whole system on one machine, as a library: `with Stack(...)`; and as commands: `python -m ops.stack up`."""

from __future__ import annotations

import os
import runpy
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ops.child import Process
from ops.console import Say, silence
from ops.forking import ForkServer, is_possible
from ops.ports import Ports
from ops.runfolder import FolderProblem, RunFolder
from ops.services import Services, Urls
from ops.supervisor import FORK_SERVER, ProcessFailed, Supervisor

STATE = "stack.json"
PROJECT = Path(__file__).resolve().parent.parent


class Stack:
    """Services, then what prepares the database, then processes; each waited for, each started again when it dies.

    Args:
        root: the run folder; one stack at a time.
        processes: gives what to run once urls and ports are known, both of which `stack.environment()` has.
        ports: names of further ports to choose, with the preferred number or None. A port called "web" is `base_url`.
        prepare: migrates and seeds, before any process runs, while RabbitMQ may still be starting. What it returns is
            added to stack.json.
        imports: what several of the processes import, modules and whole packages: imported once, by a fork server that
            then becomes each process with a `module`.
        vhosts: RabbitMQ's virtual hosts; the first one is in `queue_url`.
        fast: nothing is forced onto the disk (tests).
        environment: DATABASE_URL, RABBITMQ_URL and REDIS_URL in it are used instead of starting such a service.

    stack.json in the run folder says where everything is as long as the stack is up: base_url, the urls, what prepare
    returned, and the pid of every process and service, which leads a process group of that number.
    """

    def __init__(
        self,
        root: Path,
        processes: Callable[[Stack], Iterable[Process]] = lambda stack: (),
        *,
        ports: Mapping[str, int | None] | None = None,
        prepare: Callable[[Stack], Mapping[str, Any]] = lambda stack: {},
        imports: Sequence[str] = (),
        vhosts: Sequence[str] = ("/",),
        fast: bool = False,
        say: Say = silence,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self.folder = RunFolder(root)
        self._ports = Ports(self.folder)
        self._make_processes, self._prepare, self._wanted_ports = processes, prepare, ports or {}
        self._imports = imports if is_possible() else ()
        self._vhosts, self._fast, self._say = vhosts, fast, say
        self._environment = dict(environment)
        self._supervisor: Supervisor | None = None
        self._services: Services | None = None
        self._names: list[str] = []
        self._is_up = False
        self.ports: dict[str, int] = {}
        self.facts: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self.folder.make()
        if not self.folder.lock():
            raise FolderProblem(f"a stack is running in {self.folder.root} already")
        try:
            self._up()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _up(self) -> None:
        self._supervisor = Supervisor(self.folder, self._say, self._write_state)
        self._services = Services(
            self.folder.root,
            fast=self._fast,
            vhosts=self._vhosts,
            say=self._say,
            environment=self._environment,
            supervisor=self._supervisor,
        )
        self._services.begin()
        if self._imports:
            self._supervisor.fork_from(self._fork_server())
        self.ports = self._ports.choose(self._wanted_ports)
        self._services.wait("postgres", "valkey")
        try:
            self.facts = dict(self._prepare(self))
        except Exception as error:
            raise ProcessFailed(f"preparing the database failed: {type(error).__name__}: {error}") from error
        processes = list(self._make_processes(self))
        self._names = [process.name for process in processes]
        if self._imports:
            self._supervisor.wait_ready(FORK_SERVER)
        for process in processes:
            if not process.needs_queue:
                self._supervisor.start(process)
        self._services.wait()
        for process in processes:
            if process.needs_queue:
                self._supervisor.start(process)
        self._supervisor.wait_ready(*self._names)
        self._is_up = True
        self._write_state()

    def environment(self, **more: str | int | Path) -> dict[str, str]:
        """What a process of this stack is given: ours, the three urls, the secret, the environment's programs first."""
        programs = f"{Path(sys.executable).parent}{os.pathsep}{self._environment.get('PATH', os.defpath)}"
        own = {"PATH": programs, "COORDINATOR_SECRET": self.folder.secret("secret"), "PYTHONUNBUFFERED": "1"}
        return self._environment | self.urls.environment() | own | {name: str(value) for name, value in more.items()}

    @property
    def urls(self) -> Urls:
        return self.services.urls

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['web']}"

    @property
    def database_url(self) -> str:
        return self.urls.database_url

    @property
    def owner_database_url(self) -> str:
        return self.urls.owner_database_url

    @property
    def queue_url(self) -> str:
        return self.urls.queue_url

    @property
    def redis_url(self) -> str:
        return self.urls.redis_url

    @property
    def services(self) -> Services:
        if self._services is None:
            raise FolderProblem("the stack has not been started")
        return self._services

    @property
    def supervisor(self) -> Supervisor:
        if self._supervisor is None:
            raise FolderProblem("the stack has not been started")
        return self._supervisor

    def pids(self) -> dict[str, int]:
        return self.supervisor.pids()

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to the whole group of a process; if it dies of it, it is started again."""
        self.supervisor.kill(name, number)

    def wait_ready(self, *names: str) -> None:
        """Wait until these processes or services are ready (again)."""
        self.supervisor.wait_ready(*names)

    def restart(self, name: str) -> None:
        """Stop a process as it wants to be stopped, start it again, and wait until it is ready."""
        self.supervisor.restart(name)

    def stop_service(self, name: str) -> None:
        """Stop "postgres", "valkey" or "rabbitmq" and leave it stopped."""
        self.services.stop(name)

    def start_service(self, name: str) -> None:
        """Start a stopped one on its old port, and wait until it is ready."""
        self.services.start(name)

    def kill_service(self, name: str) -> None:
        """Kill one with no chance to tidy up; it is started again."""
        self.services.kill(name)

    def close(self) -> None:
        """Stop the processes, then the services, each with a few seconds' grace; nothing is left behind."""
        self._is_up = False
        if self._supervisor is not None:
            self._supervisor.refuse()
            self._supervisor.stop(*self._names)
            self.services.close()
            self._supervisor.close()
        self._ports.release()
        (self.folder.root / STATE).unlink(missing_ok=True)
        self.folder.unlock()

    def _fork_server(self) -> ForkServer:
        root = self.folder.root
        return ForkServer(self._imports, env=self.environment(), folder=PROJECT, ready_file=root / f"{FORK_SERVER}.ready")

    def _write_state(self) -> None:
        if self._is_up:
            base = {"base_url": self.base_url} if "web" in self.ports else {}
            urls = {"database_url": self.database_url, "owner_database_url": self.owner_database_url}
            urls |= {"queue_url": self.queue_url, "redis_url": self.redis_url}
            self.folder.write_json(STATE, base | self.facts | urls | {"processes": self.pids()})


if __name__ == "__main__":
    runpy.run_module("ops.commands", run_name="__main__")
