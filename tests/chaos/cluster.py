"""Three RabbitMQ nodes on this machine, one cluster: the leader of a queue can be killed while orders are on their way."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from ops.child import Process
from ops.ports import Ports
from ops.runfolder import RunFolder
from ops.services.rabbitmq import RabbitMQ
from ops.supervisor import Supervisor
from pipeline.chain import queue_of

LEADER = "queue leader"
SECRETS = ("rabbitmq.secret", "erlang.secret")
WATCHED = queue_of("validate")  # whose leader is killed
ASKED_WITHIN_S = 60.0


class Node(RabbitMQ):
    """One node of several. They share epmd, cookie and user; each has ports and a folder of its own."""

    def __init__(
        self, number: int, count: int, folder: RunFolder, supervisor: Supervisor, ports: Mapping[str, int]
    ) -> None:
        super().__init__(folder, supervisor, ports, vhosts=("/",), say=lambda *_: None)
        self.number, self.name, self._count = number, f"rabbitmq-{number}", count

    def begin(self, first: Node | None) -> None:
        """Start it and don't wait; the first one also finds the programs and starts epmd."""
        self._server, self._erlang = (first._server, first._erlang) if first is not None else self._find()
        self._configure()
        if first is None:
            epmd: list[str | Path] = [self._erlang / "epmd", "-address", "127.0.0.1", "-port", str(self._epmd_port)]
            self._supervisor.start(Process("epmd", epmd, env=self._environment(), stop_signal=signal.SIGKILL))

    def leader_of(self, queue: str) -> int | None:
        """The number of the node that leads the queue, as this one knows it."""
        resource = f'rabbit_misc:r(<<"/">>, queue, <<"{queue}">>)'
        told = self._ask("eval", f"{{ok, Q}} = rabbit_amqqueue:lookup({resource}), element(2, amqqueue:get_pid(Q)).")
        name = told.strip().strip("'")
        return int(name[1:].partition("@")[0]) if name.startswith("q") else None

    def running(self) -> int:
        """How many nodes of the cluster this one sees."""
        seen = self._ask("eval", "length([N || N <- [node() | nodes()], hd(atom_to_list(N)) =:= $q]).")
        return int(seen.strip() or 0)

    def _ask(self, *words: str) -> str:
        command = [str(self._server.with_name("rabbitmqctl")), "-q", "-n", f"q{self.number}@localhost", *words]
        asked = subprocess.run(
            command, env=self._environment(), capture_output=True, text=True, timeout=ASKED_WITHIN_S, check=False
        )
        return asked.stdout if asked.returncode == 0 else ""

    def _settings(self) -> Iterator[str]:
        yield from super()._settings()
        yield "cluster_formation.peer_discovery_backend = classic_config"
        for number in range(1, self._count + 1):
            yield f"cluster_formation.classic_config.nodes.{number} = q{number}@localhost"
        yield "cluster_partition_handling = pause_minority"
        yield "queue_leader_locator = balanced"

    def _environment(self) -> dict[str, str]:
        return super()._environment() | {"RABBITMQ_NODENAME": f"q{self.number}@localhost"}


class Cluster:
    """The nodes, supervised: `with Cluster(…)`. With one node there is none: the stack has its own RabbitMQ."""

    def __init__(self, root: Path, *, nodes: int = 3, say: Callable[[str], Any] = lambda _: None) -> None:
        self._root, self._count, self._say = root, nodes if nodes > 1 else 0, say
        self._nodes: dict[int, Node] = {}
        self._supervisor: Supervisor | None = None
        self._ports: list[Ports] = []
        self.urls = ""

    @property
    def targets(self) -> tuple[str, ...]:
        return (LEADER,) if self._count else ()

    def __enter__(self) -> Self:
        if self._count:
            try:
                self._up()
            except BaseException:
                self.__exit__()
                raise
        return self

    def __exit__(self, *error: object) -> None:
        if self._supervisor is not None:
            self._supervisor.refuse()
            self._supervisor.stop(*(node.name for node in self._nodes.values()))
            self._supervisor.close()
            for ports in self._ports:
                ports.release()
            shutil.rmtree(self._root, ignore_errors=True)

    def _up(self) -> None:
        folder = RunFolder(self._root)
        folder.make()
        self._supervisor = Supervisor(folder)
        own = Ports(folder)
        self._ports.append(own)
        shared = own.choose({"epmd": None})
        for number in range(1, self._count + 1):
            place = RunFolder(self._root / f"q{number}")
            place.make()
            for secret in SECRETS:
                place.write(secret, folder.secret(secret))
            ports = Ports(place)
            self._ports.append(ports)
            chosen = shared | ports.choose({"rabbitmq": None, "erlang": None})
            self._nodes[number] = Node(number, self._count, place, self._supervisor, chosen)
        self._say(f"starting {self._count} RabbitMQ nodes")
        first = self._nodes[1]
        for node in self._nodes.values():
            node.begin(None if node is first else first)
        for node in self._nodes.values():
            node.start()
        self._wait_for_all()
        self.urls = ",".join(node.url() for node in self._nodes.values())

    def _wait_for_all(self) -> None:
        deadline = time.monotonic() + 120
        while self._nodes[1].running() != self._count:
            assert time.monotonic() < deadline, "the nodes don't find each other"
            time.sleep(0.5)
        self._say(f"{self._count} RabbitMQ nodes are one cluster")

    def leader(self, queue: str = WATCHED) -> int:
        """The node that leads the queue, as the first node that answers knows it."""
        assert self._supervisor is not None
        for node in self._nodes.values():
            if self._supervisor.is_ready(node.name) and (number := node.leader_of(queue)) is not None:
                return number
        return 1

    def kill_leader(self, number: int = signal.SIGKILL) -> str:
        """Send the leader of the watched queue a signal; gives its name. It is started again if it dies of it."""
        assert self._supervisor is not None
        name = self._nodes[self.leader()].name
        self._supervisor.kill(name, number)
        return name

    def wait_ready(self) -> None:
        assert self._supervisor is not None
        self._supervisor.wait_ready(*(node.name for node in self._nodes.values()))

    @property
    def url(self) -> str:
        """Of a node that is ready."""
        assert self._supervisor is not None
        ready = [node.url() for node in self._nodes.values() if self._supervisor.is_ready(node.name)]
        return (ready or [self.urls])[0]
