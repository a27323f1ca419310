"""The coordinator's REST interface as functions: JSON documents in and out, failures by what they prove."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2

from ops.answers import Json, Lost, NotReached, Placed, Problem

TIMEOUT = httpx2.Timeout(connect=5.0, write=10.0, read=20.0, pool=5.0)
PAGE_MAX = 200
WAIT_MAX_S = 60
LOOPBACK = ("localhost", "127.0.0.1", "::1")
NEVER_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.UnsupportedProtocol,
    httpx2.ProxyError,
)


class Client:
    """One connection to one coordinator with one key."""

    def __init__(self, base_url: str, key: str, *, transport: httpx2.BaseTransport | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        address = urlsplit(self.base_url)
        self._http = httpx2.Client(
            base_url=self.base_url,
            headers={"Authorization": f"Bearer {key}", "Accept": "application/json"},
            timeout=TIMEOUT,
            transport=transport,
            trust_env=address.hostname not in LOOPBACK,  # a proxy for the web has no business with 127.0.0.1
            verify=address.scheme != "http",  # reading the certificates takes 50 ms, and plain HTTP has none
        )

    def place(self, request: Json, idempotency_key: str) -> Placed:
        return self._write("POST", "/v2/orders/multi", request, idempotency_key)

    def preview(self, request: Json) -> Json:
        """What would become of a place request now; nothing is stored."""
        return _document(self._send("POST", "/v2/orders/preview", json=request))

    def signals(self) -> Json:
        return self._get("/v2/signals")

    def signal(self, name: str) -> Json:
        return self._get(_signal_path(name))

    def received(self, name: str, *, limit: int, after: str | None = None) -> Json:
        return self._get(f"{_signal_path(name)}/received", {"limit": limit, "after": after})

    def set_signal(self, name: str, form: Json, idempotency_key: str) -> Placed:
        return self._write("PUT", _signal_path(name), form, idempotency_key)

    def rotate_signal(self, name: str, idempotency_key: str) -> Placed:
        return self._write("POST", f"{_signal_path(name)}/rotate", None, idempotency_key)

    def remove_signal(self, name: str, idempotency_key: str) -> Placed:
        return self._write("DELETE", _signal_path(name), None, idempotency_key)

    def modify(self, order_id: str, version: int, terms: Json, idempotency_key: str) -> Placed:
        path = f"/v3/orders/{quote(order_id, safe='')}"
        return self._write("PUT", path, terms, idempotency_key, {"If-Match": f'"{version}"'})

    def cancel(self, request: Json, idempotency_key: str) -> Placed:
        return self._write("POST", "/v2/orders/multi/cancel", request, idempotency_key)

    def cancellable(self, request: Json, *, limit: int, after: str | None = None) -> Json:
        """What a cancel would reach now: `matched`, and a page of its orders. Nothing is stored."""
        query = _told({"limit": limit, "after": after})
        return _document(self._send("POST", "/v2/orders/multi/cancel/preview", json=request, params=query))

    def square_off(self, request: Json, idempotency_key: str) -> Placed:
        return self._write("POST", "/v2/positions/square-off", request, idempotency_key)

    def schedule(self, schedule_id: str) -> Json:
        return self._get(f"/v2/schedules/{quote(schedule_id, safe='')}")

    def remove_schedule(self, schedule_id: str, idempotency_key: str) -> Placed:
        return self._write("DELETE", f"/v2/schedules/{quote(schedule_id, safe='')}", None, idempotency_key)

    def intent(self, intent_id: str, *, wait_s: int = 0, limit: int | None = None, after: str | None = None) -> Json:
        """The intent with its lines; with `wait_s`, as soon as all are settled or that time is over.

        Of one that modifies or cancels: a page of at most `limit` lines, from after that cursor on.
        """
        query = {"wait": wait_s or None, "limit": limit, "after": after}
        return self._get(f"/v2/intents/{quote(intent_id, safe='')}", query, patience_s=wait_s)

    def order(self, order_id: str) -> Json:
        return self._get(f"/v2/orders/{quote(order_id, safe='')}")

    def history(self, order_id: str) -> Json:
        return self._get(f"/v2/orders/{quote(order_id, safe='')}/history")

    def trades_of(self, order_id: str) -> Json:
        return self._get(f"/v2/orders/{quote(order_id, safe='')}/trades")

    def switches(self) -> Json:
        return self._get("/v2/switches")

    def turn_switch(self, scope: str, subject: str, request: Json, idempotency_key: str) -> Json:
        path = f"/v2/switches/{quote(scope, safe='')}/{quote(subject, safe='')}"
        return self._write("PUT", path, request, idempotency_key).document

    def settings(self) -> Json:
        return self._get("/v2/settings")

    def change_settings(self, changes: Json, idempotency_key: str) -> Json:
        return self._write("PATCH", "/v2/settings", changes, idempotency_key).document

    def brokers(self) -> Json:
        return self._get("/v2/brokers")

    def version(self) -> Json:
        return self._get("/version")

    def pages(self, noun: str, *, limit: int, after: str | None = None, **filters: object) -> Json:
        """Up to `limit` of "orders", "trades", "intents" or "schedules", over as many pages as it takes, with the next cursor."""
        found: list[Json] = []
        while True:
            size = min(limit - len(found), PAGE_MAX)
            page = self._get(f"/v2/{noun}", {**filters, "limit": size, "after": after})
            rows = page.get(noun, [])
            found += rows
            after = page.get("next")
            if after is None or not rows or len(found) >= limit:
                return {noun: found, "next": after}

    def close(self) -> None:
        self._http.close()

    def _write(
        self, method: str, path: str, document: Json | None, idempotency_key: str, headers: Mapping[str, str] | None = None
    ) -> Placed:
        own = {"Idempotency-Key": idempotency_key, **(headers or {})}
        answer = self._send(method, path, json=document, headers=own)  # None: without a body
        replayed = answer.headers.get("Idempotency-Replayed", "").lower() == "true"
        return Placed(_document(answer), replayed)

    def _get(self, path: str, query: Mapping[str, object] | None = None, *, patience_s: int = 0) -> Json:
        return _document(self._send("GET", path, params=_told(query), patience_s=patience_s))

    def _send(self, method: str, path: str, *, patience_s: int = 0, **request: Any) -> httpx2.Response:
        timeout = httpx2.Timeout(connect=5.0, write=10.0, read=20.0 + patience_s, pool=5.0)
        try:
            answer = self._http.request(method, path, timeout=timeout, **request)
        except NEVER_SENT as error:
            raise NotReached(f"{self.base_url} can't be reached ({_words(error)})") from error
        except httpx2.InvalidURL as error:
            raise NotReached(f"{self.base_url} is no address ({_words(error)})") from error
        except httpx2.RequestError as error:
            raise Lost(f"the connection to {self.base_url} was lost ({_words(error)})") from error
        if answer.is_success:
            return answer
        problem = _problem(answer)
        if problem is not None:
            raise problem
        raise Lost(f"{self.base_url} answered {answer.status_code} without saying why")


def _signal_path(name: str) -> str:
    return f"/v2/signals/{quote(name, safe='')}"


def _told(query: Mapping[str, object] | None) -> dict[str, str]:
    return {name: str(value) for name, value in (query or {}).items() if value is not None}


def _document(answer: httpx2.Response) -> Json:
    try:
        document = answer.json()
    except ValueError as error:
        raise Lost(f"the answer to {answer.request.method} {answer.request.url.path} isn't JSON") from error
    if not isinstance(document, dict):
        raise Lost(f"the answer to {answer.request.method} {answer.request.url.path} isn't a JSON object")
    return document


def _problem(answer: httpx2.Response) -> Problem | None:
    """The refusal an answer carries; None for a server error that says nothing of itself."""
    try:
        document = answer.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        if answer.status_code >= 500:
            return None
        document = {"detail": f"{answer.request.url.path} answered {answer.status_code} {answer.reason_phrase}"}
    after = answer.headers.get("Retry-After", "")
    return Problem(answer.status_code, document, retry_after_s=float(after) if after.isdigit() else None)


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
