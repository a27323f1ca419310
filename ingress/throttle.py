"""How often a key may ask: a bucket per key that all processes share, drawn on in blocks so that few requests wait."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError

from domain.errors import TooManyRequests
from store.users import ApiKey

log = logging.getLogger(__name__)

BLOCKS_PER_S = 10  # a block is a tenth of a second's requests: what a process may hold back from the others
PAUSE_S = 1.0  # after a failure Redis is left alone for so long; meanwhile each process gives its share
KEPT_MAX = 10_000

# A bucket that refills evenly and holds at most one second's requests; gives what it has, up to what is asked for.
_DRAW = """
local now = redis.call('TIME')
local at = now[1] + now[2] / 1000000
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local rate, wanted = tonumber(ARGV[1]), tonumber(ARGV[2])
local tokens = rate
if kept[1] then tokens = math.min(rate, tonumber(kept[1]) + math.max(0, at - tonumber(kept[2])) * rate) end
local given = math.min(wanted, math.floor(tokens))
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens - given), 'at', string.format('%.6f', at))
redis.call('PEXPIRE', KEYS[1], 2000)
return given
"""


@dataclass(slots=True)
class _Bucket:
    tokens: float = 0.0
    until: float = 0.0  # when drawn tokens are given up, so that a quiet process hoards none
    refilled_at: float = 0.0  # of the local share, while Redis is away


class Throttle:
    """Takes one token per request."""

    def __init__(self, redis: Redis, *, processes: int) -> None:
        self._draw = redis.register_script(_DRAW)
        self._processes = processes
        self._buckets: dict[str, _Bucket] = {}
        self._drawing: dict[str, asyncio.Task[int | None]] = {}
        self._redis_away_until = 0.0

    def take_at_hand(self, key: ApiKey) -> bool:
        """Take a token that was drawn before: no waiting. False when one must be drawn first."""
        bucket = self._buckets.get(key.id)
        if bucket is None or bucket.tokens < 1 or time.monotonic() >= bucket.until:
            return False
        bucket.tokens -= 1
        return True

    async def take(self, key: ApiKey) -> None:
        """Raises TooManyRequests."""
        while not self.take_at_hand(key):
            given = await asyncio.shield(self._drawing.get(key.id) or self._draw_block(key))
            if given is None:
                bucket = self._bucket(key.id)
                self._refill_share(bucket, key.requests_per_s / self._processes)
                if bucket.tokens >= 1:
                    bucket.tokens -= 1
                    return
            if not given:
                raise TooManyRequests(f"this key may send {key.requests_per_s} requests a second", retry_after_s=1)

    def _draw_block(self, key: ApiKey) -> asyncio.Task[int | None]:
        """Draw once for all who wait for tokens of this key now."""
        task = asyncio.create_task(self._put_into_bucket(key))
        self._drawing[key.id] = task
        return task

    async def _put_into_bucket(self, key: ApiKey) -> int | None:
        try:
            given = await self._drawn(key)
            if given is not None:
                now, bucket = time.monotonic(), self._bucket(key.id)
                left = bucket.tokens if now < bucket.until else 0.0
                bucket.tokens, bucket.until, bucket.refilled_at = left + given, now + 1.0, 0.0
            return given
        finally:
            del self._drawing[key.id]

    async def _drawn(self, key: ApiKey) -> int | None:
        """Tokens of the shared bucket; None while Redis is away."""
        if time.monotonic() < self._redis_away_until:
            return None
        block = max(1, math.ceil(key.requests_per_s / BLOCKS_PER_S))
        try:
            return int(await self._draw(keys=[f"oc:rate:{{{key.id}}}"], args=[key.requests_per_s, block]))
        except (RedisError, OSError, TimeoutError) as error:
            self._redis_away_until = time.monotonic() + PAUSE_S
            log.warning("rate limits are counted per process, Redis is away: %s", error)
            return None

    def _refill_share(self, bucket: _Bucket, rate: float) -> None:
        now = time.monotonic()
        size = max(rate, 1.0)
        if bucket.refilled_at == 0.0:
            bucket.tokens = size
        else:
            bucket.tokens = min(size, bucket.tokens + (now - bucket.refilled_at) * rate)
        bucket.refilled_at = now
        bucket.until = 0.0  # every token of a share is taken here, where it is refilled

    def _bucket(self, key_id: str) -> _Bucket:
        bucket = self._buckets.get(key_id)
        if bucket is None:
            if len(self._buckets) >= KEPT_MAX:
                self._buckets.clear()
            bucket = self._buckets[key_id] = _Bucket()
        return bucket
