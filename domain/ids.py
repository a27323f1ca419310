"""Identifiers: time-ordered ids for our rows, and the tag by which a broker's book shows our order."""

from __future__ import annotations

from uuid import UUID

import uuid_utils

TAG_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
TAG_LENGTH = 19  # the longest tag all five brokers keep (Angel One takes 19, Zerodha 20)
INSTALLATION_LENGTH = 2
_DERIVED_LENGTH = TAG_LENGTH - INSTALLATION_LENGTH
_MODULUS = 36**_DERIVED_LENGTH


def new_id() -> str:
    """A UUID of version 7 as text: unique, and ordered by the time it was made."""
    return str(uuid_utils.uuid7())


def broker_tag(installation: str, order_id: str) -> str:
    """The order's tag in every broker's book: 19 of [A-Z0-9], the same for each attempt.

    The installation's two characters, then the low 87 bits of the order's id in base 36. A version-7 id carries 62
    random bits and, above these, bits of its time, so two orders' tags differ as surely as their ids do; the unique
    constraint on `orders.broker_tag` stands behind that.
    """
    if len(installation) != INSTALLATION_LENGTH or any(c not in TAG_ALPHABET for c in installation):
        raise ValueError(f"installation is two of [A-Z0-9], not {installation!r}")
    number = UUID(order_id).int % _MODULUS
    digits = []
    for _ in range(_DERIVED_LENGTH):
        number, digit = divmod(number, 36)
        digits.append(TAG_ALPHABET[digit])
    return installation + "".join(reversed(digits))


def is_our_tag(installation: str, tag: str | None) -> bool:
    """Whether a tag in a broker's book has the form that this installation gives."""
    return (
        tag is not None
        and len(tag) == TAG_LENGTH
        and tag.startswith(installation)
        and all(c in TAG_ALPHABET for c in tag)
    )
