"""Every way in which a broker call can end, broker by broker: how it comes about, and what it proves.

One table for three readers: `test_outcome_matrix.py` runs it over real sockets, `outcome_page.py` writes it down as
docs/outcomes.md, and you. A `Kind` may have several `Way`s, which differ in what the broker's book holds afterwards and
look the same from here: that is what makes an outcome Unknown.
"""

from __future__ import annotations

from typing import Any

from outcome_words import BROKERS, DOUBT, LONG_S, SHORT_S, Book, End, Kind, Way, Words


def kinds_of(broker: str) -> tuple[Kind, ...]:
    words = BROKERS[broker]
    return (*NEVER_SENT, *NO_ANSWER, *NO_USE, *_doubtful(words), *_documented(words))


def _before(kind: str, **given: Any) -> Way:
    """The request isn't looked at; then goes wrong what the kind says."""
    return Way(book=Book.NOTHING, faults=({"kind": kind, **given},))


def _after(kind: str, **given: Any) -> Way:
    return Way(book=Book.ORDER, faults=({"kind": kind, **given},))


def _spoilt(kind: str, timeout_s: float = 5.0, **given: Any) -> tuple[Way, Way]:
    """The same fate for the answer to an order that was taken and to one that was refused."""
    fault = {"kind": kind, **given}
    return (
        Way(book=Book.ORDER, faults=(fault,), timeout_s=timeout_s),
        Way(book=Book.NOTHING, faults=({"kind": "refused"}, fault), timeout_s=timeout_s),
    )


def _said(status: int, body: str | None) -> tuple[Way, Way]:
    """The same answer, for a request that wasn't looked at and for an order that was taken."""
    given = {"status": status, "body": body}
    return _before("error_before", **given), _after("error_after", **given)


def _never(**given: Any) -> tuple[Way]:
    return (Way(book=Book.NOTHING, **given),)


NEVER_SENT = (
    Kind(
        name="unknown host",
        wire="the broker's name isn't found (DNS)",
        end=End.NOT_SENT,
        ways=_never(host="broker.invalid"),
    ),
    Kind(name="refused", wire="the connection is refused", end=End.NOT_SENT, ways=_never(door="closed")),
    Kind(name="no TLS", wire="the far end speaks no TLS", end=End.NOT_SENT, ways=_never(scheme="https")),
    Kind(
        name="bad certificate",
        wire="TLS with a certificate that nobody vouches for",
        end=End.NOT_SENT,
        ways=_never(scheme="https", door="untrusted"),
    ),
    Kind(
        name="timeout before",
        wire="the time is over before the connection, with its TLS, is there",
        end=End.NOT_SENT,
        ways=_never(scheme="https", door="silent", timeout_s=SHORT_S),
    ),
    Kind(
        name="lease over", wire="the lease is over before the first byte", end=End.NOT_SENT, ways=_never(is_late=True)
    ),
)

NO_ANSWER = (
    Kind(
        name="timeout after",
        wire="the request is out, and no whole answer comes in time",
        end=End.UNKNOWN,
        ways=(
            Way(book=Book.NOTHING, door="silent", timeout_s=SHORT_S),
            Way(
                book=Book.NOTHING,
                faults=({"kind": "latency_before", "seconds": LONG_S}, {"kind": "drop_before"}),
                timeout_s=SHORT_S,
            ),
            Way(book=Book.ORDER, faults=({"kind": "latency_before", "seconds": LONG_S},), timeout_s=SHORT_S),
            Way(book=Book.ORDER, faults=({"kind": "latency_after", "seconds": LONG_S},), timeout_s=SHORT_S),
        ),
    ),
    Kind(
        name="closed",
        wire="the connection is closed without an answer",
        end=End.UNKNOWN,
        ways=(_before("drop_before"), _after("drop_after")),
    ),
    Kind(
        name="reset",
        wire="the connection is reset without an answer",
        end=End.UNKNOWN,
        ways=(_before("reset_before"), _after("reset_after")),
    ),
    Kind(name="reset in the answer", wire="half of the answer, then a reset", end=End.UNKNOWN, ways=_spoilt("cut")),
    Kind(
        name="slow answer",
        wire="the answer drips, byte by byte, past the time of the call",
        end=End.UNKNOWN,
        ways=_spoilt("drip", SHORT_S, seconds=2 * LONG_S),
    ),
    Kind(name="huge answer", wire="an answer of 10 MB", end=End.UNKNOWN, ways=_spoilt("huge")),
)

