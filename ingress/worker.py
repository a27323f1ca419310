"""Gunicorn's ASGI worker with an end that is quick and clean: nobody is cut off, nobody is waited for in vain."""

from __future__ import annotations

import signal
from functools import partial
from http import HTTPStatus
from typing import Any
from weakref import WeakSet

import orjson
from gunicorn.asgi import protocol  # type: ignore[import-untyped]
from gunicorn.asgi.protocol import ASGIProtocol  # type: ignore[import-untyped]
from gunicorn.workers import gasgi  # type: ignore[import-untyped]

from domain.ids import new_id
from ingress.problems import CODES, CONTENT_TYPE, type_of

PATIENCE_S = 6.0  # for requests under way after SIGTERM; what takes longer is cut
SILENCE_S = 30.0  # for the first request of a connection


class Protocol(ASGIProtocol):  # type: ignore[misc]
    """One connection. Known to its worker, so that it can be closed between two requests."""

    def connection_made(self, transport: Any) -> None:
        self.worker.connections.add(self)
        super().connection_made(transport)
        self.worker.loop.call_later(SILENCE_S, self.close_if_silent)

    def close_if_idle(self) -> None:
        if self._awaiting_request and self._request_ready is not None:
            self._keepalive_timeout()

    def close_if_silent(self) -> None:
        """A connection that never sends a request holds its place for nothing."""
        if self.req_count <= 1:
            self.close_if_idle()

    async def _serve_http_request(self, request: Any, sockname: Any, peername: Any) -> Any:
        """Without a task of its own for each request: nothing of ours runs on after its answer."""
        return await self._handle_http_request(request, sockname, peername)

    def _send_error_response(self, status: int, message: str, extra_headers: Any = ()) -> None:
        """What is no HTTP, told in the same form as every other refusal. `message` can quote the request: left out."""
        reason = HTTPStatus(status).phrase
        code = "BAD_REQUEST" if status < 500 or status == HTTPStatus.NOT_IMPLEMENTED else "INTERNAL"
        document = {
            "type": type_of(code),
            "title": CODES[code][1],
            "status": status,
            "code": code,
            "detail": reason,
            "requestId": new_id(),
        }
        body = orjson.dumps(document)
        head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in extra_headers)
        self._safe_write(f"{head}Connection: close\r\n\r\n".encode("latin-1") + body)


class Worker(gasgi.ASGIWorker):  # type: ignore[misc]
    """Serves until SIGTERM; then answers what is under way, with waiting requests at once, and ends within seconds."""

    def init_process(self) -> None:
        self.connections: WeakSet[Protocol] = WeakSet()
        ASGIProtocol._check_h1c_protocol_available()  # it looks at the class itself for the answer, not at a subclass
        for status in HTTPStatus:  # some that we answer with, 428 for one, are "Unknown" to it
            protocol._REASON_PHRASES.setdefault(status.value, status.phrase)
        gasgi.ASGIProtocol = Protocol  # the name under which the worker makes its connections
        super().init_process()

    def _setup_event_loop(self) -> None:
        super()._setup_event_loop()
        # The loop listens anew on the socket, by itself for 100 connections: of a crowd many would wait for seconds.
        self.loop.create_server = partial(self.loop.create_server, backlog=self.cfg.backlog)

    def init_signals(self) -> None:
        """Until it serves, SIGTERM ends it at once. The loop doesn't run yet: its handlers would keep the signal for later."""
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGUSR1, signal.SIGWINCH):  # ends nobody: no log to open again yet, and nothing at all
            signal.signal(number, signal.SIG_IGN)

    async def _serve(self) -> None:
        super().init_signals()
        await super()._serve()

    def handle_exit_signal(self) -> None:
        super().handle_exit_signal()
        drain = getattr(self.asgi, "drain", None)
        if drain is not None:
            drain()
        self.loop.call_later(PATIENCE_S, self.handle_quit_signal)

    async def _shutdown(self) -> None:
        for connection in list(self.connections):
            connection.close_if_idle()
        await super()._shutdown()
