"""The post room: who asked for this change? Memory only; knows no database, no HTTP."""

from pgevents_push.hub.hub import Hub
from pgevents_push.hub.page import Page, Recall
from pgevents_push.hub.subscription import CloseReason, Subscription
from pgevents_push.hub.view import View

__all__ = ["CloseReason", "Hub", "Page", "Recall", "Subscription", "View"]
