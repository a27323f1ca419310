"""No request makes the simulator itself fail: whatever comes is answered in the broker's own words."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulator_client import INFY, UPSTOX_LINE, ZERODHA_FORM, a_client

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
KNOWN = {"instrument_key": f"NSE_EQ|{INFY.isin}", "tradingsymbol": "INFY", "exchange": "NSE", **UPSTOX_LINE}
BODY = JUNK | st.lists(
    st.dictionaries(st.sampled_from(sorted(KNOWN)), JUNK, max_size=4).map(lambda change: KNOWN | change), max_size=3
)
UPSTOX_WRITES = [
    ("POST", "/v3/order/place"),
    ("POST", "/v2/order/multi/place"),
    ("PUT", "/v3/order/modify"),
    ("POST", "/v2/charges/margin"),
]
QUERY = st.dictionaries(
    st.sampled_from(
        ["order_id", "tag", "segment", "instrument_key", "quantity", "price", "start_date", "page_size", "i"]
    ),
    st.text(max_size=8),
)
READS = {
    "upstox": ["/v2/order/history", "/v2/order/details", "/v3/market-quote/ltp", "/v2/charges/brokerage"],
    "zerodha": ["/quote", "/quote/ltp", "/user/margins/x", "/orders/1", "/orders/1/trades", "/instruments/NSE"],
}
usual = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def client():
    with a_client() as client:
        yield client


@usual
@given(call=st.sampled_from(UPSTOX_WRITES), body=BODY)
def test_upstox_writes(client, call, body):
    status, answer = client.upstox(*call, body)
    assert status in (200, 207, 400), answer

    status, answer = client.upstox(*call, {"instruments": body, "order_id": "1"})
    assert status in (200, 207, 400), answer


@usual
@given(path=st.sampled_from(["/margins/orders", "/margins/basket", "/charges/orders"]), body=BODY)
def test_zerodha_margins(client, path, body):
    headers = {"Authorization": "token sim-zerodha-key:sim-zerodha-token", "Content-Type": "application/json"}

    status, answer = client._call("zerodha", "POST", path, json.dumps(body), headers)

    assert status in (200, 400), answer


@usual
@given(change=st.dictionaries(st.sampled_from([*ZERODHA_FORM, "tag", "price", "autoslice"]), st.text(max_size=20)))
def test_zerodha_writes(client, change):
    for method, path in (("POST", "/orders/regular"), ("PUT", "/orders/regular/1"), ("POST", "/session/token")):
        status, answer = client.zerodha(method, path, ZERODHA_FORM | change)
        assert status in (200, 400, 403), answer


@usual
@given(facade=st.sampled_from(sorted(READS)), which=st.integers(0, 5), query=QUERY)
def test_reads(client, facade, which, query):
    paths = READS[facade]
    status, answer = getattr(client, facade)("GET", f"{paths[which % len(paths)]}?{urlencode(query)}")

    assert status in (200, 400), answer
