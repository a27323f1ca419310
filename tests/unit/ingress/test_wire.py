"""Bodies within their limits, whole or refused; request ids; what Prefer asks for."""

from __future__ import annotations

import asyncio

import pytest

from domain.errors import Overloaded
from ingress import wire
from ingress.problems import Problem, problem_of
from ingress.wire import (
    BODY_MAX,
    JOB_MAX,
    Request,
    is_json,
    problem_reply,
    refused_for_now,
    version_matched,
    wait_preference,
)


def a_request(*chunks: bytes, cut: bool = False, headers: dict[str, str] | None = None) -> tuple[Request, list]:
    """A request whose body arrives in these pieces; `cut`: the connection ends before the body does."""
    events = [
        {"type": "http.request", "body": chunk, "more_body": cut or number < len(chunks) - 1}
        for number, chunk in enumerate(chunks or (b"",))
    ]
    left = events[1:] + ([{"type": "http.disconnect"}] if cut else [])

    async def receive():
        return left.pop(0)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/v2/orders/multi",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()],
    }
    return Request(scope, receive, first_event=events[0]), left


def body_of(*chunks: bytes, **how) -> bytes:
    return asyncio.run(a_request(*chunks, **how)[0].body())


def test_a_body_in_one_piece_and_in_many():
    assert body_of(b"{}") == b"{}"
    assert body_of(b"{", b"", b"}") == b"{}"
    assert body_of() == b""


def test_a_body_may_be_as_large_as_the_limit():
    assert len(body_of(b"x" * BODY_MAX)) == BODY_MAX
    assert len(body_of(b"x" * (BODY_MAX - 1), b"x")) == BODY_MAX


def test_what_may_name_ten_thousand_orders_may_be_larger():
    assert len(asyncio.run(a_request(b"x" * BODY_MAX, b"x")[0].body(JOB_MAX))) == BODY_MAX + 1
    with pytest.raises(Problem) as refused:
        asyncio.run(a_request(b"x" * JOB_MAX, b"x")[0].body(JOB_MAX))
    assert (refused.value.code, str(JOB_MAX) in refused.value.detail) == ("BODY_TOO_LARGE", True)


@pytest.mark.parametrize("given", ['"3"', "3", ' "3" '])
def test_a_version_is_matched_as_an_etag_has_it_or_plain(given):
    assert version_matched(a_request(headers={"If-Match": given})[0]) == 3


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (None, "PRECONDITION_REQUIRED"),
        (" ", "PRECONDITION_REQUIRED"),
        ("*", "BAD_PARAMETER"),
        ('W/"3"', "BAD_PARAMETER"),
        ('"3", "4"', "BAD_PARAMETER"),
        ("\u0663", "BAD_PARAMETER"),
        ("9" * 20, "BAD_PARAMETER"),
    ],
)
def test_any_other_if_match_is_refused(given, code):
    headers = {} if given is None else {"If-Match": given}
    request, _ = a_request()
    request.get_header = lambda name, *_: headers.get("If-Match")
    with pytest.raises(Problem) as refused:
        version_matched(request)
    assert refused.value.code == code


@pytest.mark.parametrize("chunks", [(b"x" * (BODY_MAX + 1),), (b"x" * BODY_MAX, b"x"), (b"x" * 40_000,) * 260])
def test_one_byte_more_is_refused_and_what_is_under_way_is_read_and_dropped(chunks):
    request, left = a_request(*chunks)

    with pytest.raises(Problem) as refused:
        asyncio.run(request.body())

    assert refused.value.code == "BODY_TOO_LARGE"
    assert left == []


def test_a_length_over_the_limit_is_refused_by_its_announcement():
    request, _ = a_request(b"{}", headers={"Content-Length": str(BODY_MAX + 1)})

    with pytest.raises(Problem) as refused:
        asyncio.run(request.body())

    assert refused.value.code == "BODY_TOO_LARGE"


def test_a_body_that_was_cut_off_is_never_taken_for_a_shorter_one():
    with pytest.raises(Problem) as refused:
        body_of(b'{"orders": []}', cut=True)

    assert refused.value.code == "BAD_REQUEST"


def test_a_body_that_drips_is_given_up(monkeypatch):
    monkeypatch.setattr(wire, "BODY_S", 0.02)
    request, _ = a_request(b"{", b"}")

    async def never():
        await asyncio.sleep(60)

    request._receive = never
    with pytest.raises(Problem) as refused:
        asyncio.run(request.body())

    assert refused.value.code == "BAD_REQUEST"


@pytest.mark.parametrize("given", ["abc-123", "x" * 128])
def test_a_sensible_request_id_is_kept(given):
    assert a_request(headers={"X-Request-Id": given})[0].request_id == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "ä", "a\tb"])
def test_any_other_is_replaced_by_ours(given):
    request = a_request(headers={"X-Request-Id": given})[0]

    assert request.request_id != given
    assert request.request_id == request.request_id


@pytest.mark.parametrize(
    ("given", "fits"),
    [
        ("application/json", True),
        ("application/json; charset=utf-8", True),
        ('Application/JSON;charset="UTF-8"', True),
        ("application/json; charset=utf-16", False),
        ("text/json", False),
        ("application/jsonp", False),
        ("", False),
        (None, False),
    ],
)
def test_only_json_in_utf_8_is_taken(given, fits):
    assert is_json(given) is fits


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(None, 0), ("wait=10", 10), ("respond-async, wait=60", 60), ('Wait="5"; x=1', 5), ("return=minimal", 0), ("", 0)],
)
def test_prefer_wait(given, seconds):
    assert wait_preference(given, longest_s=60) == seconds


@pytest.mark.parametrize("given", ["wait", "wait=", "wait=61", "wait=-1", "wait=1.5", "wait=99999", "wait=²"])
def test_a_wait_that_makes_no_sense_is_refused_by_name(given):
    with pytest.raises(Problem) as refused:
        wait_preference(given, longest_s=60)

    assert refused.value.errors[0]["parameter"] == "Prefer"


@pytest.mark.parametrize("request_id", ["mine-1", 'with"quotes"and\\', None])
def test_a_prepared_refusal_is_the_one_that_would_be_made(request_id):
    request, _ = a_request(headers={"X-Request-Id": request_id} if request_id else {})
    error = Overloaded('the detail says "requestId":"" to mislead', retry_after_s=3)

    assert refused_for_now(request, error) == problem_reply(request, problem_of(error))
