"""Ids sort by their time; tags are as different as the ids they come from."""

from __future__ import annotations

import re
import subprocess
import sys
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.ids import broker_tag, is_our_tag, new_id


def test_ids_are_unique_and_sort_by_their_time() -> None:
    ids = [new_id() for _ in range(5_000)]

    assert len(set(ids)) == len(ids)
    assert [id_[:13] for id_ in ids] == sorted(id_[:13] for id_ in ids)
    assert {uuid.UUID(id_).version for id_ in ids} == {7}


def test_two_forks_of_one_process_draw_different_random_bits() -> None:
    script = """
import os
from domain.ids import new_id
new_id()
for _ in range(2):
    if os.fork() == 0:
        print(new_id()[19:], flush=True)
        os._exit(0)
    os.wait()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)

    first, second = done.stdout.split()
    assert first != second


@given(st.uuids(version=4).map(str))
def test_a_tag_is_nineteen_plain_characters_and_always_the_same(order_id: str) -> None:
    tag = broker_tag("QX", order_id)

    assert re.fullmatch(r"QX[0-9A-Z]{17}", tag)
    assert broker_tag("QX", order_id.upper()) == tag
    assert is_our_tag("QX", tag)
    assert not is_our_tag("QY", tag)


def test_orders_made_in_one_instant_have_different_tags() -> None:
    tags = {broker_tag("OC", new_id()) for _ in range(20_000)}

    assert len(tags) == 20_000


def test_two_ids_that_differ_in_their_random_bits_differ_in_their_tags() -> None:
    """36^17 holds 87 bits: all that is random in an id, and some of its time."""
    base = uuid.UUID(new_id()).int
    tags = {broker_tag("OC", str(uuid.UUID(int=base ^ (1 << bit)))) for bit in range(62)}

    assert len(tags) == 62


@pytest.mark.parametrize("installation", ["", "O", "OCX", "oc", "O-", "É1"])
def test_an_installation_is_two_plain_characters(installation: str) -> None:
    with pytest.raises(ValueError, match="installation"):
        broker_tag(installation, new_id())


@pytest.mark.parametrize("tag", [None, "", "OC", "OC" + "0" * 16, "OC" + "0" * 18, "OC" + "a" * 17, "XX" + "0" * 17])
def test_what_is_not_of_our_form_is_not_ours(tag: str | None) -> None:
    assert not is_our_tag("OC", tag)
