"""The folder in which a stack keeps its state: `.run/`, 0700, with everything in it 0600."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from ops.leftovers import Identity

PROJECT = "order-coordinator"
HOLDER = "supervisor.json"


class FolderProblem(Exception):
    """The run folder can't be used as it is; the message says what to do."""


class RunFolder:
    """Paths, secrets and small JSON files below one folder that is nobody else's business."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root).resolve()
        self._lock: int | None = None

    def make(self) -> None:
        """Create what is missing.

        Raises:
            FolderProblem: the folder belongs to another user, whose databases we could not open.
        """
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = self.root.stat().st_uid
        if owner != os.geteuid():
            raise FolderProblem(f"{self.root} belongs to user id {owner}: run as that user, or run `make clean` first")
        self.root.chmod(0o700)
        self.logs.mkdir(mode=0o700, exist_ok=True)
        self.write(".gitignore", "*\n")

    def remove(self, keep: Collection[str] = ()) -> None:
        """Forget everything, what lies outside included; with names to keep, the folder itself stays, too."""
        if self.outside.exists():
            shutil.rmtree(self.outside)
        for entry in self.root.iterdir() if self.root.exists() else ():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name not in keep:
                entry.unlink()
        if not keep and self.root.exists():
            self.root.rmdir()

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def outside(self) -> Path:
        """Where root keeps what an unprivileged user must reach, since `.run` may lie in a 0700 folder."""
        name = hashlib.sha256(str(self.root).encode()).hexdigest()[:12]
        return Path("/var/tmp") / f"{PROJECT}-{name}"

    def lock(self) -> bool:
        """Take the folder for this process, until it ends in whatever way; False when another one has it."""
        for _ in range(10):  # somebody who only looks has it for a moment, too
            self._lock = self._try_lock()
            if self._lock is not None:
                holder = Identity.of("supervisor", os.getpid())
                self.write_json(HOLDER, holder.to_json() if holder else {})
                return True
            time.sleep(0.05)
        return False

    def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def is_locked(self) -> bool:
        """Whether a stack is running here."""
        if self._lock is not None:
            return True
        if not (self.root / "lock").exists():
            return False
        handle = self._try_lock()
        if handle is not None:
            os.close(handle)
        return handle is None

    def holder(self) -> Identity | None:
        """The process that took the folder last."""
        record = self.read_json(HOLDER)
        return Identity.from_json(record) if record else None

    def _try_lock(self) -> int | None:
        handle = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        return handle

    def secret(self, name: str, make: Callable[[], str] = lambda: secrets.token_hex(32)) -> str:
        """The secret of that name, made at its first use and the same ever after."""
        path = self.root / name
        if not path.exists():
            self.write(name, make())
        return path.read_text()

    def write(self, name: str, text: str) -> Path:
        """Replace a file in one step, so that no reader ever sees half of it."""
        path = self.root / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.{os.getpid()}.new")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        new.replace(path)
        return path

    def write_json(self, name: str, value: Any) -> None:
        self.write(name, json.dumps(value, indent=2) + "\n")

    def read_json(self, name: str, default: Any = None) -> Any:
        """What was written there; the default when nothing was, or nothing that can be read."""
        try:
            return json.loads((self.root / name).read_text())
        except (FileNotFoundError, ValueError):
            return default


def make_owned(folder: Path, mode: int) -> None:
    """Make a folder in a place where everybody may write, and make sure it is ours and not planted.

    Raises:
        FolderProblem: something else is there under that name.
    """
    folder.mkdir(mode=mode, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise FolderProblem(f"{folder} is not a folder of ours: remove it, then start again")
    folder.chmod(mode)
