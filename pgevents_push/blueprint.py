"""PGEvents: the decorators, and the blueprint that brings routes and listener into an app. And the default one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

from flask import Blueprint, Flask, Response, current_app, json, request
from flask.blueprints import BlueprintSetupState

from pgevents_push import serving, waiting
from pgevents_push.config import Config
from pgevents_push.database import Database
from pgevents_push.declarations import Declarations
from pgevents_push.dropin import Pump
from pgevents_push.errors import ConfigurationError, NotRegisteredError, RequestError, ServerError, Unavailable
from pgevents_push.event import CHANGE_TYPES, ChangeType
from pgevents_push.extension import Runtime
from pgevents_push.handlers import Function, When
from pgevents_push.registrar import ChangeTarget
from pgevents_push.transports.gate import Authorize
from pgevents_push.transports.sse import open_stream

F = TypeVar("F", bound=Function)
