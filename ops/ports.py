"""Free ports, chosen at start and remembered, so that a restarted stack is found where it was."""

from __future__ import annotations

import random
import socket
from collections.abc import Mapping
from pathlib import Path

LOWEST = 15_000


def choose_ports(preferred: Mapping[str, int | None]) -> dict[str, int]:
    """A free port for every name: the preferred one when it is free, else any.

    Never one the system may give to an outgoing connection: a client that tries again and again to reach a stopped
    server on such a port ends up connected to itself, and the server can't have its port back.
    """
    held: dict[str, socket.socket] = {}
    try:
        for name, port in preferred.items():
            held[name] = hold(port)
        return {name: holder.getsockname()[1] for name, holder in held.items()}
    finally:
        for holder in held.values():
            holder.close()


def hold(preferred: int | None) -> socket.socket:
    candidates = [] if preferred is None else [preferred]
    candidates += random.sample(range(LOWEST, first_outgoing()), 200)
    for port in candidates:
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind(("127.0.0.1", port))
            holder.listen()
        except OSError:
            holder.close()
        else:
            return holder
    raise OSError("no free port found on 127.0.0.1")


def first_outgoing() -> int:
    try:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        lowest = 32_768
    return max(lowest, LOWEST + 1_000)
