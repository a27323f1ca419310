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
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.commands import down, up
from ops.console import Say
from ops.probes import wait_until
from ops.runfolder import RunFolder
from ops.stack import STATE, Stack

SLOTS = tuple(f"slot{number}" for number in range(8))  # as many test processes at a time
LOCKS = ("starting", "users", *SLOTS)


class ServicesMissing(Exception):
    """This machine can't run the servers; the message says why."""


@dataclass(frozen=True)
class SharedServices:
    """Where the servers are, for the test process that asks, with a slot of its own: a virtual host and a Redis database."""

    state: Mapping[str, Any]
    slot: str

    @property
    def superuser_database_url(self) -> str:
        return str(self.state["superuser_database_url"])

    @property
    def queue_url(self) -> str:
        return str(self.state["queue_urls"][self.slot])

    @property
    def redis_url(self) -> str:
        return str(self.state["redis_url"]).removesuffix("/0") + f"/{SLOTS.index(self.slot)}"

    def database_url(self, role: str, database: str) -> str:
        url = str(self.state["owner_database_url" if role == "owner" else "database_url"])
        return f"{url.rpartition('/')[0]}/{database}"


@contextmanager
def shared_services(root: Path) -> Iterator[SharedServices]:
    """Use the servers that run already, or start them; the last one to leave sees them stop."""
    folder = RunFolder(root)
    folder.make()
    with held(root / "users", fcntl.LOCK_SH):
        with held(root / "starting", fcntl.LOCK_EX):
            if not (folder.is_locked() and (root / STATE).exists()):
                wait_until(lambda: not folder.is_locked(), timeout_s=15)  # one that is just ending
                start_afresh(root)
        with ExitStack() as slots:
            yield SharedServices(folder.read_json(STATE), free_slot(root, slots))
    with held(root / "starting", fcntl.LOCK_EX), held(root / "users", fcntl.LOCK_EX | fcntl.LOCK_NB) as is_last:
        if is_last:
            down(root=root)


def free_slot(root: Path, slots: ExitStack) -> str:
    for name in SLOTS:
        if slots.enter_context(held(root / name, fcntl.LOCK_EX | fcntl.LOCK_NB)):
            return name
    raise ServicesMissing(f"{len(SLOTS)} test processes use the servers already")


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
        queue_urls = {slot: stack.services.queue_url(slot) for slot in SLOTS}
        return {"superuser_database_url": stack.urls.superuser_database_url, "queue_urls": queue_urls}

    return Stack(root, vhosts=SLOTS, prepare=prepare, say=say, fast=True)


def end_with_the_last_user(root: Path) -> None:
    def nobody() -> bool:
        with held(root / "users", fcntl.LOCK_EX | fcntl.LOCK_NB) as is_free:
            return is_free

    while not wait_until(nobody, timeout_s=3600, every_s=0.5):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(up(detached=True, root=Path(sys.argv[1]), make_stack=make_stack))
