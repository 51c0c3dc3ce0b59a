"""`flask pgevents …`: install, uninstall, status, sql, prune, tail, doctor and types from the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace

import click
from flask import current_app
from flask.cli import AppGroup

from pgevents_push.capture import Retention, Status, ddl, resolve, uninstall_ddl
from pgevents_push.cursor import Cursor
from pgevents_push.doctor import Finding, examine, worst
from pgevents_push.errors import ConnectionLost, CursorError, PGEventsError
from pgevents_push.event import CHANGE_TYPES, ChangeEvent, TableName
from pgevents_push.extension import Runtime
from pgevents_push.hub import View
from pgevents_push.listener import Connection, Doorbell, is_kept, read_position, read_since
from pgevents_push.listener import prune as prune_log
from pgevents_push.transports.change_json import change_json
from pgevents_push.typescript import Member, read_members, render

CAPTURED = ("current", "outdated")  # an outdated trigger still writes a log that can be read

pgevents = AppGroup("pgevents", help="Changes in PostgreSQL: install the triggers, look at them, watch.")


def _runtimes() -> list[Runtime]:
    runtimes = list(current_app.extensions.get("pgevents", {}).values())
    if not runtimes:
        raise click.ClickException(
            "No PGEvents blueprint is registered with this app: app.register_blueprint(pgevents_bp)"
        )
    return runtimes


def _runtime(name: str | None) -> Runtime:
    if name is None:
        return _runtimes()[0]
    known = current_app.extensions.get("pgevents", {})
    if name not in known:
        raise click.ClickException(f"No PGEvents {name!r} is registered. There is: {', '.join(known) or 'none'}.")
    runtime: Runtime = known[name]
    return runtime


def _tables(runtime: Runtime, names: tuple[str, ...]) -> list[TableName]:
    if not names:
        return runtime.tables
    try:
        return [resolve(name, runtime.config.default_schema).name for name in names]
    except PGEventsError as error:
        raise click.ClickException(str(error)) from None


instance = click.option("--instance", help="Which PGEvents, by blueprint name. Defaults to the first one.")
tables = click.argument("names", metavar="[TABLE]...", nargs=-1)


@pgevents.command()
@tables
@click.option("--reader", help="A role that shall be able to listen, when another one installs.")
@instance
def install(names: tuple[str, ...], reader: str | None, instance: str | None) -> None:
    """Install the log and the triggers; by default of all tables that the app declares."""
    runtime = _runtime(instance)
    try:
        status = runtime.installer().install(_tables(runtime, names), reader=reader, force=True)
    except PGEventsError as error:
        raise click.ClickException(str(error)) from None
    _print(replace(status, orphans=tuple(name for name in status.orphans if name not in runtime.tables)))
    if names:
        _refuse_absent(status)


def _refuse_absent(status: Status) -> None:
    """A declared table may come later, but one that somebody typed is a misspelt one."""
    if absent := [str(name) for name, word in status.tables.items() if word == "absent"]:
        raise click.ClickException(
            f"No such table in the database: {', '.join(absent)}. Names are exact, capitals too."
        )


@pgevents.command()
@tables
@click.option("--all", "everything", is_flag=True, help="Everything of ours: all triggers, the log, the schema.")
@instance
def uninstall(names: tuple[str, ...], everything: bool, instance: str | None) -> None:
    """Remove the triggers of tables; with --all leave nothing of ours in the database."""
    runtime = _runtime(instance)
    chosen = None if everything else _tables(runtime, names)
    try:
        if names and chosen:
            _refuse_absent(runtime.installer().status(chosen))
        runtime.installer().uninstall(chosen, everything=everything)
    except PGEventsError as error:
        raise click.ClickException(str(error)) from None
    click.echo("Removed everything." if chosen is None else f"Removed: {', '.join(map(str, chosen))}.")


@pgevents.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@instance
def status(as_json: bool, instance: str | None) -> None:
    """Show what is installed. Exit code 1 when something is missing or out of date."""
    runtime = _runtime(instance)
    try:
        found = runtime.installer().status(runtime.tables)
    except PGEventsError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps(_as_dict(found), indent=2))
    else:
        _print(found)
    raise SystemExit(0 if found.complete else 1)


def _as_dict(status: Status) -> dict[str, object]:
    return {
        "schema": status.schema,
        "tables": {str(name): word for name, word in status.tables.items()},
        "orphans": [str(name) for name in status.orphans],
        "complete": status.complete,
    }


def _print(status: Status) -> None:
    width = max([len("schema pgevents"), *(len(str(name)) for name in status.tables)])
    click.echo(f"{'schema pgevents':{width}}  {status.schema}")
    for name, word in status.tables.items():
        click.echo(f"{name!s:{width}}  {word}{f': {status.refused[name]}' if name in status.refused else ''}")
    for name in status.orphans:
        click.echo(f"{name!s:{width}}  orphan: captured, but no longer declared (flask pgevents uninstall {name})")
    if not status.complete:
        click.echo("Run: flask pgevents install", err=True)


@pgevents.command()
@tables
@click.option("--uninstall", "removing", is_flag=True, help="Print what removes the tables' triggers, or everything.")
@instance
def sql(names: tuple[str, ...], removing: bool, instance: str | None) -> None:
    """Print all DDL without connecting: for reviewers, DBAs and migrations."""
    runtime = _runtime(instance)
    config = runtime.config
    timeout = config.lock_timeout_seconds
    if removing:
        script = uninstall_ddl(_tables(runtime, names) if names else (), lock_timeout_seconds=timeout)
    else:
        tables = _tables(runtime, names)
        kept = Retention(config.retention_seconds, config.retention_rows)
        script = ddl(
            tables,
            max_row_bytes=config.max_row_bytes,
            retention=kept,
            lock_timeout_seconds=timeout,
            modes=runtime.mode,
        )
    click.echo(script, nl=False)


@pgevents.command()
@instance
def prune(instance: str | None) -> None:
    """Empty what the log need not keep any longer. Listeners do it by themselves; more often does no harm."""
    runtime = _runtime(instance)
    try:
        connection = Connection(runtime.database.dsn, runtime.config.connect_timeout_seconds)
        try:
            found = prune_log(connection.execute)
        finally:
            connection.close()
    except PGEventsError as error:
        raise click.ClickException(str(error)) from None
    for slot, about_rows, emptied in sorted(found):
        click.echo(f"pgevents.log_{slot}  {f'emptied, about {about_rows} changes' if emptied else 'in use, later'}")
    if not found:
        click.echo("Nothing to empty.")


@pgevents.command()
@tables
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, as browsers get it.")
@click.option("--since", help="A cursor: go on after it instead of from now.")
@instance
def tail(names: tuple[str, ...], as_json: bool, since: str | None, instance: str | None) -> None:
    """Print changes as they are committed, until Ctrl-C."""
    runtime = _runtime(instance)
    wanted = set(_tables(runtime, names))
    try:
        _warn_of_silence(runtime.installer().status(sorted(wanted)))
        for event in _events(runtime, since):
            if event.table_name in wanted:
                click.echo(_line(event, as_json))
    except PGEventsError as error:
        raise click.ClickException(str(error)) from None


def _warn_of_silence(status: Status) -> None:
    """Who waits for changes should know why none will come."""
    if status.schema == "missing":
        raise click.ClickException("Nothing is installed in this database. Run: flask pgevents install")
    if not status.tables:
        click.echo("This app declares no table: name one, or declare a handler or expose().", err=True)
    for name, word in status.tables.items():
        if word not in CAPTURED:
            click.echo(f"{name} is {word}: nothing of it will be shown. Run: flask pgevents status", err=True)


def _events(runtime: Runtime, since: str | None) -> Iterator[ChangeEvent]:
    connection = Connection(runtime.database.dsn, runtime.config.connect_timeout_seconds)
    doorbell = Doorbell(connection, runtime.config.poll_seconds, runtime.config.wakeup)
    doorbell.hang()
    cursor = read_position(connection.execute)
    if since is not None:
        given = Cursor.parse(since)
        if given.epoch != cursor.epoch:
            raise ConnectionLost("This cursor is of another database, or from before it was restored.")
        cursor = given
    while True:
        found, start = 0, cursor
        for batch in read_since(connection.execute, cursor, runtime.config.max_batch_events):
            cursor, found = batch.cursor, found + sum(event.last for event in batch.events)
            yield from batch.events
        if not is_kept(connection.execute, start.snapshot):
            raise CursorError(f"Changes are missing: the log does not reach back to {start}.")
        doorbell.wait(found)


def _line(event: ChangeEvent, as_json: bool) -> str:
    if as_json:
        view = View(event.table_name, frozenset(CHANGE_TYPES), None, None, lambda event, view: None)
        return change_json(event, view) or ""
    shown = event.row_json or event.old_json or ""
    return f"{event.at_text}  {event.type:8}  {event.table_name}  {event.pk_json}  {shown}"


@pgevents.command()
@click.option("--url", help="A stream as users reach it, https://…/pgevents/stream?table=…: is it held back?")
@click.option("--header", "headers", multiple=True, help='For that request: "Cookie: …". May be given several times.')
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@instance
def doctor(url: str | None, headers: tuple[str, ...], as_json: bool, instance: str | None) -> None:
    """Examine database, triggers, this process and, with --url, the proxy. Exit code 1 when something does not work."""
    named = [header.partition(":") for header in headers]
    findings = examine(_runtime(instance), url, {name.strip(): value.strip() for name, _, value in named})
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False))
    else:
        for finding in findings:
            _print_finding(finding)
    raise SystemExit(1 if worst(findings) == "error" else 0)


_COLOURS = {"ok": "green", "note": "blue", "warning": "yellow", "error": "red"}


def _print_finding(finding: Finding) -> None:
    click.echo(f"{click.style(f'{finding.severity:7}', fg=_COLOURS[finding.severity])}  {finding.what}")
    if finding.cure:
        click.echo(f"{'':7}  → {finding.cure}")


@pgevents.command()
@click.option("--module", default="./pgevents.js", show_default=True, help="Where pgevents.js is, for the import.")
@instance
def types(module: str, instance: str | None) -> None:
    """Print TypeScript types of the exposed tables: flask pgevents types > tables.ts"""
    runtime = _runtime(instance)
    try:
        connection = runtime.connect()
    except ConnectionLost as error:
        raise click.ClickException(str(error)) from None
    try:
        found = {table: _shown(runtime, connection, table) for table in runtime.gate.exposed}
    finally:
        connection.close()
    click.echo(render(found, runtime.config.default_schema, module), nl=False)


def _shown(runtime: Runtime, connection: Connection, table: TableName) -> list[Member]:
    members = read_members(connection.execute, table)
    if not members:
        raise click.ClickException(f"{table} is exposed, but there is no such table in the database.")
    exposure = runtime.gate.exposure(table)
    visible = None if exposure is None else exposure.columns
    key_only = exposure is not None and exposure.key_only
    return [m for m in members if (visible is None or m.name in visible) and (m.in_key or not key_only)]
