"""The inspector: a page for developers, with what this process hears, sends and does, and every change as it comes."""

from pgevents_push.inspector.views import add_inspector

__all__ = ["add_inspector"]
