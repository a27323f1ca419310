"""A wire that can be cut: a TCP proxy in front of a server, so that "away" needs no server to be stopped."""

from __future__ import annotations

import contextlib
import socket
import threading
from urllib.parse import urlsplit


class Proxy:
    """Passes bytes between its port and a server's. `cut` resets every connection and takes no new ones; `freeze`
    keeps all connections and passes nothing; `mend` ends both."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._server = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = url.replace(f"{parts.hostname}:{parts.port}", f"127.0.0.1:{self.port}")
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()
        self._is_cut = self._is_closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        with self._lock:
            self._is_cut = True
            pairs = list(self._pairs)
        for pair in pairs:
            self._end(pair)

    def freeze(self) -> None:
        self._flowing.clear()

    def mend(self) -> None:
        self._is_cut = False
        self._flowing.set()

    def close(self) -> None:
        self._is_closed = True
        self.cut()
        self._flowing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._server)
            except OSError:
                client.close()
                continue
            pair = (client, server)
            with self._lock:
                self._pairs.add(pair)
            if self._is_cut:
                self._end(pair)
                continue
            for here, there in (pair, pair[::-1]):
                threading.Thread(target=self._pass, args=(pair, here, there), daemon=True).start()

    def _pass(self, pair: tuple[socket.socket, socket.socket], here: socket.socket, there: socket.socket) -> None:
        try:
            while data := here.recv(65536):
                self._flowing.wait()
                there.sendall(data)
        except OSError:
            return
        finally:
            self._end(pair)

    def _end(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._lock:
            self._pairs.discard(pair)
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
