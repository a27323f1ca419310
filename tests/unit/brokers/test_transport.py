"""How a broker call can end, over real sockets; the line between NeverSent and Lost is whether a byte left."""

from __future__ import annotations

import gzip
import os
import socket
import ssl
import threading
import time
from decimal import Decimal

import httpcore2
import loopback as far
import pytest
from loopback import loopback

from brokers import sockets, transport
from brokers.transport import Answered, Call, Deadline, Lost, NeverSent, Wire, boot_clock

SECRET = "s3cr3t-token"


def post(url: str, *, timeout_s: float = 2.0, send_by: float | None = None, token: str = SECRET, **limits: int):
    wire = Wire("test", url)
    try:
        return post_on(wire, timeout_s=timeout_s, send_by=send_by, token=token, **limits)
    finally:
        wire.close()


def post_on(wire: Wire, *, timeout_s: float = 2.0, send_by: float | None = None, token: str = SECRET, **limits: int):
    return wire.call(
        "place",
        "POST",
        "/orders?x=1",
        headers={"Authorization": token},
        content=b'{"a":1}',
        deadline=Deadline.within(timeout_s, send_by=send_by),
        **limits,
    )


def test_an_answer_comes_back_whole_with_exact_prices():
    with loopback(far.answer(207, '{"price": 1500.10}', X_Thing="y")) as broker:
        answer = post(broker.url + "/base")

    assert isinstance(answer, Answered)
    assert (answer.status, answer.body, answer.headers["x-thing"]) == (207, {"price": Decimal("1500.10")}, "y")
    assert answer.latency_s > 0
    (heard,) = broker.heard
    assert (heard.method, heard.target, heard.body) == ("POST", "/base/orders?x=1", b'{"a":1}')
    assert heard.headers == {
        "host": f"127.0.0.1:{broker.port}",
        "accept-encoding": "identity",
        "content-length": "7",
        "authorization": SECRET,
    }


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"", b'{"a":', b"NaN", b'{"a": Infinity}', b"\xff\xfe", b"[" * 100_000, b"9" * 5_000],
    ids=["html", "empty", "cut", "nan", "infinity", "not utf-8", "deep", "long number"],
)
def test_a_body_that_is_no_json_is_an_answer_without_one(body: bytes):
    with loopback(far.answer(200, body)) as broker:
        answer = post(broker.url)

    assert isinstance(answer, Answered)
    assert answer.body is None


def test_a_redirect_is_not_followed():
    with loopback(far.answer(307, "{}", Location="/elsewhere")) as broker:
        answer = post(broker.url)

    assert isinstance(answer, Answered)
    assert answer.status == 307
    assert len(broker.heard) == 1


def test_a_cookie_is_not_kept():
    with loopback(far.answer(200, "{}", Set_Cookie="a=b")) as broker:
        wire = Wire("test", broker.url)
        post_on(wire)
        post_on(wire)

    assert "cookie" not in broker.heard[1].headers


def test_one_connection_serves_call_after_call():
    with loopback(far.answer(200, "{}")) as broker:
        wire = Wire("test", broker.url)
        for _ in range(3):
            assert isinstance(post_on(wire), Answered)

    assert (len(broker.heard), broker.connections) == (3, 1)


def test_a_kept_connection_that_the_broker_closed_is_not_written_to():
    with loopback(far.closes_after(far.answer(200, "{}")), far.answer(200, "{}")) as broker:
        wire = Wire("test", broker.url)
        assert isinstance(post_on(wire), Answered)
        assert broker.ended.wait(2)

        answer = post_on(wire)

    assert isinstance(answer, Answered)
    assert (len(broker.heard), broker.connections) == (2, 2)


# ---- never sent


def test_a_refused_connection_sent_nothing():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    answer = post(f"http://127.0.0.1:{port}")

    assert isinstance(answer, NeverSent)
    assert "refused" in answer.why


def test_an_unknown_host_was_sent_nothing(monkeypatch: pytest.MonkeyPatch):
    def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    answer = post("http://broker.invalid")

    assert isinstance(answer, NeverSent)
    assert "not known" in answer.why


def test_a_connection_that_takes_too_long_sent_nothing():
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        fillers = []
        for _ in range(4):  # the queue of a listener that accepts nobody
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)

        answer = post(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.2)

        for filler in fillers:
            filler.close()
    assert answer == NeverSent("no connection in time")


def test_a_peer_that_speaks_no_tls_was_sent_nothing():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=greet, daemon=True).start()
        answer = post(f"https://127.0.0.1:{listener.getsockname()[1]}")

    assert isinstance(answer, NeverSent)


def test_a_certificate_that_nobody_signed_was_sent_nothing():
    with loopback(far.answer(200, "{}")) as broker:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody
        wire = Wire("test", f"https://localhost:{broker.port}", tls=context)
        answer = post_on(wire, timeout_s=0.5)

    assert isinstance(answer, NeverSent)
    assert broker.heard == []


