"""Has processes forked by one that has imported everything already (ops/forkserver.py), which takes a tenth of a second.

The process that was forked is the fork server's child, not ours: we know it by a descriptor that tells its death, and
the fork server keeps its number from being used again until we have said goodbye to it.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ops.forkserver import REQUEST_MAX
from ops.leftovers import Identity, find_leftovers, send, send_group

ANSWER_S = 5.0  # a fork takes milliseconds
ANSWER_MAX = 1024


class Running(Protocol):
    """A process that was started, dead or alive, whose number is its own until it is reaped."""

    pid: int

    def is_dead(self) -> bool: ...
    def send(self, number: int, *, group: bool) -> None: ...
    def reap(self) -> int | None:
        """Once it is dead: its exit status, negative for a signal; None when nobody can say."""


class Spawned:
    """A child of ours."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self.pid = popen.pid
        self._popen = popen

    def is_dead(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def send(self, number: int, *, group: bool) -> None:
        (send_group if group else send)(self.pid, number)

    def reap(self) -> int | None:
        return self._popen.wait()


def is_possible() -> bool:
    """Whether the kernel tells us the death of a process that isn't our child."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (OSError, AttributeError):  # an old kernel, a sandbox that forbids it, or a Python built without
        return False
    return True


class NoForkServer(Exception):
    """It isn't there, doesn't answer, or can't do that."""


class Line:
    """The conversation with one incarnation of the fork server."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.settimeout(ANSWER_S)
        self.theirs = theirs.detach()  # for it to inherit; then to be closed here
        self.hangs = False  # no answer came in time

    def is_up(self) -> bool:
        """It says nothing that it wasn't asked, so that whatever can be read now is its end."""
        return self._ours.fileno() >= 0 and not _is_readable(self._ours.fileno())

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Raises NoForkServer, and where no answer came this one is asked no more."""
        message, answer = json.dumps(request).encode(), b""
        if len(message) > REQUEST_MAX:
            raise NoForkServer
        try:
            if self.is_up():
                self._ours.send(message)
                answer = self._ours.recv(ANSWER_MAX)
        except TimeoutError:
            self.hangs = True
        except OSError:  # it has just ended
            answer = b""
        if not answer:
            self.close()
            raise NoForkServer
        said: dict[str, Any] = json.loads(answer)
        if "error" in said:
            raise NoForkServer(said["error"])
        return said

    def close(self) -> None:
        """It ends when it sees that, and what it has forked with it."""
        self._ours.close()


class ForkServer:
    """What it is to import, and the line to the one that runs now."""

    def __init__(self, names: Sequence[str], *, env: Mapping[str, str], folder: Path, ready_file: Path) -> None:
        self.command = [sys.executable, "-m", "ops.forkserver", *names]
        self.env, self.folder, self.ready_file = env, folder, ready_file
        self._line: Line | None = None

    def begin(self) -> int:
        """Before each start: the descriptor that it is to inherit, to be closed once it has."""
        self.close()
        self._line = Line()
        return self._line.theirs

    def close(self) -> None:
        """Ask no more."""
        if self._line is not None:
            self._line.close()

    @property
    def hangs(self) -> bool:
        """Whether the one that runs now has not answered in time: there is nothing to be done with it but to kill it."""
        return self._line is not None and self._line.hangs

    def fork(self, name: str, module: Sequence[str], *, env: Mapping[str, str], folder: Path, log: Path, stop: int) -> Forked:
        """A process that is `python -m MODULE`, as if it had been started so; `stop` is sent to it if its parent dies.

        Raises:
            NoForkServer: there is none that has imported everything.
        """
        if self._line is None or not self.ready_file.exists():
            raise NoForkServer
        request = {"do": "fork", "name": name, "module": [*module], "env": dict(env), "folder": str(folder)}
        answer = self._line.ask(request | {"log": str(log), "stop_signal": stop})
        try:
            return Forked(self._line, name, answer["pid"])
        except OSError as error:  # nothing tells us its death; so that it doesn't run unseen, the fork server ends, too
            self._line.close()
            raise NoForkServer from error


class Forked:
    """A process that the fork server has made."""

    def __init__(self, line: Line, name: str, pid: int) -> None:
        self.pid = pid
        self._line = line
        self._death = os.pidfd_open(pid)
        self._identity = Identity.of(name, pid)

    def is_dead(self) -> bool:
        return _is_readable(self._death)

    def send(self, number: int, *, group: bool) -> None:
        if self._line.is_up():
            (send_group if group else send)(self.pid, number)
        elif self._identity is not None:  # its number may be another's by now
            for stat in find_leftovers([self._identity]):
                if group or stat.pid == self.pid:
                    send(stat.pid, number)

    def reap(self) -> int | None:
        os.close(self._death)
        try:
            status: int = self._line.ask({"do": "reap", "pid": self.pid})["status"]
        except NoForkServer:
            return None
        return status


def _is_readable(descriptor: int) -> bool:
    poll = select.poll()  # select() takes no descriptor from 1,024 on
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
