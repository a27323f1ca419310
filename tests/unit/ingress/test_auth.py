"""Keys: asked for once, believed for a second, never kept in the clear."""

from __future__ import annotations

import asyncio

import pytest

from domain.errors import NotAuthenticated, StoreAway
from ingress import auth
from ingress.auth import Keys, presented_key
from store.users import ApiKey, Role, looks_like_a_key

GOOD = "oc_live_W4o3Cp6B_P6VY7IBVMrYNkQfWKXbdHaRwXRFEFL40kPjh"
UNKNOWN = "oc_live_" + "x" * 8
ADA = ApiKey("k1", "u1", "ada", Role.TRADER, 100)


class FakeReader:
    """Answers look-ups from a table, and counts them."""

    def __init__(self) -> None:
        self.answer: ApiKey | Exception | None = ADA
        self.asked = 0

    async def run(self, _work):
        self.asked += 1
        await asyncio.sleep(0)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(auth, "time", clock)
    return clock


def test_many_requests_at_once_ask_once(clock):
    async def scenario():
        reader = FakeReader()
        keys = Keys(reader, None, b"pepper")
        found = await asyncio.gather(*(keys.find(f"Bearer {GOOD}") for _ in range(50)))
        assert found == [ADA] * 50
        assert reader.asked == 1
        assert keys.at_hand(f"Bearer {GOOD}") is ADA

    asyncio.run(scenario())


def test_a_revoked_key_stops_within_a_second(clock):
    async def scenario():
        reader = FakeReader()
        keys = Keys(reader, None, b"pepper")
        await keys.find(f"Bearer {GOOD}")
        reader.answer = None

        clock.now += 0.4
        assert keys.at_hand(f"Bearer {GOOD}") is ADA
        clock.now += 0.61
        assert keys.at_hand(f"Bearer {GOOD}") is None
        with pytest.raises(NotAuthenticated):
            await keys.find(f"Bearer {GOOD}")

    asyncio.run(scenario())


def test_a_key_in_use_is_looked_up_again_beside_its_requests(clock):
    async def scenario():
        reader = FakeReader()
        keys = Keys(reader, None, b"pepper")
        await keys.find(f"Bearer {GOOD}")
        clock.now += 0.6
        assert keys.at_hand(f"Bearer {GOOD}") is ADA  # starts the look-up
        for _ in range(3):
            await asyncio.sleep(0)
        assert reader.asked == 2
        clock.now += 0.6
        assert keys.at_hand(f"Bearer {GOOD}") is ADA

    asyncio.run(scenario())


def test_while_the_database_is_away_nobody_is_believed_longer(clock):
    async def scenario():
        reader = FakeReader()
        keys = Keys(reader, None, b"pepper")
        await keys.find(f"Bearer {GOOD}")
        reader.answer = StoreAway("gone")
        clock.now += 1.1
        with pytest.raises(StoreAway):
            await keys.find(f"Bearer {GOOD}")

    asyncio.run(scenario())


@pytest.mark.parametrize("presented", [GOOD[:-1] + "0", "oc_live_x_y", "", " ", "x" * 5000, "ключ", GOOD + "_"])
def test_a_mistyped_key_never_reaches_the_database(clock, presented):
    async def scenario():
        reader = FakeReader()
        header = f"Bearer {presented}".encode().decode("latin-1")
        with pytest.raises(NotAuthenticated):
            await Keys(reader, None, b"pepper").find(header)
        assert reader.asked == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic abc", "Token x"])
def test_no_key_named_is_not_authenticated(header):
    with pytest.raises(NotAuthenticated):
        presented_key(header)


def test_the_scheme_may_be_spelled_as_one_likes():
    assert presented_key(f"bearer  {GOOD} ") == GOOD


def test_a_key_does_not_stay_in_memory_in_the_clear(clock):
    async def scenario():
        keys = Keys(FakeReader(), None, b"pepper")
        await keys.find(f"Bearer {GOOD}")
        assert GOOD.encode() not in b"".join(keys._kept)
        assert all(len(digest) == 16 for digest in keys._kept)

    asyncio.run(scenario())


def test_a_keys_checksum_finds_a_slip_of_the_finger():
    assert looks_like_a_key(GOOD)
    assert not looks_like_a_key(GOOD.replace("W4o3", "W4o4"))
    assert not looks_like_a_key("")
