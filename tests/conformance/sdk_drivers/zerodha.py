"""Trades through the official kiteconnect, unchanged but for its address; prints what it saw as JSON."""

import json
import os
import sys
import threading
import time

from kiteconnect import KiteConnect, KiteTicker
from kiteconnect import exceptions as errors

GIVEN = json.loads(sys.argv[1])
SYMBOL, EXCHANGE = GIVEN["symbol"], "NSE"
kite = KiteConnect(GIVEN["api_key"], root=GIVEN["url"], timeout=5)


def place(**fields):
    usual = {
        "variety": "regular",
        "exchange": EXCHANGE,
        "tradingsymbol": SYMBOL,
        "transaction_type": "BUY",
        "quantity": 10,
        "product": "MIS",
        "order_type": "LIMIT",
        "price": GIVEN["resting_price"],
    }
    fields = usual | fields
    if fields["order_type"] == "MARKET":
        del fields["price"]
    return kite.place_order(**fields)


def settled(order_id, *statuses, check=lambda row: True):
    deadline = time.monotonic() + 10
    while True:
        row = next(row for row in kite.orders() if row["order_id"] == order_id)
        if row["status"] in statuses and check(row):
            return row
        assert time.monotonic() < deadline, f"{order_id} stays {row['status']}"
        time.sleep(0.02)


def error_of(call):
    try:
        call()
    except errors.KiteException as error:
        return [type(error).__name__, error.code]
    raise AssertionError("no error")


found = {}
found["before login"] = error_of(kite.orders)
session = kite.generate_session("a-request-token", GIVEN["api_secret"])
found["session"] = [session["user_id"], session["access_token"], str(type(session["login_time"]).__name__)]
found["profile"] = kite.profile()["user_id"]

frames, opened = [], threading.Event()
ticker = KiteTicker(GIVEN["api_key"], kite.access_token, root=GIVEN["url"].replace("http", "ws"))
ticker.on_connect = lambda ws, response: opened.set()
ticker.on_order_update = lambda ws, data: frames.append(data)
ticker.connect(threaded=True)
assert opened.wait(10), "the ticker did not connect"

rested = place(tag="one")
found["rested"] = settled(rested, "OPEN")
kite.modify_order("regular", rested, quantity=25)
found["modified"] = settled(rested, "OPEN", check=lambda row: row["quantity"] == 25)["modified"]
kite.cancel_order("regular", rested)
found["cancelled"] = settled(rested, "CANCELLED")
found["history"] = [row["status"] for row in kite.order_history(rested)]
found["cancel again"] = error_of(lambda: kite.cancel_order("regular", rested))
found["cancel unknown"] = error_of(lambda: kite.cancel_order("regular", "2611229999999999999"))

filled = place(order_type="MARKET", market_protection=-1, tag="two")
found["filled"] = settled(filled, "COMPLETE")
found["trades"] = kite.order_trades(filled)
found["trades of the day"] = len(kite.trades())

found["without protection"] = error_of(lambda: place(order_type="MARKET"))
found["a tag of 21"] = error_of(lambda: place(tag="x" * 21))
found["off the tick"] = error_of(lambda: place(price=GIVEN["resting_price"] + 0.001))
sliced = kite.place_autoslice_order(
    "regular",
    EXCHANGE,
    SYMBOL,
    "BUY",
    GIVEN["freeze_quantity"] + 1,
    "MIS",
    "LIMIT",
    price=GIVEN["resting_price"],
    tag="cut",
)
found["slices"] = [len(sliced["children"]), settled(sliced["children"][0]["order_id"], "OPEN")["tags"]]
waiting = place(variety="amo", tag="amo")
found["amo"] = settled(waiting, "OPEN", "AMO REQ RECEIVED")["variety"]

found["book"] = sorted([row["tag"], row["status"]] for row in kite.orders() if row["tag"] in ("one", "two"))
found["funds"] = [kite.margins()["equity"]["net"], kite.margins("equity")["net"]]
found["position"] = [[row["tradingsymbol"], row["quantity"]] for row in kite.positions()["net"]]
found["holdings"] = kite.holdings()
line = {
    "exchange": EXCHANGE,
    "tradingsymbol": SYMBOL,
    "transaction_type": "BUY",
    "variety": "regular",
    "product": "MIS",
    "order_type": "LIMIT",
    "quantity": 10,
    "price": GIVEN["resting_price"],
}
found["order margins"] = kite.order_margins([line])[0]["total"]
found["basket margins"] = kite.basket_order_margins([line, line])["final"]["total"]
note = line | {"order_id": "1", "average_price": GIVEN["resting_price"]}
found["charges"] = kite.get_virtual_contract_note([note])[0]["charges"]["total"] > 0
found["quote"] = kite.ltp(f"{EXCHANGE}:{SYMBOL}")
listed = [row for row in kite.instruments(EXCHANGE) if row["tradingsymbol"] == SYMBOL]
found["instrument"] = [listed[0]["instrument_token"], listed[0]["tick_size"]]

deadline = time.monotonic() + 10
while not any(f["order_id"] == filled and f["status"] == "COMPLETE" for f in frames):
    assert time.monotonic() < deadline, "the fill was not streamed"
    time.sleep(0.02)
found["streamed checksum"] = frames[0]["checksum"]

kite.invalidate_access_token()
found["after logout"] = error_of(kite.orders)

print(json.dumps(found, default=str), flush=True)
os._exit(0)  # Twisted's reactor runs in a daemon thread and has nothing more to say
