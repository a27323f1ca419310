"""The servers the coordinator leans on, private to one run folder: PostgreSQL, Valkey and RabbitMQ."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from ops.console import Say, silence
from ops.ports import Ports
from ops.runfolder import FolderProblem, RunFolder
from ops.services.postgres import APP, OWNER, SUPERUSER, Postgres
from ops.services.rabbitmq import RabbitMQ
from ops.services.valkey import Valkey
from ops.supervisor import Supervisor

PORTS = ("postgres", "valkey", "rabbitmq", "epmd", "erlang")


@dataclass(frozen=True)
class Urls:
    """Where the servers are. `superuser_database_url` is empty when the database isn't ours."""

    database_url: str
    owner_database_url: str
    superuser_database_url: str
    queue_url: str
    redis_url: str

    def environment(self) -> dict[str, str]:
        """As the coordinator's processes want to be told."""
        return {"DATABASE_URL": self.database_url, "RABBITMQ_URL": self.queue_url, "REDIS_URL": self.redis_url}


class Services:
    """Starts the three side by side, or uses those that DATABASE_URL, RABBITMQ_URL and REDIS_URL name.

    With `fast`, nothing is forced onto the disk: for tests. A service that dies is started again on its old port.
    """

    def __init__(
        self,
        root: Path,
        *,
        fast: bool = False,
        vhosts: Sequence[str] = ("/",),
        say: Say = silence,
        environment: Mapping[str, str] = os.environ,
        supervisor: Supervisor | None = None,
    ) -> None:
        self.folder = RunFolder(root)
        self._ports = Ports(self.folder)
        self._fast, self._vhosts, self._say, self._environment = fast, vhosts, say, environment
        self._supervisor, self._is_guest = supervisor, supervisor is not None
        self._services: dict[str, Postgres | Valkey | RabbitMQ] = {}
        self._starts: dict[str, Future[None]] = {}
        self.urls = Urls("", "", "", "", "")

    def __enter__(self) -> Self:
        if self._supervisor is None:
            self.folder.make()
            if not self.folder.lock():
                raise FolderProblem(f"a stack is running in {self.folder.root} already")
            self._supervisor = Supervisor(self.folder, self._say)
        try:
            self.begin()
            self.wait()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def begin(self) -> None:
        """Choose ports, which settles the urls, and start everything side by side; `wait` says when it is there."""
        given, folder, supervisor = self._environment, self.folder, self.supervisor
        ports = self._ports.choose(dict.fromkeys(PORTS))
        postgres = Postgres(folder, supervisor, ports["postgres"], fast=self._fast)
        valkey = Valkey(folder, supervisor, ports["valkey"], fast=self._fast)
        rabbitmq = RabbitMQ(folder, supervisor, ports, vhosts=self._vhosts, say=self._say)
        wanted: dict[str, Postgres | Valkey | RabbitMQ]
        wanted = {"DATABASE_URL": postgres, "REDIS_URL": valkey, "RABBITMQ_URL": rabbitmq}
        self._services = {service.name: service for name, service in wanted.items() if not given.get(name)}
        database = given.get("DATABASE_URL")
        self.urls = Urls(
            database_url=database or postgres.url(APP),
            owner_database_url=given.get("OWNER_DATABASE_URL") or database or postgres.url(OWNER),
            superuser_database_url="" if database else postgres.url(SUPERUSER),
            queue_url=given.get("RABBITMQ_URL") or rabbitmq.url(self._vhosts[0]),
            redis_url=given.get("REDIS_URL") or valkey.url,
        )
        pool = ThreadPoolExecutor(3)
        self._starts = {name: pool.submit(service.up) for name, service in self._services.items()}
        pool.shutdown(wait=False)

    def wait(self, *names: str) -> None:
        """Wait until these are ready, or all; whichever service fails, it is told at once."""
        pending = {start for name, start in self._starts.items() if name in names or not names}
        while pending:
            finished = wait(self._starts.values(), timeout=0.1, return_when=FIRST_EXCEPTION).done
            for start in finished:
                start.result()
            pending -= finished

    def queue_url(self, vhost: str) -> str:
        """Of one of the virtual hosts asked for."""
        rabbitmq = self._services.get("rabbitmq")
        return rabbitmq.url(vhost) if isinstance(rabbitmq, RabbitMQ) else self.urls.queue_url

    def stop(self, name: str) -> None:
        """Stop one and leave it stopped."""
        self.supervisor.stop(name)

    def start(self, name: str) -> None:
        """Start one that was stopped, and wait until it is ready."""
        self._services[name].start()

    def kill(self, name: str) -> None:
        """Kill one with no chance to tidy up; it is started again."""
        self.supervisor.kill(name)

    @property
    def supervisor(self) -> Supervisor:
        if self._supervisor is None:
            raise FolderProblem("the services have not been started")
        return self._supervisor

    def close(self) -> None:
        """Stop those that were started. epmd goes last, since RabbitMQ says goodbye to it."""
        if self._supervisor is not None:
            self._supervisor.refuse()
            self._supervisor.stop(*self._services)
            self._supervisor.stop("epmd")
            self._ports.release()
            if not self._is_guest:
                self._supervisor.close()
                self.folder.unlock()
