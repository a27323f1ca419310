"""Whatever is sent, the door answers with a problem that names what to mend, stores nothing and repeats nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import Overloaded
from domain.ids import new_id
from domain.intents import Acceptance, AcceptedLine, Submission
from domain.settings import Settings
from ingress.app import App, create_app
from ingress.auth import Keys
from ingress.door import Door
from ingress.known_keys import KnownKeys, UserKey
from ingress.problems import CODES
from ingress.throttle import Throttle
from ingress.waiters import Waiters
from readmodel import queries
from readmodel.queries import Page
from store.users import ApiKey, Role

NOWHERE = "01a20497-b87a-7740-9342-3f6a21142d97"  # an id of nothing
PLACE = "/v2/orders/multi"
KEY = "oc_live_W4o3Cp6B_P6VY7IBVMrYNkQfWKXbdHaRwXRFEFL40kPjh"
AUDITORS_KEY = "oc_live_dQRP5hzg_6yexht46XZp73Vb6HcrVvedXwROeDI3gJdXJ"
KNOWN = "a-key-that-stands-for-an-intent"
T = TypeVar("T")


class Intake:
    """Takes every submission, and remembers it."""

    def __init__(self) -> None:
        self.submissions: list[Submission] = []
        self.refusal: Overloaded | None = None

    def refuse(self) -> Overloaded | None:
        return self.refusal

    def submit(self, submission: Submission) -> Future[Acceptance]:
        self.submissions.append(submission)
        lines = tuple(
            AcceptedLine(number, line.correlation_id, new_id()) for number, line in enumerate(submission.request.orders)
        )
        answer: Future[Acceptance] = Future()
        answer.set_result(Acceptance(new_id(), datetime.now(UTC), lines))
        return answer


class Reader:
    """A record that holds two keys and nothing else."""

    async def run(self, work: Callable[[], T]) -> T:
        return work()

    async def ask(self, question: Callable[..., Any], *_args: object, **_kwargs: object) -> Any:
        if question is queries.broker_views:
            return []
        return Page([], None) if question.__name__.endswith("_page") else None

    def close(self) -> None: ...


class Registry(Keys):
    def _find(self, presented: str) -> ApiKey | None:
        role = {KEY: Role.TRADER, AUDITORS_KEY: Role.AUDITOR}.get(presented)
        return ApiKey(f"key-{role}", "user", "name", role, 1_000_000) if role is not None else None


class OneKnownKey(KnownKeys):
    def _known(self, keys: Sequence[UserKey]) -> set[UserKey]:
        return {("user", KNOWN)} & set(keys)


class Redis:
    def register_script(self, _script: str) -> Callable[..., Awaitable[int]]:
        async def draw(keys: list[str], args: list[int]) -> int:
            return args[1]

        return draw


@dataclass
class Answered:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass
class House:
    """The whole application, and what reached the other side of it."""

    intake: Intake = field(default_factory=Intake)

    @cached_property
    def app(self) -> App:
        reader: Any = Reader()
        redis: Any = Redis()
        return create_app(
            Door(
                intake=self.intake,
                reader=reader,
                keys=Registry(reader, None, b"pepper"),  # type: ignore[arg-type]
                known_keys=OneKnownKey(reader, None),  # type: ignore[arg-type]
                throttle=Throttle(redis, processes=1),
                waiters=Waiters(reader, redis),
                read_settings=Settings,
            )
        )

    def ask(
        self, method: str, path: str, *, query: str = "", headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Answered:
        return asyncio.run(call(self.app, method, path, query, headers or {}, body))


async def call(app: App, method: str, path: str, query: str, headers: dict[str, str], body: bytes) -> Answered:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    head = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answered(sent[0]["status"], head, b"".join(message.get("body", b"") for message in sent[1:]))


def headers(**changes: str | None) -> dict[str, str]:
    known = {
        "Authorization": f"Bearer {KEY}",
        "Content-Type": "application/json",
        "Idempotency-Key": "a-key-of-sixteen-or-more",
    } | {name.replace("_", "-"): value for name, value in changes.items()}
    return {name: value for name, value in known.items() if value is not None}


def a_body(**fields: Any) -> bytes:
    line = {
        "correlationId": "leg-1",
        "instrument": "NSE:INFY",
        "side": "BUY",
        "quantity": 10,
        "product": "CNC",
        "orderType": "LIMIT",
        "price": "1512.50",
    }
    return json.dumps({"orders": [line | fields]}).encode()


def assert_refused(house: House, answer: Answered, status: int, code: str) -> None:
    assert (answer.status, answer.document["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.document["status"] == status == CODES[code][0]
    assert answer.document["type"] == "/problems/" + code.lower().replace("_", "-")
    assert answer.document["requestId"] == answer.headers["x-request-id"]
    assert answer.document["title"]
    assert answer.document["detail"]
    assert house.intake.submissions == []


def test_a_good_request_is_taken() -> None:
    house = House()
    assert house.ask("POST", PLACE, headers=headers(), body=a_body()).status == 202
    assert len(house.intake.submissions) == 1


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"Authorization": None}, 401, "NOT_AUTHENTICATED"),
        ({"Authorization": "Basic YTpi"}, 401, "NOT_AUTHENTICATED"),
        ({"Authorization": "Bearer nonsense"}, 401, "NOT_AUTHENTICATED"),
        ({"Authorization": f"Bearer {KEY[:-1]}X"}, 401, "NOT_AUTHENTICATED"),
        ({"Authorization": "Bearer oc_live_Kh8z81YA_hM3FQ9ZBYqnr9KPBiBDkp3zkgb5qZ21H5MNf"}, 401, "NOT_AUTHENTICATED"),
        ({"Authorization": f"Bearer {AUDITORS_KEY}"}, 403, "NOT_ALLOWED"),
        ({"Idempotency_Key": None}, 400, "IDEMPOTENCY_KEY_MISSING"),
        ({"Idempotency_Key": ""}, 400, "IDEMPOTENCY_KEY_INVALID"),
        ({"Idempotency_Key": "fifteen-letters"}, 400, "IDEMPOTENCY_KEY_INVALID"),
        ({"Idempotency_Key": "x" * 256}, 400, "IDEMPOTENCY_KEY_INVALID"),
        ({"Idempotency_Key": "a key with spaces in it"}, 400, "IDEMPOTENCY_KEY_INVALID"),
        ({"Idempotency_Key": "ein-schlüssel-für-alle"}, 400, "IDEMPOTENCY_KEY_INVALID"),
        ({"Content_Type": None}, 415, "NOT_JSON"),
        ({"Content_Type": "text/plain"}, 415, "NOT_JSON"),
        ({"Content_Type": "application/json; charset=latin-1"}, 415, "NOT_JSON"),
        ({"Prefer": "wait=soon"}, 400, "BAD_PARAMETER"),
        ({"Prefer": "wait=61"}, 400, "BAD_PARAMETER"),
        ({"Content_Length": "10485760"}, 413, "BODY_TOO_LARGE"),
        ({"Content_Length": "many"}, 400, "BAD_REQUEST"),
        ({"Content_Length": "-1"}, 400, "BAD_REQUEST"),
    ],
)
def test_headers_that_will_not_do(changes: dict[str, str | None], status: int, code: str) -> None:
    house = House()
    answer = house.ask("POST", PLACE, headers=headers(**changes), body=a_body())
    assert_refused(house, answer, status, code)
    if status == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer ")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "MALFORMED_JSON"),
        (b"{", 400, "MALFORMED_JSON"),
        (b"[" * 60_000, 400, "MALFORMED_JSON"),
        (b"\x00", 400, "MALFORMED_JSON"),
        (b"\xff\xfe{\x00", 400, "MALFORMED_JSON"),
        (b"null", 422, "MALFORMED"),
        (b'{"orders": []}', 422, "MALFORMED"),
        (b'{"orders": [], "orders": []}', 422, "MALFORMED"),
        (a_body()[:-1] + b', "maxUnsentSec": 1, "maxUnsentSec": 2}', 400, "DUPLICATE_FIELD"),
        (a_body()[:-1] + b', "maxUnsentSec": 0}', 422, "MALFORMED"),
        (a_body()[:-1] + b', "more": 0}', 422, "MALFORMED"),
        (a_body(quantity=-1), 422, "MALFORMED"),
        (a_body(price=float("nan")), 422, "MALFORMED"),
        (a_body(price=1e308), 422, "MALFORMED"),
        (a_body(tag="\U0001f4a3"), 422, "MALFORMED"),
        (a_body(after="leg-1"), 422, "MALFORMED"),
        (a_body(after="nobody"), 422, "MALFORMED"),
        (a_body(after=0), 422, "MALFORMED"),
        (a_body()[:-1] + b', "policy": "MOST"}', 422, "MALFORMED"),
        (a_body()[:-1] + b', "policy": ["FAIL_FAST"]}', 422, "MALFORMED"),
        (b" " * 65_537, 413, "BODY_TOO_LARGE"),
    ],
)
def test_bodies_that_will_not_do(body: bytes, status: int, code: str) -> None:
    house = House()
    assert_refused(house, house.ask("POST", PLACE, headers=headers(), body=body), status, code)


@pytest.mark.parametrize(
    ("changes", "body", "status", "code"),
    [
        ({}, a_body(), 503, "OVERLOADED"),
        ({}, b"{", 503, "OVERLOADED"),  # not looked into
        ({}, a_body(quantity=-1), 503, "OVERLOADED"),
        ({}, b" " * 65_537, 413, "BODY_TOO_LARGE"),
        ({"Authorization": None}, b"{", 401, "NOT_AUTHENTICATED"),
        ({"Idempotency_Key": None}, b"{", 400, "IDEMPOTENCY_KEY_MISSING"),
        ({"Prefer": "wait=soon"}, b"{", 400, "BAD_PARAMETER"),
        ({"Content_Type": "text/plain"}, b"{", 415, "NOT_JSON"),
        ({"Idempotency_Key": KNOWN}, b"{", 400, "MALFORMED_JSON"),
        ({"Idempotency_Key": KNOWN}, a_body(quantity=-1), 422, "MALFORMED"),
    ],
)
def test_while_nothing_new_is_let_in_only_a_known_keys_body_is_looked_into(
    changes: dict[str, str | None], body: bytes, status: int, code: str
) -> None:
    house = House()
    house.intake.refusal = Overloaded("too much waits", retry_after_s=2)
    answer = house.ask("POST", PLACE, headers=headers(**changes), body=body)
    assert_refused(house, answer, status, code)
    assert answer.headers.get("retry-after") == ("2" if status == 503 else None)


def test_while_nothing_new_is_let_in_a_known_key_is_handed_on() -> None:
    house = House()
    house.intake.refusal = Overloaded("too much waits")
    assert house.ask("POST", PLACE, headers=headers(Idempotency_Key=KNOWN), body=a_body()).status == 202
    assert len(house.intake.submissions) == 1


@pytest.mark.parametrize(
    ("path", "query", "parameter"),
    [
        ("/v2/orders", "limit=0", "limit"),
        ("/v2/orders", "limit=501", "limit"),
        ("/v2/orders", "limit=ten", "limit"),
        ("/v2/orders", "limit=", "limit"),
        ("/v2/orders", "limit=%C2%B2", "limit"),
        ("/v2/orders", "limit=1&limit=2", "limit"),
        ("/v2/orders", "state=open", "state"),
        ("/v2/orders", "state=OPEN,", "state"),
        ("/v2/orders", "after=xyz", "after"),
        ("/v2/orders", "intent=7", "intent"),
        ("/v2/orders", "parent=7", "parent"),
        ("/v2/orders", "instrument=INFY", "instrument"),
        ("/v2/orders", "account=%00", "account"),
        ("/v2/orders", "broker=a%20b", "broker"),
        ("/v2/orders", "stat=OPEN", "stat"),
        ("/v2/trades", "after=AAAA", "after"),
        ("/v2/trades", "limit=1e3", "limit"),
        ("/v2/intents", "limit=-1", "limit"),
        ("/v2/intents", "after=", "after"),
        (f"/v2/intents/{NOWHERE}", "wait=61", "wait"),
        (f"/v2/intents/{NOWHERE}", "wait=-1", "wait"),
        (f"/v2/intents/{NOWHERE}", "wait=0.5", "wait"),
        (f"/v2/orders/{NOWHERE}", "wait=1", "wait"),
        ("/v2/brokers", "x=1", "x"),
        ("/livez", "x=1", "x"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_named(path: str, query: str, parameter: str) -> None:
    house = House()
    answer = house.ask("GET", path, query=query, headers=headers())
    assert answer.status == 400
    assert answer.document["errors"][0]["parameter"] == parameter
    assert answer.document["code"] in ("BAD_PARAMETER", "UNKNOWN_PARAMETER")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v2",
        "/v2/orders/",
        "/v2/orders//history",
        f"/v2/orders/{NOWHERE}",
        f"/v2/orders/{NOWHERE}/history",
        f"/v2/orders/{NOWHERE}/trades",
        f"/v2/intents/{NOWHERE}",
        "/v2/orders/7",
        "/v2/orders/multi",  # read as an id
        "/v2/intents/%00",
        "/v2/intents/..%2f..%2fetc%2fpasswd",
        "/docs/assets/../app.py",
        "/docs/assets/%2e%2e/app.py",
        "/docs/assets/",
    ],
)
def test_what_is_not_there_is_not_found(path: str) -> None:
    house = House()
    answer = house.ask("GET", path, headers=headers())
    if path == PLACE:
        assert_refused(house, answer, 405, "METHOD_NOT_ALLOWED")
        assert answer.headers["allow"].startswith("POST")
    else:
        assert_refused(house, answer, 404, "NOT_FOUND")


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "HEAD"])
def test_another_method_is_told_which_there_are(method: str) -> None:
    answer = House().ask(method, PLACE, headers=headers())
    assert answer.status == 405
    assert "POST" in answer.headers["allow"]


@cache
def a_house() -> House:
    """One for many examples."""
    return House()


@settings(max_examples=200, deadline=None)
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    path=st.sampled_from([PLACE, "/v2/orders", "/v2/trades", "/v2/intents", f"/v2/orders/{NOWHERE}"])
    | st.text(st.characters(min_codepoint=32, max_codepoint=1000), max_size=30).map(lambda text: "/" + text),
    query=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40),
    changes=st.dictionaries(
        st.sampled_from(["Authorization", "Idempotency_Key", "Content_Type", "Prefer", "X_Request_Id"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=60),
    ),
    body=st.binary(max_size=300) | st.text(max_size=100).map(lambda text: a_body(correlationId=text)),
)
def test_nothing_that_is_sent_is_a_defect_of_ours(method, path, query, changes, body) -> None:
    answer = a_house().ask(method, path, query=query, headers=headers(**changes), body=body)
    assert answer.status < 500
    if answer.status >= 400 and method != "HEAD":
        assert answer.document["code"] in CODES


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=24, max_size=24))
def test_no_refusal_repeats_what_was_sent(secret) -> None:
    attempts = [
        headers(Authorization=f"Bearer {secret}"),
        headers(Idempotency_Key=secret[:10]),
        headers(Content_Type=secret),
        headers(Prefer=f"wait={secret}"),
    ]
    for given_headers in attempts:
        answer = a_house().ask("POST", PLACE, headers=given_headers, body=a_body())
        assert answer.status >= 400
        assert secret not in answer.body.decode()
    for fields in ({"price": secret}, {"side": secret}, {"quantity": secret}, {"instrument": secret}):
        assert secret not in a_house().ask("POST", PLACE, headers=headers(), body=a_body(**fields)).body.decode()
    assert secret not in a_house().ask("GET", f"/v2/orders/{secret}", headers=headers()).body.decode()
    assert secret not in a_house().ask("GET", "/v2/orders", query=f"limit={secret}", headers=headers()).body.decode()
