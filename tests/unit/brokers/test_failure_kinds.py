"""The failure kinds that every broker must survive, and what each proves of the order: one table for all adapters."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import loopback as far
import pytest
from given import SESSION, some_lines
from loopback import loopback

from brokers.base import Adapter
from brokers.registry import BROKERS
from brokers.transport import boot_clock
from domain.outcomes import Accepted, NotSent, Outcome, Refused, Unknown

DOUBT = "Order request timed out. Please check the order book and confirm before placing again."


def upstox_error(code: str, message: str = "no") -> str:
    return json.dumps({"status": "error", "errors": [{"error_code": code, "message": message}]})


def zerodha_error(kind: str, message: str = "no") -> str:
    return json.dumps({"status": "error", "error_type": kind, "message": message, "data": None})


RECEIPTS = {
    "upstox": '{"status":"success","data":{"order_ids":["1"]}}',
    "zerodha": '{"status":"success","data":{"order_id":"1"}}',
}
WORDS = {
    "upstox": {
        "validation": (400, upstox_error("UDAPI1052")),
        "doubtful no": (400, upstox_error("UDAPI1052", DOUBT)),
        "undocumented no": (400, upstox_error("UDAPI424242")),
        "dead session": (401, upstox_error("UDAPI100050")),
        "address": (403, upstox_error("UDAPI1154")),
        "rate limit": (429, upstox_error("UDAPI10005")),
        "server error": (500, upstox_error("UDAPI100500")),
    },
    "zerodha": {
        "validation": (400, zerodha_error("InputException")),
        "doubtful no": (400, zerodha_error("OrderException", DOUBT)),
        "undocumented no": (400, zerodha_error("GeneralException")),
        "dead session": (403, zerodha_error("TokenException")),
        "address": (403, zerodha_error("PermissionException", "IP (1.2.3.4) is not allowed to place orders")),
        "rate limit": (429, zerodha_error("NetworkException", "Too many requests")),
        "server error": (503, zerodha_error("NetworkException", "Request failed (kitetrade-oms)")),
    },
}
BOTH = {
    "upstox": json.dumps({**json.loads(upstox_error("UDAPI1052")), "data": {"order_ids": ["1"]}}),
    "zerodha": json.dumps({**json.loads(zerodha_error("InputException")), "data": {"order_id": "1"}}),
}
HTML = "<html><body>Bad Gateway</body></html>"

# kind: (what the far end does, the class of the outcome)
ON_THE_WIRE: dict[str, tuple[Callable[[str], far.Act], type[Outcome]]] = {
    "receipt": (lambda broker: far.answer(200, RECEIPTS[broker]), Accepted),
    "validation": (lambda broker: far.answer(*WORDS[broker]["validation"]), Refused),
    "address": (lambda broker: far.answer(*WORDS[broker]["address"]), Refused),
    "dead session": (lambda broker: far.answer(*WORDS[broker]["dead session"]), NotSent),
    "rate limit": (lambda broker: far.answer(*WORDS[broker]["rate limit"]), NotSent),
    "doubtful no": (lambda broker: far.answer(*WORDS[broker]["doubtful no"]), Unknown),
    "undocumented no": (lambda broker: far.answer(*WORDS[broker]["undocumented no"]), Unknown),
    "server error": (lambda broker: far.answer(*WORDS[broker]["server error"]), Unknown),
    "html 502": (lambda broker: far.answer(502, HTML, content_type="text/html"), Unknown),
    "html 200": (lambda broker: far.answer(200, HTML), Unknown),
    "html 429": (lambda broker: far.answer(429, HTML), Unknown),
    "redirect": (lambda broker: far.answer(307, "{}", Location="/again"), Unknown),
    "empty 200": (lambda broker: far.answer(200, ""), Unknown),
    "no id": (lambda broker: far.answer(200, '{"status":"success","data":{}}'), Unknown),
    "wrong types": (lambda broker: far.answer(200, '{"status":"success","data":[[1]]}'), Unknown),
    "cut json": (lambda broker: far.answer(200, RECEIPTS[broker][:-4]), Unknown),
    "cut body": (lambda broker: far.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"), Unknown),
    "no http": (lambda broker: far.raw(b"hello\r\n\r\n"), Unknown),
    "closed": (lambda broker: far.hang_up, Unknown),
    "reset": (lambda broker: far.reset, Unknown),
    "hang": (lambda broker: far.hang, Unknown),
    "slow drip": (lambda broker: far.drip(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n", 0.05), Unknown),
    "10 MB": (lambda broker: far.answer(200, b" " * 10_000_000), Unknown),
    "no and yes": (lambda broker: far.answer(400, BOTH[broker]), Unknown),
    "validation 409": (lambda broker: far.answer(409, WORDS[broker]["validation"][1]), Unknown),
    "rate limit 400": (lambda broker: far.answer(400, WORDS[broker]["rate limit"][1]), Unknown),
    "dead session 400": (lambda broker: far.answer(400, WORDS[broker]["dead session"][1]), Unknown),
}


def made(broker: str, url: str) -> Adapter:
    adapter = BROKERS[broker]({f"{broker.upper()}_BASE_URL": url})
    assert adapter is not None
    return adapter


@pytest.mark.parametrize("kind", ON_THE_WIRE)
@pytest.mark.parametrize("broker", WORDS)
def test_what_each_answer_proves(broker: str, kind: str):
    act, proves = ON_THE_WIRE[kind]
    with loopback(act(broker)) as peer:
        (outcome,) = made(broker, peer.url).place(SESSION, some_lines(1), timeout_s=0.3)

    assert isinstance(outcome, proves), outcome
    assert len(peer.heard) == 1  # nothing is ever sent twice by itself


def test_of_several_errors_one_that_proves_nothing_is_enough():
    """Whichever comes first: a refusal beside a failure of the server, a row that is no error."""
    refused, failed = ({"error_code": code, "message": "no"} for code in ("UDAPI1052", "UDAPI100500"))
    for rows in ([refused, failed], [failed, refused], [refused, "text"], [refused, {}]):
        with loopback(far.answer(400, json.dumps({"status": "error", "errors": rows}))) as peer:
            (outcome,) = made("upstox", peer.url).place(SESSION, some_lines(1), timeout_s=0.3)

        assert isinstance(outcome, Unknown), (rows, outcome)


@pytest.mark.parametrize("spoilt", [{"message": DOUBT}, {"error": 1}, {"data": [{"order_id": "1"}]}])
def test_a_batch_is_not_taken_for_stopped_while_its_answer_leaves_a_doubt(spoilt: dict[str, Any]):
    lines = some_lines(2)
    row = {
        "error_code": "UDAPI1052",
        "message": spoilt.get("message", "no"),
        "correlation_id": lines[0].order.broker_tag,
    }
    summary = {"total": 2, "payload_error": 1, "success": 0, "error": spoilt.get("error", 0)}
    body = {"status": "error", "errors": [row], "data": spoilt.get("data"), "summary": summary}
    with loopback(far.answer(400, json.dumps(body))) as peer:
        outcomes = made("upstox", peer.url).place(SESSION, lines, timeout_s=0.3)

    assert isinstance(outcomes[1], Unknown)
    assert len(peer.heard) == 1


@pytest.mark.parametrize("broker", WORDS)
@pytest.mark.parametrize("kind", ["refused", "unknown host", "no tls", "lease over", "no time left"])
def test_what_was_provably_not_sent(broker: str, kind: str, monkeypatch: pytest.MonkeyPatch):
    given: dict[str, Any] = {"timeout_s": 0.3}
    with contextlib.ExitStack() as stack:
        match kind:
            case "refused":
                url = stack.enter_context(_nobody())
            case "no tls":
                url = stack.enter_context(_no_tls())
            case "unknown host":
                url = "http://broker.invalid"
                monkeypatch.setattr(socket, "getaddrinfo", _unknown_host)
            case _:
                url = stack.enter_context(loopback(far.answer(200, RECEIPTS[broker]))).url
                given = {"timeout_s": 0.3, "send_by": boot_clock()} if kind == "lease over" else {"timeout_s": 0.0}
        (outcome,) = made(broker, url).place(SESSION, some_lines(1), **given)

    assert isinstance(outcome, NotSent), outcome
    assert not outcome.session_dead


@contextlib.contextmanager
def _nobody() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def _no_tls() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=greet, daemon=True).start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"


def _unknown_host(*args: object, **kwargs: object) -> None:
    raise socket.gaierror(-2, "Name or service not known")
