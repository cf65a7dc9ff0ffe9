"""Waiting for work that a worker does on request: exports, pushes, parity checks, judgements."""

import os
from typing import Any

from app.cli.client import Client
from app.cli.shared import errors, say
from app.domain.errors import Invalid, VeznaError
from app.words.format import percent
from app.words.i18n import gettext as _
from app.words.i18n import stored
from app.words.runs.states import state_word

WAIT_SECONDS = 30
LIVE = ("queued", "running")


def once_succeeded(client: Client, path: str, work: dict[str, Any], name: str) -> dict[str, Any]:
    """Work as the server answered it, once it has succeeded; says how far it is meanwhile. `path`: of its kind; `name`:
    `Export 3`. Raises VeznaError if it has failed or was cancelled."""
    while work["status"] in LIVE:
        state, share = state_word(work["status"]), percent(work["progress"], 0)
        say(_("%(work)s: %(state)s, %(share)s done.", work=name, state=state, share=share), to=errors)
        work = client.get(f"{path}/{work['id']}", wait=WAIT_SECONDS)
    if work["status"] != "succeeded":
        raise VeznaError(stored(work["message"]) or _("%(work)s was cancelled.", work=name))
    return work


def server_key(variable: str) -> str:
    """The API key of a server, from an environment variable; empty without a name. Raises Invalid if it is not set."""
    key = os.environ.get(variable, "") if variable else ""
    if variable and not key:
        raise Invalid(
            _("The environment variable %(key_env)s is not set. Set it to the server's API key.", key_env=variable)
        )
    return key
