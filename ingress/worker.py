"""Gunicorn's ASGI worker with an end that is quick and clean: nobody is cut off, nobody is waited for in vain."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

import orjson
from gunicorn.asgi.protocol import ASGIProtocol  # type: ignore[import-untyped]
from gunicorn.workers import gasgi  # type: ignore[import-untyped]

from ingress.problems import CODES, type_of

PATIENCE_S = 6.0  # for requests under way after SIGTERM; what takes longer is cut

_CODES = {400: "BAD_REQUEST", 414: "BAD_REQUEST", 431: "BAD_REQUEST", 501: "BAD_REQUEST"}


class Protocol(ASGIProtocol):  # type: ignore[misc]
    """One connection. Known to its worker, so that it can be closed between two requests."""

    def connection_made(self, transport: Any) -> None:
        self.worker.connections.add(self)
        super().connection_made(transport)

    def close_if_idle(self) -> None:
        if self._awaiting_request and self._request_ready is not None:
            self._keepalive_timeout()

    def _send_error_response(self, status: int, message: str, extra_headers: Any = ()) -> None:
        """What is no HTTP, told in the same form as every other refusal. `message` can quote the request: left out."""
        code = _CODES.get(status, "INTERNAL")
        document = {"type": type_of(code), "title": CODES[code][1], "status": status, "code": code, "detail": ""}
        super()._send_error_response(status, orjson.dumps(document).decode(), extra_headers)


class Worker(gasgi.ASGIWorker):  # type: ignore[misc]
    """Serves until SIGTERM; then answers what is under way, with waiting requests at once, and ends within seconds."""

    def init_process(self) -> None:
        self.connections: WeakSet[Protocol] = WeakSet()
        ASGIProtocol._check_h1c_protocol_available()  # it looks at the class itself for the answer, not at a subclass
        gasgi.ASGIProtocol = Protocol  # the name under which the worker makes its connections
        ASGIProtocol._check_h1c_protocol_available()  # finds the fast parser, for the class that it looks at
        super().init_process()

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