def test_no_free_connection_of_ours_sent_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(transport, "CONNECTIONS", 1)
    monkeypatch.setattr(transport, "POOL_S", 0.05)
    with loopback(far.hang) as broker:
        wire = Wire("test", broker.url)
        first = threading.Thread(target=post_on, args=(wire,), kwargs={"timeout_s": 0.5})
        first.start()
        while not broker.heard:
            os.sched_yield()

        answer = post_on(wire)
        first.join()

    assert answer == NeverSent("no connection of ours came free in time")
    assert len(broker.heard) == 1


def test_past_the_lease_nothing_is_sent():
    with loopback(far.answer(200, "{}")) as broker:
        answer = post(broker.url, send_by=boot_clock() - 0.001)

    assert answer == NeverSent("the time to send it was over")
    assert broker.heard == []


def test_a_lease_that_ends_while_connecting_sends_nothing(monkeypatch: pytest.MonkeyPatch):
    """The last look at the clock comes after the connection is open, right before the first byte."""
    now = boot_clock()
    with loopback(far.answer(200, "{}")) as broker:
        connect = httpcore2.SyncBackend.connect_tcp

        def slow(self: httpcore2.SyncBackend, *args: object, **kwargs: object) -> object:
            stream = connect(self, *args, **kwargs)
            monkeypatch.setattr(sockets, "boot_clock", lambda: now + 1.5)
            return stream

        monkeypatch.setattr(httpcore2.SyncBackend, "connect_tcp", slow)
        answer = post(broker.url, timeout_s=2.0, send_by=now + 1.0)

    assert answer == NeverSent("the time to send it was over")
    assert broker.heard == []


def test_a_process_that_was_stopped_over_its_lease_sends_nothing(monkeypatch: pytest.MonkeyPatch):
    now = boot_clock()
    with loopback(far.answer(200, "{}")) as broker:

        def stopped(point: str) -> None:
            if point == "broker.before_send":
                monkeypatch.setattr(sockets, "boot_clock", lambda: now + 60)

        monkeypatch.setattr(transport, "crash", stopped)
        answer = post(broker.url, timeout_s=2.0, send_by=now + 1.0)

    assert answer == NeverSent("the time to send it was over")
    assert broker.heard == []


@pytest.mark.parametrize("token", ["broken\r\nX-Evil: 1", "ключ"], ids=["line break", "not ascii"])
def test_a_token_that_is_no_header_sends_nothing_and_is_not_told(token: str):
    with loopback(far.answer(200, "{}")) as broker:
        answer = post(broker.url, token=token)

    assert isinstance(answer, NeverSent)
    assert token not in answer.why
    assert "Evil" not in answer.why
    assert broker.heard == []


