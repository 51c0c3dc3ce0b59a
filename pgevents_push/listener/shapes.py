"""Shapes: what the columns of tables are at this moment, as texts that change when they do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Any

from pgevents_push.event import Shape, Shapes, TableName
from pgevents_push.listener.batch import Batch
from pgevents_push.listener.statements import prepared, statement

Execute = Callable[..., list[tuple[Any, ...]]]

_SHAPES, _XMAX = prepared("shapes.sql"), statement("xmax.sql")


def read_shapes(execute: Execute, tables: Iterable[TableName]) -> Shapes:
    """Ask for the columns of some tables; a table that is not there has none."""
    wanted = list(tables)
    parameters = {"schemas": [table.schema for table in wanted], "tables": [table.name for table in wanted]}
    found = execute(_SHAPES, parameters) if wanted else []
    there = {TableName(schema, name): shape or {} for schema, name, shape in found}
    return {table: there.get(table, {}) for table in wanted}


def read_shape(execute: Execute, table: TableName) -> Shape:
    """Ask for the columns of a table; none when it is not there."""
    return read_shapes(execute, [table])[table]


@lru_cache(maxsize=64)
def parse_shapes(text: str | None) -> Shapes:
    """Read what since.sql says of the columns. It says mostly what it said the last time."""
    return {TableName(schema, name): shape or {} for schema, name, shape in json.loads(text or "[]")}


def with_shapes(execute: Execute, batch: Batch, watched: Callable[[TableName], bool]) -> Batch:
    """Add what the columns of the changed tables are, where somebody wants to know and the reading did not say it.
    Asked for behind it: where they are what they were before it, no change in it was made under another definition."""
    wanted = set(filter(watched, {event.table_name for event in batch.events}))
    if wanted == batch.shapes.keys():
        return batch
    known = {table: shape for table, shape in batch.shapes.items() if table in wanted}
    return replace(batch, shapes={**known, **read_shapes(execute, wanted - known.keys())})


def read_xmax(execute: Execute) -> int:
    """Ask for the transaction before which the last one has ended, in 64 bits."""
    [[xmax]] = execute(_XMAX)
    return int(xmax)
