"""The interface told to people and programs: /openapi.json and the page at /docs."""

from __future__ import annotations

from typing import Any

import falcon.asgi


class Document:
    """A file that never changes while the process runs."""

    def __init__(self, data: bytes, content_type: str) -> None:
        self._data, self._content_type = data, content_type

    async def on_get(self, request: Any, response: falcon.asgi.Response) -> None:
        response.data = self._data
        response.content_type = self._content_type


def add_to(app: falcon.asgi.App[Any, Any], openapi: bytes) -> None:
    app.add_route("/openapi.json", Document(openapi, "application/json"))
