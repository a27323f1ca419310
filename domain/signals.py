"""Signals: an order made of what a charting program sends, by a template that its user wrote. Pure.

A template says for each word of an order where it comes from: a field of the signal's body, or a fixed value. Nothing
here ever repeats a signal's values in an error: a secret may be among them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from domain.errors import Fault, Malformed
from domain.intents import PRICE_MAX, QUANTITY_MAX, OrderLine, Word
from domain.orders import PRICED, TRIGGERED, OrderType, Product, Side, Validity

SECRET, NONCE = "secret", "nonce"  # fields of the body that no template gives another meaning
NONCE_MAX = 128
TAG_MAX = 64
ALIASES_MAX = 500
LINE = "signal"  # the correlation id of a signal's only line

_FIELD = r"^[^.\x00-\x1f]{1,64}(\.[^.\x00-\x1f]{1,64}){0,7}$"
_INSTRUMENT = re.compile(r"[A-Z]{2,5}:[A-Z0-9][A-Z0-9&._\-]{0,57}")
_DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,12})?")

_Text = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f]+$")]
_Path = Annotated[str, StringConstraints(pattern=_FIELD)]
_Scalar = _Text | Annotated[int, Field(strict=True, ge=0, le=QUANTITY_MAX)]


class _Form(BaseModel):
    model_config = ConfigDict(
        extra="forbid", alias_generator=to_camel, frozen=True, populate_by_name=True, use_attribute_docstrings=True
    )


class Source(_Form):
    """Where one word of the order comes from: `field` or `value`, one of the two."""

    field: _Path | None = None
    """A field of the signal's body; dots lead into objects, as in `strategy.order.action`."""

    value: _Scalar | None = None
    """A fixed value."""

    default: _Scalar | None = None
    """What counts where the field is missing or empty."""

    map: Annotated[dict[_Text, _Text], Field(max_length=ALIASES_MAX)] = Field(default_factory=dict)
    """Our word for each of theirs, in any case; a word that isn't in it is refused."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Source:
        if (self.field is None) == (self.value is None):
            raise PydanticCustomError("one_source", "give `field` or `value`, one of the two")
        if self.field is not None and self.field.partition(".")[0].lower() == SECRET:
            raise PydanticCustomError("secret_source", "the secret is no part of an order")
        if len({theirs.casefold() for theirs in self.map}) < len(self.map):
            raise PydanticCustomError("same_word", "two words of the map differ by their case only")
        return self


class InstrumentSource(Source):
    """Where the instrument comes from. Text without a colon gets the prefix; aliases are looked up first."""

    prefix: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2,5}:$")] | None = None
    """Such as `NSE:`, put before a name without an exchange."""

    aliases: Annotated[dict[_Text, _Text], Field(max_length=ALIASES_MAX)] = Field(default_factory=dict)
    """Our instrument for each of their names, in any case; other names are taken as they are."""

    @model_validator(mode="after")
    def _distinct_aliases(self) -> InstrumentSource:
        if len({theirs.casefold() for theirs in self.aliases}) < len(self.aliases):
            raise PydanticCustomError("same_word", "two aliases differ by their case only")
        return self


class Template(_Form):
    """Where each word of the order comes from."""

    instrument: InstrumentSource
    side: Source
    quantity: Source
    product: Source
    order_type: Source = Source(value="MARKET")
    price: Source | None = None
    """Rupees; counts for LIMIT and SL only."""

    trigger_price: Source | None = None
    """Rupees; counts for SL and SL-M only."""

    validity: Source = Source(value="DAY")
    tag: Source | None = None
    """A note; what it can't hold of a text becomes a question mark."""


class SignalForm(_Form):
    """A signal strategy as its user defines it."""

    enabled: Annotated[bool, Field(strict=True)] = True
    """Switched off, every signal is refused."""

    window_sec: Annotated[int, Field(strict=True, ge=1, le=86_400)] = 60
    """The same order again within so many seconds of the first is suppressed."""

    broker: Word | None = None
    account: Word | None = None
    strategy: Word | None = None
    """The strategy that its orders carry; the signal strategy's own name unless given."""

    max_unsent_sec: Annotated[int, Field(strict=True, ge=1, le=86_400)] | None = None
    """An order that was not sent within so many seconds is not sent any more."""

    template: Template


