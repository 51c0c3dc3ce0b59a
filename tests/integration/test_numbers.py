"""Numbers on their way from PostgreSQL to Python handlers and to the JSON that a browser parses."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

from pgevents_push import ChangeEvent
from pgevents_push.hub import View
from pgevents_push.transports.change_json import change_json
from tests.fixtures.patience import wait_until
from tests.fixtures.postgres import Database
from tests.fixtures.shop import Shop

# column type, SQL value, what a handler gets, what JSON.parse gets
CASES: list[tuple[str, str, Any, Any]] = [
    ("smallint", "-32768", -32768, -32768),
    ("int", "2147483647", 2147483647, 2147483647),
    ("bigint", "9007199254740991", 2**53 - 1, 2**53 - 1),
    ("bigint", "9007199254740992", 2**53, "9007199254740992"),
    ("bigint", "-9223372036854775808", -(2**63), "-9223372036854775808"),
    ("numeric", "0.1", 0.1, 0.1),
    ("numeric(10,2)", "1.5", 1.5, 1.5),
    ("numeric", "12345678901234567890.12345", Decimal("12345678901234567890.12345"), "12345678901234567890.12345"),
    ("numeric", "18446744073709551616", 2**64, "18446744073709551616"),
    ("numeric", "1e-30", 1e-30, 1e-30),
    ("numeric", "'NaN'", "NaN", "NaN"),
    ("numeric", "'Infinity'", "Infinity", "Infinity"),
    ("float8", "'NaN'", "NaN", "NaN"),
    ("float8", "'-Infinity'", "-Infinity", "-Infinity"),
    ("float8", "0.1", 0.1, 0.1),
    ("float8", "1e300", 1e300, 1e300),
    ("float8", "5e-324", 5e-324, 5e-324),
    ("float8", "123456789.123456789", 123456789.12345679, 123456789.12345679),
    ("float4", "0.1", 0.1, 0.1),
    ("bigint[]", "'{1,9007199254740993}'", [1, 2**53 + 1], [1, "9007199254740993"]),
    (
        "jsonb",
        """'{"n": 9007199254740993, "f": 1.10}'""",
        {"n": 2**53 + 1, "f": 1.1},
        {"n": "9007199254740993", "f": 1.1},
    ),
    ("json", """'{"n" : 1e400}'""", {"n": Decimal("1e400")}, {"n": "1e400"}),
    ("text", "'9007199254740993'", "9007199254740993", "9007199254740993"),
    ("money", "12.34", "$12.34", "$12.34"),
    ("bigint", "NULL", None, None),
]


def test_every_kind_of_number_arrives_exactly(shop: Shop, database: Database) -> None:
    columns = ", ".join(f"c{at} {kind}" for at, (kind, *_) in enumerate(CASES))
    database.execute(f"CREATE TABLE numbers (id bigint PRIMARY KEY, {columns})")
    events: list[ChangeEvent] = []
    shop.events.on_change("numbers")(events.append)
    shop.register().start()
    values = ", ".join(value for _, value, *_ in CASES)
    database.execute("SET lc_monetary = 'C'")
    database.execute(f"INSERT INTO numbers VALUES (9223372036854775807, {values})".replace("%", "%%"))
    database.execute("DELETE FROM numbers")
    wait_until(lambda: len(events) == 2)
    insert, delete = events
    view = View(insert.table_name, frozenset({"insert", "delete"}), None, None, lambda event, view: None)
    seen_by_browser = json.loads(change_json(insert, view) or "")
    assert insert.pk == delete.pk == {"id": 2**63 - 1}
    assert seen_by_browser["pk"] == {"id": "9223372036854775807"}
    assert insert.row is not None
    for at, (kind, value, handler, browser) in enumerate(CASES):
        if kind == "money":  # the server's locale spells it
            continue
        got, shown = insert.row[f"c{at}"], seen_by_browser["row"][f"c{at}"]
        assert (got, type(got)) == (handler, type(handler)), (kind, value)
        assert (shown, type(shown)) == (browser, type(browser)), (kind, value)
    assert delete.old == insert.row
    assert math.isfinite(insert.row["c14"])


def test_a_change_in_the_last_digit_is_a_change(shop: Shop, database: Database) -> None:
    database.execute("CREATE TABLE numbers (id int PRIMARY KEY, big bigint, fine numeric)")
    events: list[ChangeEvent] = []
    shop.events.on_update("numbers")(events.append)
    shop.register().start()
    database.execute("INSERT INTO numbers VALUES (1, 9007199254740992, 0.12345678901234567890)")
    database.execute("UPDATE numbers SET big = 9007199254740993, fine = 0.12345678901234567891")
    wait_until(lambda: events)
    assert events[0].changed == ("big", "fine")
    assert events[0].old == {"big": 2**53, "fine": Decimal("0.12345678901234567890")}
    assert events[0].row == {"id": 1, "big": 2**53 + 1, "fine": Decimal("0.12345678901234567891")}
