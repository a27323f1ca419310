"""A private RabbitMQ: the installed one, else the system's packages downloaded; everything on 127.0.0.1."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ops.child import Process
from ops.console import Say
from ops.probes import says
from ops.runfolder import RunFolder
from ops.services.debian import rabbitmq_tree
from ops.supervisor import ProcessFailed, Supervisor

USER = "coordinator"
ONE_CORE = "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"  # on a small machine the other programs need the cores
INSTALLED = "usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"
NONE_FOUND = """RabbitMQ is not installed, and its packages could not be fetched ({why}).
Install rabbitmq-server, or set RABBITMQ_URL to one that runs elsewhere (amqp://user:password@host:5672/)."""


class RabbitMQ:
    """One node with an epmd of its own, so that it neither finds nor disturbs another Erlang on the machine."""

    name = "rabbitmq"

    def __init__(
        self, folder: RunFolder, supervisor: Supervisor, ports: Mapping[str, int], *, vhosts: Sequence[str], say: Say
    ) -> None:
        self._folder, self._supervisor, self._say, self._vhosts = folder, supervisor, say, vhosts
        self.port, self._epmd_port, self._node_port = ports["rabbitmq"], ports["epmd"], ports["erlang"]
        self._home = folder.root / "rabbitmq"
        self._server = self._erlang = Path()

    def url(self, vhost: str = "/") -> str:
        password, name = self._folder.secret("rabbitmq.secret"), vhost.replace("/", "%2F")
        return f"amqp://{USER}:{password}@127.0.0.1:{self.port}/{name}"

    def up(self) -> None:
        self._server, self._erlang = self._find()
        self._configure()
        epmd: list[str | Path] = [self._erlang / "epmd", "-address", "127.0.0.1", "-port", str(self._epmd_port)]
        self._supervisor.start(Process("epmd", epmd, env=self._environment(), stop_signal=signal.SIGKILL))
        self.start()

    def start(self) -> None:
        protocol = b"AMQP\0\0\x09\x01"
        process = Process(
            self.name,
            [self._server],
            env=self._environment(),
            ready=says(self.port, protocol, b"\x01\0\0"),
            ready_within_s=90,
            stop_grace_s=4,
            stop_group=False,
            folder=self._home,
        )
        self._supervisor.start(process)
        self._supervisor.wait_ready(self.name)

    def _find(self) -> tuple[Path, Path]:
        """The inner start script (the one on PATH insists on the user `rabbitmq`) and the folder of Erlang's programs."""
        root = Path("/")
        if not (any(root.glob(INSTALLED)) and shutil.which("erl")):
            try:
                root = rabbitmq_tree(self._supervisor, self._say, self._folder.root / "cache")
            except (ProcessFailed, OSError, StopIteration) as error:
                raise ProcessFailed(NONE_FOUND.format(why=error)) from error
        return max(root.glob(INSTALLED)), root / "usr/lib/erlang/bin"

    def _configure(self) -> None:
        for part in ("home", "data"):
            (self._home / part).mkdir(mode=0o700, parents=True, exist_ok=True)
        cookie = self._home / "home" / ".erlang.cookie"
        if not cookie.exists():
            self._folder.write("rabbitmq/home/.erlang.cookie", self._folder.secret("erlang.secret")).chmod(0o400)
        self._folder.write("rabbitmq/enabled_plugins", "[].\n")
        self._folder.write("rabbitmq/definitions.json", json.dumps(self._definitions(), indent=2))
        self._folder.write("rabbitmq/rabbitmq.conf", "".join(f"{line}\n" for line in self._settings()))

    def _settings(self) -> Iterator[str]:
        yield f"listeners.tcp.1 = 127.0.0.1:{self.port}"
        yield f"load_definitions = {self._home}/definitions.json"
        yield "log.file = false"
        yield "log.console = true"
        yield "log.console.level = info"
        yield "disk_free_limit.absolute = 50MB"
        yield "vm_memory_high_watermark.relative = 0.3"
        yield "raft.wal_max_size_bytes = 64000000"  # held in memory, too; 512 MB otherwise

    def _definitions(self) -> dict[str, object]:
        """The user and the virtual hosts, read at every start: no management program has to be run for them."""
        salt = hashlib.sha256(self._folder.secret("erlang.secret").encode()).digest()[:4]
        digest = hashlib.sha256(salt + self._folder.secret("rabbitmq.secret").encode()).digest()
        everything = {"user": USER, "configure": ".*", "write": ".*", "read": ".*"}
        user = {"name": USER, "tags": "administrator", "hashing_algorithm": "rabbit_password_hashing_sha256"}
        return {
            "users": [user | {"password_hash": base64.b64encode(salt + digest).decode(), "limits": {}}],
            "vhosts": [{"name": name} for name in self._vhosts],
            "permissions": [everything | {"vhost": name} for name in self._vhosts],
        }

    def _environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("RABBITMQ_", "ERL", "NOTIFY_"))}
        local = "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false"
        return kept | {
            "HOME": str(self._home / "home"),
            "PATH": f"{self._erlang}:{os.environ.get('PATH', os.defpath)}",
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": "coordinator@localhost",
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "RABBITMQ_MNESIA_BASE": str(self._home / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder.logs),
            "RABBITMQ_PID_FILE": str(self._home / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._home / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(self._home / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{ONE_CORE} {local}",
            "RUNNING_UNDER_SYSTEMD": "true",  # the script becomes the server, instead of a shell that waits for it
        }
