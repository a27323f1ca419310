"""Landing: what another thread answers arrives, once, whatever becomes of the one who waits."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

import pytest

from ingress.landing import Landing


def test_answers_of_many_threads_all_arrive():
    async def scenario():
        landing, futures = Landing(), [Future() for _ in range(400)]

        def answer(mine):
            for number in mine:
                futures[number].set_result(number)

        threads = [threading.Thread(target=answer, args=(range(start, 400, 8),)) for start in range(8)]
        waiting = asyncio.gather(*(landing.of(future) for future in futures))
        await asyncio.sleep(0)
        for thread in threads:
            thread.start()
        assert await asyncio.wait_for(waiting, 10) == list(range(400))
        for thread in threads:
            thread.join()

    asyncio.run(scenario())


def test_an_answer_that_is_there_needs_no_waiting():
    async def scenario():
        future = Future()
        future.set_result("here")
        assert await Landing().of(future) == "here"

    asyncio.run(scenario())


def test_an_error_arrives_as_itself():
    async def scenario():
        future = Future()
        landed = asyncio.create_task(Landing().of(future))
        await asyncio.sleep(0)
        future.set_exception(KeyError("it"))
        with pytest.raises(KeyError):
            await landed

    asyncio.run(scenario())


def test_hanging_up_does_not_cancel_the_work_behind():
    async def scenario():
        future = Future()
        landed = asyncio.create_task(Landing().of(future))
        await asyncio.sleep(0)
        landed.cancel()
        with pytest.raises(asyncio.CancelledError):
            await landed
        assert not future.cancelled()
        future.set_result("stored all the same")
        await asyncio.sleep(0)

    asyncio.run(scenario())
