"""Users and their API keys. A key is shown once, when it is made; what is kept of it is a hash.

A key reads `oc_<environment>_<8 characters>_<30 characters><6 of checksum>`. What stands before the last underscore is
its prefix: no secret, stored as it is, and enough to name the key in a list or a log. A key's secret is random, so one
HMAC is as good as a slow password hash; the pepper makes a stolen table useless.
"""

from __future__ import annotations

import hmac
import secrets
import string
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from domain.ids import new_id
from store.unit import Unit

_ALPHABET = string.digits + string.ascii_letters
_PREFIX_LENGTH = 8
_SECRET_LENGTH = 30  # 62^30: 178 bits
_CHECKSUM_LENGTH = 6


class Role(StrEnum):
    TRADER = "trader"  # everything of one's own
    AUDITOR = "auditor"  # reads everyone's
    OPERATOR = "operator"  # reads everyone's, and works on what is stuck
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What the door needs to know of a key; never the key itself."""

    id: str
    user_id: str
    name: str
    role: Role
    requests_per_s: int


def hash_of(key: str, pepper: bytes) -> bytes:
    return hmac.digest(pepper, key.encode(), "sha256")


def looks_like_a_key(presented: str) -> bool:
    """Whether the form and the checksum are right: a mistyped key is told apart without asking the database."""
    head, checksum = presented[:-_CHECKSUM_LENGTH], presented[-_CHECKSUM_LENGTH:]
    return len(presented) <= 100 and presented.count("_") == 3 and presented.isascii() and _checksum(head) == checksum


def create_user(unit: Unit, name: str) -> str:
    """The id of the user of that name, made now or before."""
    unit.run("insert into users (id, name) values (%s, %s) on conflict (name) do nothing", (new_id(), name))
    return str(unit.rows("select id from users where name = %s", (name,))[0][0])


def find(unit: Unit, text: str) -> str | None:
    """The id of the user of that id or name."""
    rows = unit.rows("select id from users where id::text = %s or name = %s", (text, text))
    return str(rows[0][0]) if rows else None


def create_key(
    unit: Unit,
    *,
    user_id: str,
    name: str,
    role: Role,
    pepper: bytes,
    environment: str = "live",
    requests_per_s: int = 1_000,
    expires_at: datetime | None = None,
) -> str:
    """A new API key, whole, for the only time: only its hash is stored."""
    if not (environment.isascii() and environment.isalnum()):
        raise ValueError(f"environment is letters and digits, not {environment!r}")
    prefix = f"oc_{environment}_{_random(_PREFIX_LENGTH)}"
    head = f"{prefix}_{_random(_SECRET_LENGTH)}"
    key = head + _checksum(head)
    unit.run(
        "insert into api_keys (id, user_id, name, prefix, secret_hash, role, requests_per_s, expires_at)"
        " values (%s, %s, %s, %s, %s, %s, %s, %s)",
        (new_id(), user_id, name, prefix, hash_of(key, pepper), role.value, requests_per_s, expires_at),
    )
    return key


def find_key(unit: Unit, presented: str, pepper: bytes) -> ApiKey | None:
    """The live key that was presented; None when it is unknown, revoked or expired."""
    rows = unit.rows(
        "select id, user_id, name, role, requests_per_s, secret_hash from api_keys"
        " where prefix = %s and revoked_at is null and (expires_at is null or expires_at > now())",
        (presented.rpartition("_")[0],),
    )
    if not rows or not hmac.compare_digest(rows[0][5], hash_of(presented, pepper)):
        return None
    id_, user_id, name, role, requests_per_s, _ = rows[0]
    return ApiKey(id_, user_id, name, Role(role), requests_per_s)


def revoke_key(unit: Unit, prefix: str) -> bool:
    """Whether there was such a key to revoke; it stops working within a second."""
    return unit.run("update api_keys set revoked_at = now() where prefix = %s and revoked_at is null", (prefix,)) == 1


_EVER = datetime.max.replace(tzinfo=UTC)
_REVOKED = """
select id, null from api_keys where revoked_at > now() - interval '1 day'
union all select strategy_id, at from signal_revocations where at > now() - interval '1 day'
"""


def lately_revoked(unit: Unit) -> dict[str, datetime]:
    """Ids of keys that were revoked in the last day, each with the moment before which what came with it isn't sent.

    A key is revoked for good. A signal strategy, whose id stands for a key, may be switched on again, or go on with a new
    secret: what it has placed since then is sent. What was revoked before is over: no order waits for longer than a day.
    """
    return {key_id: _EVER if at is None else at for key_id, at in unit.rows(_REVOKED)}


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _checksum(text: str) -> str:
    number = zlib.crc32(text.encode())
    digits = []
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