NO_USE = (
    Kind(name="HTML", wire="a 200 with an HTML page", end=End.UNKNOWN, ways=_spoilt("html")),
    Kind(name="truncated JSON", wire="an answer whose JSON ends half-way", end=End.UNKNOWN, ways=_spoilt("truncated")),
    Kind(name="no id", wire="a 200 without an order id", end=End.UNKNOWN, ways=_spoilt("no_id")),
    Kind(name="redirect", wire="a 307; it isn't followed", end=End.UNKNOWN, ways=_said(307, "{}")),
    Kind(
        name="5xx", wire="a 503 or 504 with an HTML page", end=End.UNKNOWN, ways=(*_said(503, None), *_said(504, None))
    ),
    Kind(name="401 page", wire="a 401 with an HTML page", end=End.UNKNOWN, ways=_said(401, None)),
    Kind(name="403 page", wire="a 403 with an HTML page, as of a firewall", end=End.UNKNOWN, ways=_said(403, None)),
    Kind(
        name="429 page",
        wire="a 429 with an HTML page, as of a network in between",
        end=End.UNKNOWN,
        ways=_said(429, None),
    ),
)


def _doubtful(words: Words) -> tuple[Kind, ...]:
    status, code, message = words.failure
    return (
        Kind(
            name="400 timed out",
            wire=f"a 400 whose text says that it timed out, also under a documented code (`{words.refusal}`)",
            end=End.UNKNOWN,
            ways=(
                _after("timed_out"),
                _after("error_after", status=400, body=words.body(words.refusal, DOUBT)),
                _before("refused", message=DOUBT),
            ),
        ),
        Kind(
            name="400 undocumented",
            wire="a 400 with a code that isn't documented",
            end=End.UNKNOWN,
            ways=_said(400, words.body(words.undocumented, "Something new")),
        ),
        Kind(
            name="5xx in its words",
            wire=f"{status} `{code}`: {message}",
            end=End.UNKNOWN,
            ways=_said(status, words.body(code, message)),
        ),
        Kind(
            name="5xx refusal",
            wire=f"a 500 with a code that is a refusal under 400 (`{words.refusal}`)",
            end=End.UNKNOWN,
            ways=_said(500, words.body(words.refusal, "Invalid input")),
        ),
    )


def _documented(words: Words) -> tuple[Kind, ...]:
    is_refused = words.funds is End.REFUSED
    return (
        Kind(
            name="400",
            wire=f"400 with a documented code (`{words.refusal}`)",
            end=End.REFUSED,
            ways=(_before("refused"),),
        ),
        Kind(
            name="403 address",
            wire=f"{words.address}: the address isn't registered",
            end=End.REFUSED,
            ways=(_before("ip_not_registered"),),
        ),
        Kind(
            name="dead session",
            wire=f"{words.dead}: the session is dead",
            end=End.LOGGED_OUT,
            ways=(_before("token_dead"),),
        ),
        Kind(
            name="429",
            wire=f"{words.busy}: over the rate limit",
            end=End.BUSY,
            ways=(_before("rate_limited"), _before("rate_limited", retry_after=7)),
        ),
        Kind(
            name="no funds",
            wire="400 `MarginException`" if is_refused else "a 200 with an order id; the order is rejected later",
            end=words.funds,
            ways=(Way(book=Book.REJECTED, cash=1),),
        ),
        Kind(name="receipt", wire="a 200 with an order id", end=End.ACCEPTED, ways=(Way(book=Book.ORDER),)),
    )
