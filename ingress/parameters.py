"""The parameters that operations share."""

from __future__ import annotations

from domain.errors import NotFound
from domain.lifecycle import OrderState
from ingress.operations import Parameter, matching, one_of, uuid, whole_number
from readmodel.pages import LIMIT_DEFAULT, LIMIT_MAX, BadCursor, TradePlace, read_id_cursor, read_trade_cursor

WAIT_MAX_S = 60
LINES_DEFAULT = 100
_STATES = frozenset(state.value for state in OrderState)
_WORD = r"[A-Za-z0-9][A-Za-z0-9._:\-]{0,63}"
_KEY = r"[A-Z]{2,5}:[A-Z0-9][A-Z0-9&._\-]{0,57}"


def _id_cursor(text: str) -> str:
    try:
        return read_id_cursor(text)
    except BadCursor:
        raise ValueError("a cursor from `next` of an earlier page is wanted") from None


def _trade_cursor(text: str) -> TradePlace:
    try:
        return read_trade_cursor(text)
    except BadCursor:
        raise ValueError("a cursor from `next` of an earlier page is wanted") from None


def _broker(text: str) -> str:
    return matching(_WORD, "a broker's name is wanted")(text).lower()


def id_in_path(text: str, noun: str) -> str:
    """An id of a path; whatever is no id names nothing. Raises NotFound."""
    try:
        return uuid(text)
    except ValueError:
        raise NotFound(noun, "of this id") from None


IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    where="header",
    schema={"type": "string", "minLength": 16, "maxLength": 255, "pattern": "^[!-~]{16,255}$"},
    description="A word of your own, 16 to 255 visible ASCII characters, a new one for each new request.",
    read=str,
    required=True,
    example="2026-11-22-rebalance-0001",
)
IF_MATCH = Parameter(
    name="If-Match",
    where="header",
    schema={"type": "string", "pattern": '^("[0-9]{1,9}"|[0-9]{1,9})$'},
    description="The version of the order that you have read, as its ETag has it.",
    read=str,
    required=True,
    example='"1"',
)
PREFER = Parameter(
    name="Prefer",
    where="header",
    schema={"type": "string"},
    description="`wait=N`, 0 to 60: answer when every line has settled, at the latest after N seconds.",
    read=str,
    example="wait=10",
)
WAIT = Parameter(
    name="wait",
    schema={"type": "integer", "minimum": 0, "maximum": WAIT_MAX_S, "default": 0},
    description="Answer when every line has settled, at the latest after so many seconds.",
    read=whole_number(0, WAIT_MAX_S),
    default=0,
)
LIMIT = Parameter(
    name="limit",
    schema={"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT},
    description="The most rows to give.",
    read=whole_number(1, LIMIT_MAX),
    default=LIMIT_DEFAULT,
)
AFTER_ID = Parameter(
    name="after",
    schema={"type": "string", "pattern": "^[A-Za-z0-9_-]{21}[AQgw]$"},
    description="`next` of the page before.",
    read=_id_cursor,
)
LINES = Parameter(
    name="limit",
    schema={"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LINES_DEFAULT},
    description="Of an intent that modifies or cancels: the most lines to give.",
    read=whole_number(1, LIMIT_MAX),
    default=LINES_DEFAULT,
)
AFTER_LINE = Parameter(
    name="after",
    schema={"type": "string", "pattern": "^[0-9]{1,9}$"},
    description="`next` of the page before.",
    read=whole_number(0, 999_999_999),
)
AFTER_TRADE = Parameter(
    name="after", schema={"type": "string"}, description="`next` of the page before.", read=_trade_cursor
)
STATE = Parameter(
    name="state",
    schema={"type": "string", "pattern": f"^({'|'.join(sorted(_STATES))})(,({'|'.join(sorted(_STATES))}))*$"},
    description="One or more states, with commas between: `OPEN,PARTIALLY_FILLED`.",
    read=one_of(_STATES),
)
BROKER = Parameter(
    name="broker",
    schema={"type": "string", "pattern": f"^{_WORD}$"},
    description="A broker's name.",
    read=_broker,
)
ACCOUNT = Parameter(
    name="account",
    schema={"type": "string", "pattern": f"^{_WORD}$"},
    description="An account's id.",
    read=matching(_WORD, "an account's id is wanted"),
)
INSTRUMENT = Parameter(
    name="instrument",
    schema={"type": "string", "pattern": f"^{_KEY}$"},
    description="An instrument as EXCHANGE:SYMBOL.",
    read=matching(_KEY, "an instrument as EXCHANGE:SYMBOL is wanted"),
    example="NSE:INFY",
)
INTENT = Parameter(
    name="intent",
    schema={"type": "string", "format": "uuid"},
    description="An intent's id.",
    read=uuid,
)
PARENT = Parameter(
    name="parent",
    schema={"type": "string", "format": "uuid"},
    description="An order that was cut into slices: lists these. Otherwise slices are left out.",
    read=uuid,
)
