"""The interface told to programs and people: /openapi.json, and a page at /docs that needs no internet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import falcon.asgi

STATIC = Path(__file__).parent / "static"

# The page may load what we serve and nothing else, whatever the code in it would like.
_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' data:; font-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class Document:
    """A text that never changes while the process runs."""

    def __init__(self, data: bytes, content_type: str, headers: dict[str, str]) -> None:
        self._data, self._content_type, self._headers = data, content_type, headers

    async def on_get(self, request: Any, response: falcon.asgi.Response) -> None:
        response.data = self._data
        response.content_type = self._content_type
        response.set_headers(self._headers)


def add_to(app: falcon.asgi.App[Any, Any], openapi: bytes) -> None:
    app.add_route("/openapi.json", Document(openapi, "application/json", {}))
    page = (STATIC / "docs.html").read_bytes()
    app.add_route("/docs", Document(page, "text/html; charset=utf-8", _HEADERS))
    app.add_static_route("/docs/assets", STATIC)
