"""One app's part: what it declared, its database, and the parts that run in each process that serves it."""

from pgevents_push.extension.database import Database
from pgevents_push.extension.declarations import Declarations
from pgevents_push.extension.moment import moment
from pgevents_push.extension.runtime import Runtime
from pgevents_push.extension.serving import start_when_serving

__all__ = ["Database", "Declarations", "Runtime", "moment", "start_when_serving"]
