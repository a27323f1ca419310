"""The words of the outcome table: ends, what a book holds, kinds of failure, and the brokers' own words for some."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any

from domain.outcomes import Accepted, NotSent, Outcome, Refused

DOUBT = "Order request timed out. Please check the order book and confirm before placing again."
SHORT_S, LONG_S = 0.3, 0.6  # the time a call has where it must not be enough, and what then takes longer


class End(Enum):
    """How a call ended for us, as the pages call it."""

    ACCEPTED = "Accepted"
    REFUSED = "Refused"
    NOT_SENT = "NotSent"
    BUSY = "NotSent, with a time to wait"
    LOGGED_OUT = "NotSent, session dead"
    UNKNOWN = "Unknown"


def end_of(outcome: Outcome) -> End:
    match outcome:
        case Accepted():
            return End.ACCEPTED
        case Refused():
            return End.REFUSED
        case NotSent(session_dead=True):
            return End.LOGGED_OUT
        case NotSent(retry_after_s=float()):
            return End.BUSY
        case NotSent():
            return End.NOT_SENT
    return End.UNKNOWN


class Book(StrEnum):
    """What the broker has of the order, shown or not."""

    NOTHING = "nothing"
    ORDER = "the order"
    REJECTED = "the order, rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way in which a kind comes about at the simulator, and what its book then holds."""

    book: Book
    faults: tuple[Mapping[str, Any], ...] = ()
    door: str = "open"
    scheme: str = "http"
    host: str | None = None  # None: the simulator's own
    timeout_s: float = 5.0
    is_late: bool = False  # the lease is over before the call
    cash: int | None = None  # what the account has, in rupees; None: enough

    @property
    def is_heard(self) -> bool:
        """Whether the simulator gets the request, so that it can be waited for."""
        return (self.door, self.scheme, self.host, self.is_late) == ("open", "http", None, False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    name: str
    wire: str  # what happens on the wire
    end: End
    ways: tuple[Way, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What a broker says, where the table needs its own words."""

    refusal: str  # a code that it documents as a refusal of any call
    undocumented: str
    dead: str
    busy: str
    address: str
    failure: tuple[int, str, str]  # status, code and message of a failure of its own
    funds: End  # of an order without the money for it
    is_flat: bool  # one error an answer, not a list of them

    def body(self, code: str, message: str) -> str:
        if self.is_flat:
            return json.dumps({"status": "error", "message": message, "error_type": code, "data": None})
        return json.dumps({"status": "error", "errors": [{"errorCode": code, "error_code": code, "message": message}]})


BROKERS = {
    "upstox": Words(
        refusal="UDAPI100036",
        undocumented="UDAPI424242",
        dead="401 `UDAPI100050`",
        busy="429 `UDAPI10005`",
        address="403 `UDAPI1154`",
        failure=(500, "UDAPI100500", "Something went wrong... please contact us"),
        funds=End.ACCEPTED,
        is_flat=False,
    ),
    "zerodha": Words(
        refusal="InputException",
        undocumented="BrandNewException",
        dead="403 `TokenException`",
        busy="429 `NetworkException`",
        address="403 `PermissionException`",
        failure=(503, "NetworkException", "Request failed (kitetrade-oms)"),
        funds=End.REFUSED,
        is_flat=True,
    ),
}
