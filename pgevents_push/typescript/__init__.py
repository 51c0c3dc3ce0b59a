"""TypeScript for what an app exposes: asks PostgreSQL for the columns, and writes the types of rows and changes."""

from pgevents_push.typescript.members import Member, read_members
from pgevents_push.typescript.render import render

__all__ = ["Member", "read_members", "render"]