# ---- lost


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (far.hang, "no whole answer in time"),
        (far.hang_up, "the answer was cut short or no HTTP"),
        (far.reset, "the connection broke: [Errno 104] Connection reset by peer"),
        (far.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{"), "the answer was cut short or no HTTP"),
        (far.raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{"), "the answer was cut short or no HTTP"),
        (far.raw(b"SSH-2.0-OpenSSH\r\n\r\n"), "the answer was cut short or no HTTP"),
        (far.drip(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n", 0.05), "no whole answer in time"),
        (far.drip(b"HTTP/1.1 200 OK\r\nx-slow: ", 0.05), "no whole answer in time"),
        (far.answer(200, b'"' + b"x" * 2000 + b'"'), "the answer is longer than 1000 bytes"),
        (far.answer(200, gzip.compress(b" " * 100_000), content_encoding="gzip"), "the answer's gzip is cut short or longer than 1000 bytes"),
        (far.answer(200, b"no gzip", content_encoding="gzip"), "the answer's gzip is broken"),
        (far.answer(200, b"x", content_encoding="br"), "the answer is packed as 'br', which wasn't asked for"),
    ],
    ids=["hang", "close", "reset", "cut", "cut chunk", "no http", "slow body", "slow head", "long", "bomb", "no gzip", "brotli"],
)  # fmt: skip
def test_after_the_request_left_whatever_goes_wrong_is_lost(act: far.Act, why: str):
    with loopback(act) as broker:
        started = time.perf_counter()
        answer = post(broker.url, timeout_s=0.3, answer_max_bytes=1000)

    assert answer == Lost(why)
    assert len(broker.heard) == 1
    assert time.perf_counter() - started < 1.0


def test_the_next_call_after_a_lost_one_has_a_new_connection():
    with loopback(far.hang, far.answer(200, "{}")) as broker:
        wire = Wire("test", broker.url)
        assert isinstance(post_on(wire, timeout_s=0.1), Lost)
        assert isinstance(post_on(wire), Answered)

    assert broker.connections == 2


EXCEPTIONS = [
    httpcore2.ConnectTimeout,
    httpcore2.ConnectError,
    httpcore2.ReadTimeout,
    httpcore2.ReadError,
    httpcore2.WriteTimeout,
    httpcore2.WriteError,
    httpcore2.PoolTimeout,
    httpcore2.NetworkError,
    httpcore2.TimeoutException,
    httpcore2.ProtocolError,
    httpcore2.LocalProtocolError,
    httpcore2.RemoteProtocolError,
    httpcore2.ProxyError,
    httpcore2.UnsupportedProtocol,
    ssl.SSLError,
    OSError,
    ValueError,
    KeyError,
]


@pytest.mark.parametrize("kind", EXCEPTIONS)
@pytest.mark.parametrize(("stage", "ends"), [("connect_tcp", NeverSent), ("write", Lost), ("read", Lost)])
def test_no_exception_says_by_its_name_whether_a_byte_left(
    kind: type[Exception], stage: str, ends: type, monkeypatch: pytest.MonkeyPatch
):
    """Each class, raised before the first byte and after it: the byte decides."""
    peers = []

    class Stream(httpcore2.NetworkStream):
        def write(self, buffer: bytes, timeout: float | None = None) -> None:
            peers.append(buffer)
            if stage == "write":
                raise kind("broken")

        def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
            raise kind("broken")

        def close(self) -> None: ...

    def connect(self: object, *args: object, **kwargs: object) -> Stream:
        if stage == "connect_tcp":
            raise kind("broken")
        return Stream()

    monkeypatch.setattr(httpcore2.SyncBackend, "connect_tcp", connect)

    answer = post("http://127.0.0.1:9")

    assert isinstance(answer, ends)
    assert bool(peers) == (ends is Lost)


# ---- around a call


def test_a_watcher_is_told_of_every_end_and_can_break_nothing(monkeypatch: pytest.MonkeyPatch):
    told = []

    def broken(call: Call, answer: transport.Answer) -> None:
        raise RuntimeError("broken watcher")

    monkeypatch.setattr(transport, "watchers", [broken, lambda call, answer: told.append((call, type(answer)))])
    with loopback(far.answer(200, "{}"), far.hang_up) as broker:
        assert isinstance(post(broker.url), Answered)
        assert isinstance(post(broker.url), Lost)

    assert told == [(Call("test", "place"), Answered), (Call("test", "place"), Lost)]


def test_a_crash_point_lies_before_and_behind_the_bytes(monkeypatch: pytest.MonkeyPatch):
    seen: list[tuple[str, int]] = []
    with loopback(far.answer(200, "{}")) as broker:
        monkeypatch.setattr(transport, "crash", lambda point: seen.append((point, len(broker.heard))))
        post(broker.url)

    assert [point for point, _ in seen] == ["broker.before_send", "broker.after_send", "broker.after_answer"]
    assert seen[0][1] == 0
    assert seen[2][1] == 1


def test_a_request_leaves_in_one_piece():
    """Nothing is written until all of it is there, so that half a request never hangs at a broker."""
    pieces = []

    class Stream(httpcore2.NetworkStream):
        def write(self, buffer: bytes, timeout: float | None = None) -> None:
            pieces.append(bytes(buffer))

        def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
            return b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"

        def close(self) -> None: ...

        def get_extra_info(self, info: str) -> object:
            return None

    class Network(sockets.Network):
        def connect_tcp(self, *args: object, **kwargs: object) -> httpcore2.NetworkStream:
            return sockets.Connection(Stream())

    wire = Wire("test", "http://127.0.0.1:9")
    wire._pool, wire._pid = httpcore2.ConnectionPool(network_backend=Network()), os.getpid()

    assert isinstance(post_on(wire), Answered)
    assert len(pieces) == 1
    assert pieces[0].endswith(b'{"a":1}')


def test_calls_of_many_threads_keep_their_own_deadlines():
    with loopback(far.answer(200, "{}")) as broker:
        wire = Wire("test", broker.url)
        answers = []

        def call(send_by: float | None) -> None:
            answers.extend((send_by, type(post_on(wire, send_by=send_by))) for _ in range(20))

        past = boot_clock() - 1
        threads = [threading.Thread(target=call, args=(send_by,)) for send_by in (None, past, None, past)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert {end for send_by, end in answers if send_by is None} == {Answered}
    assert {end for send_by, end in answers if send_by is not None} == {NeverSent}
    assert len(broker.heard) == 40


def test_a_forked_process_makes_connections_of_its_own(monkeypatch: pytest.MonkeyPatch):
    with loopback(far.answer(200, "{}")) as broker:
        wire = Wire("test", broker.url)
        post_on(wire)
        monkeypatch.setattr(os, "getpid", lambda: -1)
        post_on(wire)

    assert broker.connections == 2


@pytest.mark.parametrize("url", ["api.kite.trade", "ftp://x", "https://", "https://u:p@x", "https://x/?a=1"])
def test_a_base_url_that_is_none_is_told_at_once(url: str):
    with pytest.raises(ValueError, match="base URL"):
        Wire("test", url)
