"""Doors: who comes into one process of one app, and who is shown out."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flask import Flask

from pgevents_push.config import Config
from pgevents_push.errors import ConnectionLost
from pgevents_push.event import ChangeEvent
from pgevents_push.extension.ledger import Ledger, revoked
from pgevents_push.listener import Connection
from pgevents_push.transports.entrance import Entrance, Identify
from pgevents_push.transports.places import Places
from pgevents_push.transports.ticket import Tickets

# Who was authorised before the listener had its first position may have been revoked since, and the listener reads
# nothing from before. Of the last seconds the log is asked; who was here earlier has to come back.
UNHEARD_SECONDS = 1.0


class Doors:
    """The places of a process, and the ledger that it shares with the others.

    :param identify: returns the app's own function, as it is declared at that moment.
    :param connect: opens a connection to the database.
    """

    def __init__(
        self,
        config: Config,
        tickets: Callable[[], Tickets],
        identify: Callable[[], Identify | None],
        connect: Callable[[], Connection],
    ) -> None:
        self._config, self._tickets, self._identify = config, tickets, identify
        self.places = Places(config)
        self._ledger = Ledger(connect)

    @property
    def entrance(self) -> Entrance:
        """The way in."""
        return Entrance(self.places, self._identify(), self._tickets(), self._ledger.spend, self._config)

    def hear(self, events: Iterable[ChangeEvent], *, first: bool) -> None:
        """Show out who is revoked among these changes, before anybody sees one of them: who may still see some comes
        back for them.

        :param first: the listener did not know before where it was.
        """
        unheard = self._unheard() if first else []
        for identity in (*unheard, *revoked(events)):
            self.places.end(identity, "revoked")

    def _unheard(self) -> list[str]:
        if not self.places.occupied():
            return []
        self.places.end_older(UNHEARD_SECONDS, "lost")
        try:
            return self._ledger.lately_revoked(2 * UNHEARD_SECONDS)
        except ConnectionLost:
            self.places.end_older(0, "lost")  # nobody can tell
            return []

    def revoke(self, identity: str) -> None:
        """Show an identity out, here at once, and in all other processes.

        :raises ConnectionLost: the others could not be told.
        """
        self.places.end(identity, "revoked")
        self._ledger.revoke(identity)

    def start(self) -> None:
        """Show out whose time is up, in the background."""
        self.places.start()

    def stop(self) -> None:
        """Do so no longer, and close the ledger. Stopped already: does nothing."""
        self.places.stop()
        self._ledger.close()


def tickets_of(app: Flask, config: Config, purpose: str) -> Tickets:
    """Return what issues and reads an app's tickets: signed with its secret key, as its sessions are."""
    old = app.config.get("SECRET_KEY_FALLBACKS") or ()
    keys = [_as_text(key) for key in (*old, app.secret_key)] if app.secret_key else []
    return Tickets(keys, purpose, config.default_schema, config.max_subscriptions)


def _as_text(key: str | bytes) -> str:
    return key.decode("latin-1") if isinstance(key, bytes) else key
