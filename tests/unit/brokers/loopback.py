"""A broker's far end for tests: a socket that hears whole requests and answers each by a script."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Act = Callable[[socket.socket, "Heard"], bool | None]  # answers a request; True keeps the connection


@dataclass
class Heard:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Loopback:
    """Plays its acts, one per request, the last one for ever after."""

    acts: list[Act]
    heard: list[Heard] = field(default_factory=list)
    connections: int = 0
    ended: threading.Event = field(default_factory=threading.Event)  # set when a connection of ours was closed
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def next_act(self) -> Act:
        return self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]


@contextlib.contextmanager
def loopback(*acts: Act) -> Iterator[Loopback]:
    broker = Loopback(list(acts))
    listener = socket.create_server(("127.0.0.1", 0))
    broker.port = listener.getsockname()[1]
    live: list[socket.socket] = []
    threads = [threading.Thread(target=_accept, args=(listener, broker, live), daemon=True)]
    threads[0].start()
    try:
        yield broker
    finally:
        for sock in (listener, *live):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        threads[0].join(2)


def answer(status: int, body: str | bytes, **headers: str) -> Act:
    """A whole answer; the connection stays."""
    content = body.encode() if isinstance(body, str) else body

    def act(peer: socket.socket, heard: Heard) -> bool:
        lines = [f"HTTP/1.1 {status} X", "content-type: application/json", f"content-length: {len(content)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        peer.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
        return True

    return act


def raw(content: bytes) -> Act:
    """These bytes, and the end of the connection."""

    def act(peer: socket.socket, heard: Heard) -> None:
        peer.sendall(content)

    return act


def hang(peer: socket.socket, heard: Heard) -> None:
    """Takes the request and says nothing until the other side gives up."""
    peer.recv(1)


def hang_up(peer: socket.socket, heard: Heard) -> None:
    """Takes the request and closes."""


def reset(peer: socket.socket, heard: Heard) -> None:
    """Takes the request and resets the connection."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def drip(head: bytes, every_s: float) -> Act:
    """The head, then a byte at a time for as long as the other side listens."""

    def act(peer: socket.socket, heard: Heard) -> None:
        peer.sendall(head)
        waiting = threading.Event()
        with contextlib.suppress(OSError):
            while True:
                peer.sendall(b" ")
                waiting.wait(every_s)

    return act


def closes_after(act: Act) -> Act:
    """The answer, and the end of the connection right behind it."""

    def acts(peer: socket.socket, heard: Heard) -> None:
        act(peer, heard)

    return acts


def _accept(listener: socket.socket, broker: Loopback, live: list[socket.socket]) -> None:
    while True:
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        live.append(peer)
        broker.connections += 1
        threading.Thread(target=_serve, args=(peer, broker), daemon=True).start()


def _serve(peer: socket.socket, broker: Loopback) -> None:
    with peer, contextlib.suppress(OSError):
        while (heard := _hear(peer)) is not None:
            broker.heard.append(heard)
            if not broker.next_act()(peer, heard):
                break
    broker.ended.set()


def _hear(peer: socket.socket) -> Heard | None:
    received = b""
    while b"\r\n\r\n" not in received:
        piece = peer.recv(65_536)
        if not piece:
            return None
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    request, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = request.split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        body += peer.recv(65_536)
    return Heard(method, target, headers, body)
