"""The sandbox that `make run` gives: a user, a key per role, and an account at each simulated broker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.desk import credentials_place
from store.sealing import seal
from store.unit import Store, Unit
from store.users import Role, create_key, create_user


@dataclass(frozen=True, slots=True)
class SandboxAccount:
    id: str
    broker: str
    api_key: str
    api_secret: str
    access_token: str
    is_default: bool = False
    limit_paise: int = 1_000_000_000  # ₹1,00,00,000


ACCOUNTS = (
    SandboxAccount("UP0001", "upstox", "sim-upstox-key", "sim-upstox-secret", "sim-upstox-token", is_default=True),
    SandboxAccount("ZR0001", "zerodha", "sim-zerodha-key", "sim-zerodha-secret", "sim-zerodha-token"),
)


def seed(
    database_url: str,
    *,
    secret: str,
    known_keys: Mapping[str, str] | None = None,
    accounts: tuple[SandboxAccount, ...] = ACCOUNTS,
    requests_per_s: int = 1_000,
) -> dict[str, str]:
    """Make what is missing; gives a key per role. Keys handed out before are passed in and kept."""
    keys = dict(known_keys or {})
    store = Store(database_url, name="sandbox", size=1, by_key=False)
    try:
        with store.unit() as unit:
            user_id = create_user(unit, "sandbox")
            for account in accounts:
                _open(unit, user_id, account, secret)
            for role in Role:
                if role.value not in keys:
                    keys[role.value] = create_key(
                        unit,
                        user_id=user_id,
                        name=f"sandbox {role.value}",
                        role=role,
                        pepper=secret.encode(),
                        environment="sandbox",
                        requests_per_s=requests_per_s,
                    )
    finally:
        store.close()
    return keys


def _open(unit: Unit, user_id: str, account: SandboxAccount, secret: str) -> None:
    values = {"api_key": account.api_key, "api_secret": account.api_secret, "access_token": account.access_token}
    unit.run(
        "insert into accounts (id, user_id, broker, calendar, credentials, is_default, limit_paise)"
        " values (%s, %s, %s, 'SIM', %s, %s, %s) on conflict (id) do nothing",
        (
            account.id,
            user_id,
            account.broker,
            seal(secret, place=credentials_place(account.id), values=values),
            account.is_default,
            account.limit_paise,
        ),
    )
