"""News: tells whoever waits that orders of an intent moved. A hint only; waiters also look for themselves."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection

import orjson
from redis import RedisError

from pipeline.desk import Desk

log = logging.getLogger(__name__)

CHANNEL = "oc:news"
AWAY_S = 3.0  # after a failure: no batch waits for Redis more often than this


def tell(desk: Desk, intent_ids: Collection[str]) -> None:
    """Publish `{"intents": [...]}`; without Redis the waiters' own slow look finds the news."""
    if not intent_ids or time.monotonic() < desk.news_after:
        return
    try:
        desk.redis.publish(CHANNEL, orjson.dumps({"intents": list(intent_ids)}))
    except RedisError as error:
        desk.news_after = time.monotonic() + AWAY_S
        log.debug("news not told: %s", error)
