"""SQLAlchemy's dialect of psycopg2: how names are quoted, and what values the driver gets. It connects to nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.dialects.postgresql import psycopg2

_new: Any = psycopg2.dialect
DIALECT: Any = _new()
quote: Callable[[str], str] = DIALECT.identifier_preparer.quote_identifier
