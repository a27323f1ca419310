from __future__ import annotations

from pathlib import Path

import pytest

from ops.exits import Exit, Failed
from ops.orderfile import read_orders

TEXT = """{
  "maxUnsentSec": 60,
  "orders": [
    {"correlationId": "a",
     "quantity": 1},
    {"correlationId": "b", "note": "] } , \\" [",
     "quantity": 0}
  ]
}
"""


def written(text):
    Path("o.json").write_text(text)
    return read_orders(Path("o.json"))


@pytest.mark.parametrize(
    ("pointer", "place"),
    [
        ("/orders/1/quantity", "o.json:7 line 2 (b) quantity"),
        ("/orders/0", "o.json:4 line 1 (a)"),
        ("/orders/1/price", "o.json:6 line 2 (b) price"),  # missing: its order is the nearest thing
        ("/orders/9/price", "o.json:3 line 10 price"),
        ("/maxUnsentSec", "o.json:2 maxUnsentSec"),
        ("/", "o.json:1"),
        ("", "o.json:1"),
    ],
)
def test_a_pointer_leads_to_its_row_and_line(pointer, place):
    assert written(TEXT).place_of(pointer) == place


def test_a_bare_list_is_the_orders_and_its_pointers_still_lead_there():
    orders = written('[{"quantity": 1},\n {"quantity": 0}]')

    assert orders.request == {"orders": [{"quantity": 1}, {"quantity": 0}]}
    assert orders.place_of("/orders/1/quantity") == "o.json:2 line 2 quantity"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"orders": [}', "o.json:1:13"),
        ('{"lines": []}', 'no list "orders"'),
        ('{"orders": 3}', 'no list "orders"'),
        ('{"orders": [{"quantity": 10, "quantity": 100}]}', '"quantity" is given twice'),
        ('{"orders": [{"price": NaN}]}', "NaN is no number"),
    ],
)
def test_a_file_of_another_form_is_a_usage_error_that_says_what_is_wrong(text, told):
    with pytest.raises(Failed, match=r"o\.json") as caught:
        written(text)

    assert caught.value.exit_code is Exit.USAGE
    assert told in caught.value.message


def test_a_file_that_is_not_there_is_a_usage_error():
    with pytest.raises(Failed, match=r"nowhere\.json can't be read"):
        read_orders(Path("nowhere.json"))


def test_a_byte_order_mark_is_no_reason_to_fail():
    Path("o.json").write_bytes(b'\xef\xbb\xbf{"orders": []}')

    assert read_orders(Path("o.json")).request == {"orders": []}
