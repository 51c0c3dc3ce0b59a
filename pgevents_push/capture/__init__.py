"""Make the database speak: the log, its triggers, and nothing but DDL."""

from pgevents_push.capture.installer import Installer, install_with
from pgevents_push.capture.render import (
    MODES,
    Mode,
    Modes,
    Retention,
    ddl,
    schema_statements,
    table_statements,
    uninstall_ddl,
    uninstall_statements,
    uninstall_table_statements,
)
from pgevents_push.capture.status import Status
from pgevents_push.capture.tables import Target, literal, quote, quoted, resolve

__all__ = [
    "MODES",
    "Installer",
    "Mode",
    "Modes",
    "Retention",
    "Status",
    "Target",
    "ddl",
    "install_with",
    "literal",
    "quote",
    "quoted",
    "resolve",
    "schema_statements",
    "table_statements",
    "uninstall_ddl",
    "uninstall_statements",
    "uninstall_table_statements",
]
