"""Reading what a broker sent: every value is checked before it is believed."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from functools import lru_cache
from typing import Any, NoReturn
from urllib.parse import quote_plus

IST = timezone(timedelta(hours=5, minutes=30))
MAGNITUDE_MAX = 12  # digits before the point of any number worth believing
FRACTION_MAX = 24  # and after it: averages come with all the digits of a double
WORD_MAX = 64
TEXT_MAX = 400

_quoted = json.encoder.encode_basestring_ascii
_PLAIN = re.compile(r"[A-Za-z0-9._-]*").fullmatch
_ORDER_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"
_DAY_FIRST = re.compile(r"(\d\d)-([A-Z][a-z]{2})-(\d{4}) (\d\d:\d\d:\d\d)")


class Unfit(ValueError):
    """An answer that can't be believed; the text says what is wrong with it."""

    def __init__(self, why: str, *, session_dead: bool = False) -> None:
        super().__init__(why)
        self.session_dead = session_dead


def parse_json(raw: bytes) -> Any:
    """The JSON in it, fractions as Decimal; None where it is no JSON (or the JSON null)."""
    try:
        return _JSON.decode(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        return None


def unpack(raw: bytes, encoding: str | None, max_bytes: int) -> bytes:
    """The body as it was before gzip; never more than `max_bytes`."""
    if encoding is None or encoding == "identity":
        return raw
    if encoding != "gzip":
        raise Unfit(f"the answer is packed as {encoding[:20]!r}, which wasn't asked for")
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(raw, max_bytes)
    except zlib.error as error:
        raise Unfit("the answer's gzip is broken") from error
    if not unpacker.eof:
        raise Unfit(f"the answer's gzip is cut short or longer than {max_bytes} bytes")
    return plain


def dump_json(value: Any) -> str:
    """JSON with every Decimal's own digits: a price never passes through a binary fraction."""
    kind = type(value)
    if kind is str:
        return _quoted(value)
    if kind is int:
        return str(value)
    if kind is Decimal:
        return plain_number(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is dict:
        return "{" + ",".join([f"{_quoted(name)}:{dump_json(of)}" for name, of in value.items()]) + "}"
    if kind is list:
        return "[" + ",".join([dump_json(of) for of in value]) + "]"
    raise TypeError(f"no JSON for {kind.__name__}")


def dump_form(fields: Mapping[str, str]) -> str:
    """The fields as application/x-www-form-urlencoded."""
    return "&".join([f"{name}={of if _PLAIN(of) else quote_plus(of)}" for name, of in fields.items()])


def plain_number(value: Decimal) -> str:
    """The decimal in digits, without an exponent: "1500.05"."""
    if not value.is_finite():
        raise ValueError(f"{value} is no number to send")
    return format(value, "f")


def order_id_of(value: object) -> str | None:
    """A broker's order id, or None where it can't be one. Ids are text, often longer than a float keeps exact."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and _ORDER_ID.fullmatch(value) else None


def whole(row: Mapping[str, Any], name: str) -> int:
    value = row.get(name)
    if type(value) is int and 0 <= value < 10**MAGNITUDE_MAX:
        return value
    number = number_of(value)
    if number is None or number < 0 or number != int(number):
        raise Unfit(f"{name} is {_shown(value)}, not a count")
    return int(number)


def signed(row: Mapping[str, Any], name: str) -> int:
    """A count that may be below zero."""
    number = number_of(row.get(name))
    if number is None or number != int(number):
        raise Unfit(f"{name} is {_shown(row.get(name))}, not a count")
    return int(number)


def price_of(row: Mapping[str, Any], name: str) -> Decimal | None:
    """A price in rupees; None where there is none (brokers say 0, null or nothing)."""
    value = row.get(name)
    if value is None:
        return None
    price = number_of(value)
    if price is None:
        raise Unfit(f"{name} is {_shown(value)}, not a price")
    return price if price else None


def number_of(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    number = Decimal(value)
    if not number.is_finite() or number.adjusted() >= MAGNITUDE_MAX:
        return None
    exponent = number.as_tuple().exponent
    return number if isinstance(exponent, int) and exponent >= -FRACTION_MAX else None


def word(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= WORD_MAX or not value.isprintable():
        raise Unfit(f"{name} is {_shown(value)}, not a word")
    return value


def text_of(value: object) -> str | None:
    """A broker's message, fit to be stored and shown; None where there is none."""
    return printable(value[:TEXT_MAX]) if isinstance(value, str) and value else None


def printable(text: str) -> str:
    """The text with a blank for each control character and half character; no database takes those."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def time_of(value: object) -> datetime | None:
    """A broker's time, Indian and without zone, in UTC: "2026-11-22 10:15:02" or "22-Nov-2026 10:15:02"."""
    return _time_of(value) if isinstance(value, str) and 19 <= len(value) <= 35 else None


@lru_cache(maxsize=8192)  # a poller reads the same times again and again
def _time_of(value: str) -> datetime | None:
    day_first = _DAY_FIRST.fullmatch(value)
    if day_first:
        day, month, year, clock = day_first.groups()
        value = f"{year}-{_MONTHS.find(month) // 3 + 1:02d}-{day} {clock}"
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=IST)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def last_of(row: Mapping[str, Any], *names: str) -> datetime | None:
    return max([moment for name in names if (moment := time_of(row.get(name))) is not None], default=None)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The seconds a Retry-After header asks for; None where it doesn't, or says it as a date."""
    value = headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() and len(value) < 6 else None


def _shown(value: object) -> str:
    return ascii(value)[:40]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_JSON = json.JSONDecoder(parse_float=Decimal, parse_constant=_refuse_constant)
