"""The process that exports studies to a tracker, one after the other: `python -P -m worker.features.elsewhere.child`.
Each line on stdin is a request, which a line on stdout answers.

    stdin    {"study": number, "external": whether its runs are trained elsewhere, "live": whether it goes on,
             "to": address of the tracker, "server": address, "token": API token or ""}
    stdout   {"url": where the study is in the tracker}, or {"error": a sentence}
    stderr   output of the tracker's client, and tracebacks

It reads the study over REST, as `vezna export-study` does, in `VEZNA_HOME`: there `tensorboard:runs` and W&B's folders
lie.
"""

import json
import traceback

from app.cli.client import in_words
from app.domain.errors import Unauthenticated, VeznaError
from app.domain.messages import _
from vezna import Client
from vezna.trackers.targets import tracker_at
from vezna.trackers.writing import read_whole, write_study
from worker.children.child import answer_requests

MAX_BYTES = 4 * 2**30
"""Limit of writable memory."""
MAX_SECONDS = 3630
"""For a request; the control node gives up before."""


def answer(line: str) -> str:
    try:
        request = json.loads(line)
        with in_words(), Client(request["server"], token=request["token"]) as client:
            tracker = tracker_at(request["to"])
            study = read_whole(client, request["study"], external=request["external"])
            url = write_study(client, study, tracker, report=not request["live"], team_only=True)
            return json.dumps({"url": url})
    except Unauthenticated:
        text = _(
            "The server asks for a login. Set VEZNA_TRACKER_TOKEN of the control node to an API token with the "
            "scope read."
        )
        return _error(text)
    except VeznaError as error:
        return _error(error.message)
    except Exception as error:
        traceback.print_exc()
        return _error(_("The export failed (%(why)s).", why=f"{type(error).__name__}: {error}"))


def _error(message: str) -> str:
    return json.dumps({"error": message})


if __name__ == "__main__":
    answer_requests(answer, MAX_BYTES, MAX_SECONDS)
