"""Who is asking: API keys, checked against a cache that no revocation outlives by more than a second."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass
from hashlib import blake2s

from domain.errors import NotAuthenticated
from readmodel.reader import Reader
from store import users
from store.unit import Store
from store.users import ApiKey

FRESH_S = 1.0  # no answer older than this is trusted
RENEW_S = 0.5  # a key in use is looked up again after this time, beside its requests
KEPT_MAX = 10_000


@dataclass(slots=True)
class _Kept:
    key: ApiKey | None
    read_at: float


class Keys:
    """The live keys, kept by the hash of what was presented; the database is asked off the event loop."""

    def __init__(self, reader: Reader, store: Store, pepper: bytes) -> None:
        self._reader, self._store, self._pepper = reader, store, pepper
        self._salt = secrets.token_bytes(32)
        self._kept: dict[bytes, _Kept] = {}
        self._looking: dict[bytes, asyncio.Task[ApiKey | None]] = {}

    def at_hand(self, authorization: str | None) -> ApiKey | None:
        """The caller, if it was seen just now: no waiting. Raises NotAuthenticated where none was named."""
        presented = presented_key(authorization)
        digest = self._digest(presented)
        kept = self._kept.get(digest)
        if kept is None:
            return None
        age = time.monotonic() - kept.read_at
        if age >= FRESH_S:
            return None
        if age >= RENEW_S and digest not in self._looking:
            self._look(digest, presented).add_done_callback(_hear_failure)
        return kept.key

    async def find(self, authorization: str | None) -> ApiKey:
        """The caller. Raises NotAuthenticated, or StoreAway and Overloaded where nobody can say."""
        known = self.at_hand(authorization)
        if known is not None:
            return known
        presented = presented_key(authorization)
        if not users.looks_like_a_key(presented):
            raise NotAuthenticated("this is no API key of ours: its form or its checksum is wrong")
        digest = self._digest(presented)
        kept = self._kept.get(digest)
        if kept is not None and time.monotonic() - kept.read_at < FRESH_S:
            found = kept.key
        else:
            looking = self._looking.get(digest) or self._look(digest, presented)
            found = await asyncio.shield(looking)
        if found is None:
            raise NotAuthenticated("this API key is unknown, expired or revoked")
        return found

    def _digest(self, presented: str) -> bytes:
        """What a key is kept under, so that no key stays in memory. (A quarter of the time that an HMAC takes.)"""
        return blake2s(presented.encode("latin-1"), key=self._salt, digest_size=16).digest()

    def _look(self, digest: bytes, presented: str) -> asyncio.Task[ApiKey | None]:
        """Look a key up, once for all who ask for it now."""
        task = asyncio.create_task(self._read(digest, presented))
        self._looking[digest] = task
        return task

    async def _read(self, digest: bytes, presented: str) -> ApiKey | None:
        asked_at = time.monotonic()
        try:
            key = await self._reader.run(lambda: self._find(presented))
            if len(self._kept) >= KEPT_MAX:
                self._kept.clear()
            self._kept[digest] = _Kept(key, asked_at)
            return key
        finally:
            del self._looking[digest]

    def _find(self, presented: str) -> ApiKey | None:
        with self._store.unit() as unit:
            return users.find_key(unit, presented, self._pepper)


def presented_key(authorization: str | None) -> str:
    """Raises NotAuthenticated: no key was named in the way we know."""
    if authorization is None:
        raise NotAuthenticated("send your API key as `Authorization: Bearer <key>`")
    if authorization.startswith("Bearer "):  # by far the most usual spelling
        return authorization[7:]
    scheme, _, presented = authorization.partition(" ")
    if scheme.lower() != "bearer" or not presented.strip():
        raise NotAuthenticated("send your API key as `Authorization: Bearer <key>`")
    return presented.strip()


def _hear_failure(task: asyncio.Task[ApiKey | None]) -> None:
    """The request that caused the look-up doesn't wait for it; the next one that must will hear of the failure."""
    if not task.cancelled():
        task.exception()
