"""Trades through the official upstox-python-sdk, unchanged but for its address; prints what it saw as JSON."""

import json
import sys
import threading
import time

import upstox_client
from upstox_client.feeder.portfolio_data_feeder import PortfolioDataFeeder
from upstox_client.rest import ApiException

GIVEN = json.loads(sys.argv[1])
KEY = GIVEN["instrument_key"]
VERSION = "2.0"


def client(token):
    configuration = upstox_client.Configuration()
    configuration.host = configuration.order_host = GIVEN["url"]
    configuration.access_token = token
    return upstox_client.ApiClient(configuration)


api = client(GIVEN["access_token"])
v3, v2 = upstox_client.OrderApiV3(api), upstox_client.OrderApi(api)


def order(cls, **fields):
    usual = {
        "quantity": 10,
        "product": "I",
        "validity": "DAY",
        "price": 0,
        "instrument_token": KEY,
        "order_type": "MARKET",
        "transaction_type": "BUY",
        "disclosed_quantity": 0,
        "trigger_price": 0,
        "is_amo": False,
    }
    return cls(**(usual | fields))


def settled(order_id, *statuses):
    deadline = time.monotonic() + 10
    while True:
        row = v2.get_order_status(order_id=order_id).data
        if row.status in statuses:
            return row
        assert time.monotonic() < deadline, f"{order_id} stays {row.status}"
        time.sleep(0.02)


def error_of(call):
    try:
        call()
    except ApiException as error:
        return [error.status, json.loads(error.body)["errors"][0]["error_code"]]
    raise AssertionError("no error")


found = {}

frames, opened = [], threading.Event()
PortfolioDataFeeder.get_websocket_url = lambda self: (
    GIVEN["url"].replace("http", "ws") + "/v2/feed/portfolio-stream-feed"
)
streamer = upstox_client.PortfolioDataStreamer(api)
streamer.on("open", opened.set)
streamer.on("message", lambda frame: frames.append(json.loads(frame)))
streamer.connect()
assert opened.wait(10), "the stream did not open"

price = GIVEN["resting_price"]
placed = v3.place_order(
    order(upstox_client.PlaceOrderV3Request, order_type="LIMIT", price=price, tag="one", slice=False)
)
rested = placed.data.order_ids[0]
found["rested"] = settled(rested, "open").to_dict()
changed = upstox_client.ModifyOrderRequest(
    order_id=rested, validity="DAY", price=price, order_type="LIMIT", trigger_price=0, quantity=25
)
v3.modify_order(changed)
found["modified"] = settled(rested, "open").quantity if settled(rested, "open").quantity == 25 else None
deadline = time.monotonic() + 10
while found["modified"] != 25 and time.monotonic() < deadline:
    found["modified"] = v2.get_order_status(order_id=rested).data.quantity
v3.cancel_order(rested)
found["cancelled"] = settled(rested, "cancelled").to_dict()
found["history"] = [row.status for row in v2.get_order_details(VERSION, tag="one").data]
found["cancel again"] = error_of(lambda: v3.cancel_order(rested))
found["cancel unknown"] = error_of(lambda: v3.cancel_order("261122999999999"))

filled = v3.place_order(order(upstox_client.PlaceOrderV3Request, tag="two", slice=False)).data.order_ids[0]
found["filled"] = settled(filled, "complete").to_dict()
found["trades"] = [row.to_dict() for row in v2.get_trades_by_order(filled, VERSION).data]
found["trades of the day"] = len(v2.get_trade_history(VERSION).data)

old = v2.place_order(order(upstox_client.PlaceOrderRequest, order_type="LIMIT", price=price, tag="old"), VERSION)
settled(old.data.order_id, "open")
v2.cancel_order(old.data.order_id, VERSION)
found["v2"] = settled(old.data.order_id, "cancelled").status

lines = [
    order(
        upstox_client.MultiOrderRequest,
        correlation_id=f"L{n}",
        tag=f"multi{n}",
        slice=False,
        order_type="LIMIT",
        price=price,
    )
    for n in range(3)
]
answer = v2.place_multi_order(lines)
found["multi"] = {
    "status": answer.status,
    "lines": [row.correlation_id for row in answer.data],
    "summary": answer.summary.to_dict(),
    "errors": [[row.correlation_id, row.error_code] for row in answer.errors or []],
}
lines[1].quantity = 0
found["multi with a bad line"] = error_of(lambda: v2.place_multi_order(lines))
for row in answer.data:
    settled(row.order_id, "open")
swept = v2.cancel_multi_order(tag="multi0")
found["cancel multi"] = [swept.status, len(swept.data.order_ids), settled(swept.data.order_ids[0], "cancelled").status]

found["book"] = sorted([row.tag, row.status] for row in v2.get_order_book(VERSION).data)
found["funds"] = upstox_client.UserApi(api).get_user_fund_margin(VERSION).data["equity"].available_margin
position = upstox_client.PortfolioApi(api).get_positions(VERSION).data[0]
found["position"] = [position.instrument_token, position.quantity]
quote = upstox_client.MarketQuoteV3Api(api).get_ltp(instrument_key=KEY).data
found["quote"] = [[name, row.instrument_token] for name, row in quote.items()]
charges = upstox_client.ChargeApi(api).get_brokerage(KEY, 10, "I", "BUY", price, VERSION).data.charges
found["brokerage"] = charges.total > 0
found["dead token"] = error_of(lambda: upstox_client.OrderApi(client("nobody")).get_order_book(VERSION))

deadline = time.monotonic() + 10
while not any(f["order_id"] == filled and f["status"] == "complete" for f in frames):
    assert time.monotonic() < deadline, "the fill was not streamed"
    time.sleep(0.02)
found["streamed"] = [frame["status"] for frame in frames if frame["order_id"] == filled]
streamer.disconnect()

print(json.dumps(found, default=str))