def order_of(form: SignalForm, name: str, body: Mapping[str, Any]) -> OrderLine:
    """The order that a signal asks for. Raises Malformed: each fault names the body's field, or the template's."""
    reading = _Reading(body)
    template = form.template
    terms: dict[str, Any] = {
        "instrument": reading.instrument("instrument", template.instrument),
        "side": reading.read("side", template.side),
        "quantity": reading.read("quantity", template.quantity),
        "product": reading.read("product", template.product),
        "order_type": reading.read("order_type", template.order_type),
        "validity": reading.read("validity", template.validity),
        "tag": reading.read("tag", template.tag) if template.tag is not None else None,
    }
    for price, types in (("price", PRICED), ("trigger_price", TRIGGERED)):
        if terms["order_type"] in types:
            source: Source | None = getattr(template, price)
            terms[price] = reading.needed(price, source, terms["order_type"])
    if reading.faults:
        raise Malformed(tuple(reading.faults))
    return OrderLine(
        correlation_id=LINE,
        broker=form.broker,
        account=form.account,
        strategy=form.strategy or name,
        **{word: value for word, value in terms.items() if value is not None},
    )


def digest_of(line: OrderLine) -> bytes:
    """The same for two orders that ask for the same, however their prices are written."""
    told = line.model_dump(mode="python", exclude={"correlation_id"}, exclude_none=True)
    plain = {name: format(of.normalize(), "f") if isinstance(of, Decimal) else str(of) for name, of in told.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).digest()


def nonce_of(body: Mapping[str, Any]) -> str | None:
    """Raises Malformed where it is no text or whole number, or too long."""
    given = body.get(NONCE)
    if given is None or given == "":
        return None
    text = _text_of(given)
    if text is None or len(text) > NONCE_MAX or not text.isprintable():
        detail = f"a nonce is a text of 1 to {NONCE_MAX} printable characters, or a whole number"
        raise Malformed((Fault(f"/{NONCE}", "BAD_VALUE", detail),))
    return text


def template_faults(form: SignalForm) -> Iterator[Fault]:
    """What of a template can never give an order: fixed values, defaults and words of maps that don't fit."""
    template = form.template
    for name in Template.model_fields:
        source: Source | None = getattr(template, name)
        if source is None:
            continue
        place = f"/template/{to_camel(name)}"
        for what in ("value", "default"):
            given = getattr(source, what)
            if given is not None and not source.map:
                yield from _fault_of(name, _fixed_text(source, str(given)), f"{place}/{what}")
            elif given is not None and str(given).casefold() not in {theirs.casefold() for theirs in source.map}:
                yield Fault(f"{place}/{what}", "NOT_IN_MAP", "the map has no word for it")
        for theirs, ours in source.map.items():
            yield from _fault_of(name, _fixed_text(source, ours), f"{place}/map/{_escaped(theirs)}")
        if isinstance(source, InstrumentSource):
            for theirs, ours in source.aliases.items():
                yield from _fault_of(name, ours, f"{place}/aliases/{_escaped(theirs)}")
    yield from _price_faults(template)


def _price_faults(template: Template) -> Iterator[Fault]:
    fixed = str(template.order_type.value or "").upper()
    for name, types in (("price", PRICED), ("trigger_price", TRIGGERED)):
        if fixed in {kind.value for kind in types} and getattr(template, name) is None:
            yield Fault(f"/template/{to_camel(name)}", "REQUIRED", f"a {fixed} order needs it")


def _fixed_text(source: Source, text: str) -> str:
    if isinstance(source, InstrumentSource):
        return _named(source, text)
    return text


def _fault_of(name: str, text: str, pointer: str) -> Iterator[Fault]:
    try:
        _READERS[name](text)
    except ValueError as error:
        yield Fault(pointer, "BAD_VALUE", str(error))


