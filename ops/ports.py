"""Free ports, chosen at start and remembered, so that a restarted stack is found where it was."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from ops.runfolder import RunFolder

LOWEST = 15_000
RECORD = "ports.json"


class Ports:
    """The ports of one run folder. Another copy of us leaves them alone until they are released, or this process ends."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._claims: list[socket.socket] = []

    def choose(self, wanted: Mapping[str, int | None]) -> dict[str, int]:
        """A free port for every name: that of the last time, else the number wanted, else any.

        Never one the system may give to an outgoing connection: a client that tries again and again to reach a stopped
        server on such a port ends up connected to itself, and the server can't have its port back.
        """
        before: dict[str, int] = self._folder.read_json(RECORD, {})
        chosen = {name: self._choose(before.get(name), number) for name, number in wanted.items()}
        self._folder.write_json(RECORD, before | chosen)
        return chosen

    def release(self) -> None:
        while self._claims:
            self._claims.pop().close()

    def _choose(self, *preferred: int | None) -> int:
        for port in candidates(preferred):
            claim = claim_port(port)
            if claim is not None:
                if is_free(port):
                    self._claims.append(claim)
                    return port
                claim.close()
        raise OSError("no free port found on 127.0.0.1")


def candidates(preferred: tuple[int | None, ...]) -> Iterator[int]:
    yield from (port for port in preferred if port is not None)
    yield from random.sample(range(LOWEST, first_outgoing()), 200)


def claim_port(port: int) -> socket.socket | None:
    """A name that one process at a time can have, as long as it lives; between copies of us it stands for the port.

    Without it two copies started together would both find port 8000 free, long before either of them uses it.
    """
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0order-coordinator-port-{port}")
    except OSError:
        claim.close()
        return None
    return claim


def is_free(port: int) -> bool:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
            trial.listen()
        except OSError:
            return False
    return True


def first_outgoing() -> int:
    try:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        lowest = 32_768
    return max(lowest, LOWEST + 1_000)
