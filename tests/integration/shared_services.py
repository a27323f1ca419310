"""The servers that all tests of a run share, also when pytest-xdist runs them in several processes.

They belong to a process of their own, which ends when no test process holds `users` any more: nobody has to outlive the
others, and a killed test run leaves nothing behind. Run as a program, this file is that process.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.commands import down, up
from ops.console import Say
from ops.probes import wait_until
from ops.runfolder import RunFolder
from ops.stack import STATE, Stack

LOCKS = ("starting", "users")
VHOSTS = tuple(f"gw{number}" for number in range(8))  # as pytest-xdist names its workers


class ServicesMissing(Exception):
    """This machine can't run the servers; the message says why."""


@dataclass(frozen=True)
class SharedServices:
    """Where the servers are, for the test process that asks."""

    state: Mapping[str, Any]
    worker: str

    @property
    def superuser_database_url(self) -> str:
        return str(self.state["superuser_database_url"])

    @property
    def queue_url(self) -> str:
        """A virtual host of this test process's own."""
        return str(self.state["queue_urls"][self.worker])

    @property
    def redis_url(self) -> str:
        """A database of this test process's own."""
        return str(self.state["redis_url"]).removesuffix("/0") + f"/{VHOSTS.index(self.worker)}"

    def database_url(self, role: str, database: str) -> str:
        url = str(self.state["owner_database_url" if role == "owner" else "database_url"])
        return f"{url.rpartition('/')[0]}/{database}"


@contextmanager
def shared_services(root: Path) -> Iterator[SharedServices]:
    """Use the servers that run for this test run, or start them; the last one to leave sees them stop."""
    folder = RunFolder(root)
    folder.make()
    with held(root / "users", fcntl.LOCK_SH):
        with held(root / "starting", fcntl.LOCK_EX):
            if not (folder.is_locked() and (root / STATE).exists()):
                wait_until(lambda: not folder.is_locked(), timeout_s=15)  # one that is just ending
                start_afresh(root)
        yield SharedServices(folder.read_json(STATE), os.environ.get("PYTEST_XDIST_WORKER", VHOSTS[0]))
    with held(root / "starting", fcntl.LOCK_EX), held(root / "users", fcntl.LOCK_EX | fcntl.LOCK_NB) as is_last:
        if is_last:
            down(root=root)


def start_afresh(root: Path) -> None:
    down(root=root)
    RunFolder(root).remove(keep=LOCKS)
    started = subprocess.run([sys.executable, __file__, root], capture_output=True, text=True, check=False)
    if started.returncode != 0:
        raise ServicesMissing(started.stderr)


@contextmanager
def held(path: Path, kind: int) -> Iterator[bool]:
    with path.open("a") as file:
        try:
            fcntl.flock(file, kind)
        except BlockingIOError:
            yield False
        else:
            yield True


def make_stack(root: Path, *, say: Say) -> Stack:
    def prepare(stack: Stack) -> dict[str, Any]:
        threading.Thread(target=end_with_the_last_user, args=(root,), daemon=True).start()
        queue_urls = {vhost: stack.services.queue_url(vhost) for vhost in VHOSTS}
        return {"superuser_database_url": stack.urls.superuser_database_url, "queue_urls": queue_urls}

    return Stack(root, vhosts=VHOSTS, prepare=prepare, say=say, fast=True)


def end_with_the_last_user(root: Path) -> None:
    def nobody() -> bool:
        with held(root / "users", fcntl.LOCK_EX | fcntl.LOCK_NB) as is_free:
            return is_free

    while not wait_until(nobody, timeout_s=3600, every_s=0.5):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(up(detached=True, root=Path(sys.argv[1]), make_stack=make_stack))
