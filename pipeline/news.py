"""News: tells whoever waits that orders of an intent moved. A hint only; waiters also look for themselves."""

from __future__ import annotations

import logging
from collections.abc import Collection

import orjson
from redis import RedisError

from pipeline.desk import Desk

log = logging.getLogger(__name__)

CHANNEL = "oc:news"


def tell(desk: Desk, intent_ids: Collection[str]) -> None:
    """Publish `{"intents": [...]}`; without Redis the waiters' own slow look finds the news."""
    if not intent_ids:
        return
    try:
        desk.redis.publish(CHANNEL, orjson.dumps({"intents": list(intent_ids)}))
    except RedisError as error:
        log.debug("news not told: %s", error)
