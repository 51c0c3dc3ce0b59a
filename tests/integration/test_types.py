"""`flask pgevents types`: TypeScript that says what comes over the wire, for any name and type, and compiles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask

from pgevents_push.cli import pgevents
from pgevents_push.event import TableName
from pgevents_push.typescript import Member, render
from tests.browser.node import HERE, packages, run_node
from tests.fixtures.postgres import Database
from tests.fixtures.shop import MakeShop, Shop

EVERYTHING = """
CREATE TYPE mood AS ENUM ('fine', 'so "so"');
CREATE TYPE place AS (x int, y int);
CREATE DOMAIN email AS text NOT NULL;
CREATE DOMAIN grades AS int[];
CREATE SCHEMA "Back Office";
CREATE TABLE "Back Office"."all-types" (
  "Id" bigint PRIMARY KEY, small smallint NOT NULL, n numeric, f float8, flag boolean NOT NULL, at timestamptz,
  mood mood, moods mood[], doc jsonb NOT NULL, place place, address email, grades grades, "weird ""name" text, u uuid,
  secret text
)"""

CLIENT = Path(__file__).parents[2] / "static" / "pgevents.js"
# What a user may write with what was printed. Each @ts-expect-error must be an error.
USE = """
import { connect, liveTable } from "CLIENT";
import type { OrdersChange, Tables } from "./tables.js";

const hub = connect<Tables>();
hub.table("orders").on("*", (change: OrdersChange) => change.row?.status.toUpperCase());
for await (const { row } of hub.table("Back Office.all-types", { columns: ["Id", "mood"] })) {
  const fine: boolean = row?.mood === 'so "so"';
  row?.grades?.map((grade) => grade?.toFixed());
  // @ts-expect-error no such mood
  const bad: boolean = row?.mood === "bad";
  // @ts-expect-error it may be NULL
  row?.moods.length;
}
// @ts-expect-error not exposed
hub.table("orders", { columns: ["secret"] });
const first: number | undefined = liveTable(hub, "orders", { sort: (a, b) => a.id - b.id }).rows[0]?.id;
// @ts-expect-error not exposed
liveTable(hub, "Back Office.all-types").rows[0]?.secret;
export { first };
"""
STRICT = ["--strict", "--noEmit", "--target", "esnext", "--module", "nodenext", "--lib", "esnext,dom,dom.iterable"]


def types(app: Flask, *arguments: str) -> Result:
    return app.test_cli_runner().invoke(pgevents, ["types", *arguments])


def expose_everything(make_shop: MakeShop, database: Database) -> Shop:
    shop = make_shop()
    shop.create_all()
    database.execute(EVERYTHING)
    shop.events.expose(shop.Order, columns=["id", "status"], public=True)
    visible = ["Id", "small", "n", "f", "flag", "at", "mood", "moods", "doc", "place", "address", "grades", "u"]
    shop.events.expose('"Back Office"."all-types"', columns=[*visible, 'weird "name'], public=True)
    return shop.register()


def test_the_client_takes_what_is_printed(make_shop: MakeShop, database: Database, tmp_path: Path) -> None:
    printed = types(expose_everything(make_shop, database).app, "--module", str(CLIENT))
    assert printed.exit_code == 0, printed.output
    (tmp_path / "tables.ts").write_text(printed.output)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "use.ts").write_text(USE.replace("CLIENT", str(CLIENT)))
    done = run_node(packages(HERE) / "typescript" / "bin" / "tsc", *STRICT, tmp_path / "use.ts")
    assert done.returncode == 0, done.stdout


def test_every_type_is_what_the_wire_carries(make_shop: MakeShop, database: Database) -> None:
    shop = expose_everything(make_shop, database)
    done = types(shop.app, "--module", "/pgevents/static/pgevents.js")
    assert done.exit_code == 0, done.output
    assert (
        done.output
        == """\
// Made by `flask pgevents types`: the rows of what this app exposes, as pgevents.js gives them.
import type { Change } from "/pgevents/static/pgevents.js";

/** Back Office.all-types */
export interface BackOfficeAllTypes {
  Id: number | string;
  small: number;
  n: number | string | null;
  f: number | string | null;
  flag: boolean;
  at: string | null;
  mood: "fine" | "so \\"so\\"" | null;
  moods: ("fine" | "so \\"so\\"" | null)[] | null;
  doc: unknown;
  place: Record<string, unknown> | null;
  address: string;
  grades: (number | null)[] | null;
  "weird \\"name": string | null;
  u: string | null;
}
export type BackOfficeAllTypesChange = Change<BackOfficeAllTypes>;

/** public.orders */
export interface Orders {
  id: number;
  status: string;
}
export type OrdersChange = Change<Orders>;

export interface Tables {
  "Back Office.all-types": BackOfficeAllTypes;
  orders: Orders;
}
"""
    )
    assert "secret" not in done.output


def test_a_table_that_is_not_there_is_named(make_shop: MakeShop) -> None:
    shop = make_shop()
    shop.events.expose("nowhere", columns="*", public=True)
    shop.register()
    done = types(shop.app)
    assert done.exit_code == 1
    assert "public.nowhere" in done.output


@pytest.mark.parametrize("names", [("a_b", "a-b", "aB"), ("tables", "change"), ("a", "a_change"), ("1st", "таблица")])
def test_no_two_interfaces_share_a_name(names: tuple[str, ...]) -> None:
    tables = {TableName("public", name): [Member("id", True, False, "integer")] for name in names}
    lines = render(tables, "public", "./x.js").splitlines()
    declared = [line.split()[2] for line in lines if line.startswith(("export interface", "export type"))]
    assert len(declared) == len(set(declared)) == 2 * len(names) + 1
    assert "Change" not in declared
    assert all(any(json.dumps(n) in line or f"  {n}:" in line for line in lines) for n in names)


@pytest.mark.parametrize(
    "table", [TableName("public", 'a.b"c'), TableName("x.y", "z"), TableName("other", "Mixed Case")]
)
def test_a_client_may_ask_by_the_name_that_is_printed(table: TableName) -> None:
    text = render({table: []}, "public", "./x.js")
    [entry] = text.split("interface Tables {\n")[1].splitlines()[:1]
    assert TableName.parse(json.loads(entry.strip().rpartition(":")[0])) == table