class _Reading:
    """The values of one signal, with what is wrong with them."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._body = body
        self.faults: list[Fault] = []

    def needed(self, name: str, source: Source | None, order_type: OrderType) -> object:
        if source is not None:
            return self.read(name, source)
        detail = f"a {order_type} order needs it, and the template takes it from nowhere"
        self.faults.append(Fault(f"/template/{to_camel(name)}", "REQUIRED", detail))
        return None

    def instrument(self, name: str, source: InstrumentSource) -> object:
        return self.read(name, source, lambda text: _named(source, text))

    def read(self, name: str, source: Source, named: Callable[[str], str] = str) -> object:
        """The word's value; None where it is missing or wrong, which is noted."""
        pointer = f"/template/{to_camel(name)}"
        if source.field is not None:
            pointer = "/" + "/".join(_escaped(part) for part in source.field.split("."))
        text = self._text(name, source, pointer)
        if text is None:
            return None
        if source.map:
            ours = {theirs.casefold(): word for theirs, word in source.map.items()}.get(text.casefold())
            if ours is None:
                self._note(pointer, "NOT_IN_MAP", name, "the template's map has no word for it")
                return None
            text = ours
        try:
            return _READERS[name](named(text))
        except ValueError as error:
            self._note(pointer, "BAD_VALUE", name, str(error))
            return None

    def _text(self, name: str, source: Source, pointer: str) -> str | None:
        given = source.value if source.field is None else _at(self._body, source.field)
        if given is None or given == "":
            given = source.default
        if given is None:
            if name != "tag":
                self._note(pointer, "REQUIRED", name, "it is missing or empty, and the template has no default for it")
            return None
        text = _text_of(given)
        if text is None:
            self._note(pointer, "NOT_A_VALUE", name, "it must be a text or a plain number")
        return text

    def _note(self, pointer: str, code: str, name: str, words: str) -> None:
        self.faults.append(Fault(pointer[:500], code, f"{to_camel(name)}: {words}"))


def _at(body: Mapping[str, Any], path: str) -> object:
    """The value of a field: by its whole name, as in a form, or through the objects that the dots lead into."""
    if path in body:
        return body[path]
    at: object = body
    for part in path.split("."):
        if not isinstance(at, Mapping) or part not in at:
            return None
        at = at[part]
    return at


def _text_of(given: object) -> str | None:
    """A text or a number as text; None for what is neither, or no number that an order can have."""
    if isinstance(given, bool):
        return None
    if isinstance(given, int):
        return str(given) if abs(given) < 10**18 else None
    if isinstance(given, Decimal):
        return format(given, "f") if given.is_finite() and -18 < given.adjusted() < 18 else None
    return given.strip() if isinstance(given, str) else None


def _named(source: InstrumentSource, text: str) -> str:
    aliases = {theirs.casefold(): ours for theirs, ours in source.aliases.items()}
    found = aliases.get(text.casefold())
    if found is not None:
        return found
    return text if ":" in text or source.prefix is None else source.prefix + text


def _instrument(text: str) -> str:
    key = text.upper()
    if not _INSTRUMENT.fullmatch(key):
        raise ValueError("an instrument as EXCHANGE:SYMBOL is wanted, such as NSE:INFY")
    return key


def _one_of(kind: type[StrEnum]) -> Callable[[str], StrEnum]:
    listed = ", ".join(kind)

    def read(text: str) -> StrEnum:
        try:
            return kind(text.upper())
        except ValueError:
            raise ValueError(f"one of {listed} is wanted") from None

    return read


def _quantity(text: str) -> int:
    """Whole units; "10.0" is ten, since some programs know no other numbers."""
    whole, _, rest = text.partition(".")
    if not (_DECIMAL.fullmatch(text) and not rest.strip("0") and 0 < int(whole) <= QUANTITY_MAX):
        raise ValueError(f"a whole number from 1 to {QUANTITY_MAX} is wanted")
    return int(whole)


def _price(text: str) -> Decimal:
    if _DECIMAL.fullmatch(text):
        price = Decimal(text)
        if 0 < price <= PRICE_MAX and price == price.quantize(Decimal("0.0001")):
            return price.quantize(Decimal("0.0001")).normalize() + Decimal("0.00")
    raise ValueError("rupees are wanted, more than 0 and with at most 4 decimals")


def _tag(text: str) -> str | None:
    plain = "".join(c if " " <= c <= "~" else "?" for c in text[:TAG_MAX])
    return plain or None


_READERS: Mapping[str, Callable[[str], object]] = {
    "instrument": _instrument,
    "side": _one_of(Side),
    "quantity": _quantity,
    "product": _one_of(Product),
    "order_type": _one_of(OrderType),
    "price": _price,
    "trigger_price": _price,
    "validity": _one_of(Validity),
    "tag": _tag,
}


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")
