"""The post room: who asked for this change? Memory only; knows no database, no HTTP."""

from pgevents_push.hub.copies import Copy
from pgevents_push.hub.definition import Definition, Mark
from pgevents_push.hub.history import weight
from pgevents_push.hub.hub import Hub
from pgevents_push.hub.page import Page, Recall
from pgevents_push.hub.pending import Pending, look
from pgevents_push.hub.persona import Persona
from pgevents_push.hub.shipment import Chunk, Shipment
from pgevents_push.hub.sight import Sight
from pgevents_push.hub.stay import Stay
from pgevents_push.hub.subscription import CloseReason, Mailbox, Subscription, size_of
from pgevents_push.hub.view import Encode, View

__all__ = [
    "Chunk",
    "CloseReason",
    "Copy",
    "Definition",
    "Encode",
    "Hub",
    "Mailbox",
    "Mark",
    "Page",
    "Pending",
    "Persona",
    "Recall",
    "Shipment",
    "Sight",
    "Stay",
    "Subscription",
    "View",
    "look",
    "size_of",
    "weight",
]
