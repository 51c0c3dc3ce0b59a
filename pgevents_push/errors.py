"""The exceptions of this package: each docstring is the default message and names the remedy."""

from __future__ import annotations


class PGEventsError(Exception):
    """Something in pgevents_push went wrong."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or " ".join((self.__doc__ or "").split()))


class ConfigurationError(PGEventsError):
    """The configuration is wrong. See the settings table in the README."""


class DatabaseError(ConfigurationError, RuntimeError):
    """No PostgreSQL database is configured. Set SQLALCHEMY_DATABASE_URI or PGEVENTS_DATABASE_URL."""


class TargetError(ConfigurationError, ValueError):
    """A handler or expose() takes a model class, a Table or a "schema.table" string."""


class NotRegisteredError(ConfigurationError, RuntimeError):
    """This PGEvents has no app yet. Call app.register_blueprint(events.blueprint) or events.init_app(app) first."""


class ExposureError(ConfigurationError):
    """expose() needs authorize= (who may stream this table) or public=True (everybody may)."""


class FragmentError(PGEventsError):
    """A template of fragment() did not make one element with the row's id."""


class ServerError(PGEventsError):
    """This server cannot hold streams open. Use gunicorn -k gevent, gthread, or gevent.pywsgi after patching."""


class InstallError(PGEventsError):
    """The triggers could not be installed. Run `flask pgevents status` to see what is missing."""


class NotInstalledError(InstallError):
    """The triggers are missing or out of date, and PGEVENTS_INSTALL forbids to touch them.
    Run `flask pgevents install` as a role that owns the tables."""


class ConnectionLost(PGEventsError):
    """The connection to PostgreSQL is gone or did not answer in time."""


class Overdue(ConnectionLost):
    """PostgreSQL did not finish a statement in time."""


class Refused(ConnectionLost):
    """PostgreSQL refused a statement, and would do so again.

    `discreet`: what is wrong, without what PostgreSQL says of it where that may quote a value of a row.
    """

    def __init__(self, message: str, discreet: str) -> None:
        super().__init__(message)
        self.discreet = discreet


class Crowded(PGEventsError):
    """Many clients come back at once, and it is not this one's turn yet. Ask again: its place is kept."""


class CursorError(PGEventsError):
    """The text is not a cursor of pgevents_push."""


class RowsError(PGEventsError):
    """The rows of this table cannot be read. See: flask pgevents doctor"""

    def __init__(self, what: str | None = None, cure: str = "") -> None:
        super().__init__(f"{what} {cure}".strip() if what else None)
        self.what, self.cure = what or str(self), cure


class TooSlow(PGEventsError):
    """The snapshot took longer than PGEVENTS_SNAPSHOT_SECONDS: its client is slow, or it is too large. Ask for fewer
    rows (limit, filter) or columns."""


class Altered(PGEventsError):
    """The table was altered meanwhile: ask again."""


class BacklogError(CursorError):
    """More was missed since this cursor than can be read in time."""


class UnsupportedCondition(PGEventsError, ValueError):
    """This condition cannot be evaluated on changes exactly as PostgreSQL would."""


class RowSecurityError(PGEventsError):
    """Row-level security restricts nothing here. See the README, "Who may see what"."""


class RequestError(PGEventsError):
    """The request cannot be answered."""

    # The caller's fault, unlike everything above: it becomes problem+json or a WebSocket error message.
    status = 400
    title = "Bad request"

    def __init__(self, message: str | None = None, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BadParameter(RequestError):
    """A parameter is wrong."""


class Unauthorized(RequestError):
    """You must sign in to stream this table."""

    status = 401
    title = "Unauthorized"


class Forbidden(RequestError):
    """You may not stream this table."""

    status = 403
    title = "Forbidden"


class NotExposed(RequestError):
    """No such table is exposed here."""

    # One text for hidden and unknown tables: the answer must not tell which tables exist.
    status = 404
    title = "Not found"


class NotAcceptable(RequestError):
    """This resource is a text/event-stream; the Accept header excludes it."""

    status = 406
    title = "Not acceptable"


class TooManyConnections(RequestError):
    """You have as many streams open as one caller may have. Close some, or share one among your pages."""

    status = 429
    title = "Too many requests"


class UpgradeRequired(RequestError):
    """This URL speaks WebSocket only. For plain HTTP there is /pgevents/stream."""

    status = 426
    title = "Upgrade required"


class Unavailable(RequestError):
    """The server cannot take another stream now."""

    status = 503
    title = "Service unavailable"
