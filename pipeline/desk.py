"""The desk: what a process has at hand."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

from domain.accounts import Account
from domain.instruments import Instrument
from domain.settings import Settings, UserSettings
from store import accounts as account_rows
from store import settings as setting_rows
from store import user_settings as user_setting_rows
from store import users
from store.sealing import unseal
from store.unit import Store

if TYPE_CHECKING:
    from redis import Redis

    from brokers.base import Adapter, Session
    from pipeline.wakeups import Wakeups

IST = ZoneInfo("Asia/Kolkata")
FRESH_S = 1.0  # settings, accounts and sessions are read again after this time
_T = TypeVar("_T")


@dataclass(frozen=True)
class Environment:
    """The process's environment, read once."""

    database_url: str
    queue_url: str
    redis_url: str
    secret: str
    installation: str = "OC"

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> Environment:
        """Raises KeyError naming the missing variable."""
        values = os.environ if environ is None else environ
        return cls(
            database_url=values["DATABASE_URL"],
            queue_url=values["RABBITMQ_URL"],
            redis_url=values["REDIS_URL"],
            secret=values["COORDINATOR_SECRET"],
            installation=values.get("INSTALLATION", "OC"),
        )


@dataclass(frozen=True, slots=True)
class Directory:
    """The accounts as they stood a moment ago."""

    by_id: Mapping[str, Account]
    of_user: Mapping[str, tuple[Account, ...]]
    revoked_keys: Mapping[str, datetime]  # ids of keys that were revoked in the last day: what came before isn't sent
    user_settings: Mapping[str, UserSettings]  # of users who have chosen something


@dataclass(eq=False)
class Desk:
    """Settings, record, wake-ups, adapters and reference data of one process."""

    environment: Environment
    store: Store
    wakeups: Wakeups
    redis: Redis
    adapters: Mapping[str, Adapter]
    claim_store: Store | None = None  # its commits don't wait for the disk
    news_after: float = 0.0  # on the monotonic clock: until then Redis is left alone, since it was away
    stopping: threading.Event = field(default_factory=threading.Event)  # what is under way ends, nothing more begins
    _kept: dict[str, tuple[float, Any]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def now(self) -> datetime:
        return datetime.now(UTC)

    def settings(self) -> Settings:
        return self._fresh("settings", self._read_settings)

    def user_settings(self) -> Mapping[str, UserSettings]:
        """Of users who have chosen something, for whoever needs no more of the directory."""
        return self._fresh("user settings", self._read_user_settings)

    def directory(self) -> Directory:
        return self._fresh("directory", self._read_directory)

    def session(self, account_id: str) -> Session:
        """The account's broker session, its credentials opened."""
        sessions: dict[str, Session] = self._fresh("sessions", self._read_sessions)
        return sessions[account_id]

    def instruments(self) -> Mapping[str, Instrument]:
        """Every instrument of today's master by key, aliases of front contracts among them."""
        today = self.now().astimezone(IST).date()
        with self._lock:
            kept = self._kept.get("instruments")
            if kept is None or kept[0] != today.toordinal():
                kept = (today.toordinal(), _read_instruments(today))
                self._kept["instruments"] = kept
            instruments: Mapping[str, Instrument] = kept[1]
            return instruments

    def forget(self) -> None:
        """Read everything again at next use."""
        with self._lock:
            self._kept.clear()

    def close(self) -> None:
        self.wakeups.stop()
        self.store.close()
        if self.claim_store is not None:
            self.claim_store.close()
        self.redis.close()

    def _fresh(self, name: str, read: Callable[[], _T]) -> _T:
        kept = self._kept.get(name)
        if kept is not None and kept[0] > time.monotonic():
            return kept[1]  # type: ignore[no-any-return]
        value = read()
        self._kept[name] = (time.monotonic() + FRESH_S, value)
        return value

    def _read_settings(self) -> Settings:
        with self.store.unit() as unit:
            return setting_rows.read(unit)

    def _read_user_settings(self) -> Mapping[str, UserSettings]:
        with self.store.unit() as unit:
            return user_setting_rows.read_all(unit)

    def _read_directory(self) -> Directory:
        with self.store.unit() as unit:
            found = account_rows.directory(unit)
            revoked = users.lately_revoked(unit)
            chosen = user_setting_rows.read_all(unit)
        owners: dict[str, list[Account]] = {}
        for account in found:
            owners.setdefault(account.user_id, []).append(account)
        return Directory(
            by_id={account.id: account for account in found},
            of_user={user: tuple(owned) for user, owned in owners.items()},
            revoked_keys=revoked,
            user_settings=chosen,
        )

    def _read_sessions(self) -> dict[str, Session]:
        from brokers.base import Session

        with self.store.unit() as unit:
            rows = account_rows.credentials(unit)
        sessions = {}
        for account_id, broker, calendar, sealed in rows:
            opened = unseal(self.environment.secret, place=credentials_place(account_id), sealed=bytes(sealed))
            sessions[account_id] = Session(
                account_id=account_id,
                broker=broker,
                calendar=calendar,
                api_key=opened["api_key"],
                api_secret=opened["api_secret"],
                access_token=opened["access_token"],
            )
        return sessions


def credentials_place(account_id: str) -> str:
    """What an account's sealed credentials are bound to."""
    return f"accounts/{account_id}/credentials"


def _read_instruments(today: date) -> Mapping[str, Instrument]:
    from domain import reference

    instruments = dict(reference.all_instruments(today))
    for alias, key in reference.aliases(today).items():
        instruments.setdefault(alias, instruments[key])
    return instruments


def open_redis(url: str) -> Redis:
    """A client that tries once, for half a second: whoever asks Redis here can go on without it."""
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return Redis.from_url(url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=Retry(NoBackoff(), 0))


def from_env(name: str, *, pool_size: int = 8, by_key: bool = True) -> Desk:
    """The desk of a process called `name`, from the environment; wake-ups are not started yet."""
    from brokers import registry
    from pipeline.wakeups import Wakeups

    environment = Environment.read()
    return Desk(
        environment=environment,
        store=Store(environment.database_url, name=name, size=pool_size, by_key=by_key),
        claim_store=Store(environment.database_url, name=f"{name}-claims", size=4, durable=False),
        wakeups=Wakeups(environment.queue_url),
        redis=open_redis(environment.redis_url),
        adapters=registry.build(os.environ),
    )
