"""The thread that sends what a script reports. It raises nothing into the script: it logs a line for each failure."""

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from vezna.client import Client
from vezna.errors import ClientError, Refused, Unreachable
from vezna.models import ENDED, RunState
from vezna.sending.buffer import Buffer, Closed, Record

log = logging.getLogger("vezna")
INTERVAL_SECONDS = 2.0
"""Seconds between batches."""
NEWS_SECONDS = 60.0
"""After which an empty batch says that the script goes on, and asks whether a person cancels the run."""
MOST_RECORDS = 1000
"""Records of a batch; the server takes 2,000 steps and 100 evaluations."""
MOST_EVALUATIONS = 100
LONGEST_PAUSE = 60.0
AGAIN = (408, 429, 500, 502, 503, 504)
"""Answers after which the same request may succeed."""


class Sender:
    """Sends one buffer to its server until the end has arrived, or the server refuses."""

    def __init__(
        self, buffer: Buffer, *, url: str | None, token: str | None, own_key: bool, earlier: Sequence[Buffer] = ()
    ) -> None:
        """`own_key`: the key was made here, and a run that has ended otherwise gets another. `earlier`: what scripts
        reported before of the same arm and seed, and could not send. Raises WrongAddress, and OSError for a token's
        file."""
        self.buffer = buffer
        self._earlier = list(earlier)
        self._left_over = buffer.end is not None
        self.cancel_requested = False
        """A person asks to cancel the run."""
        self.state: RunState | None = None
        self.stopped = False
        """The server refused for good: it gets nothing more."""
        self._own_key = own_key
        self._reports_refused = False
        self._sent_at = time.monotonic()
        self._away = False
        self._finishing, self._leave = threading.Event(), threading.Event()
        self._url, self._token = url, token
        self._client = Client(url, token=token)
        self._thread = threading.Thread(target=self._run, name="vezna-sender", daemon=True)

    @property
    def address(self) -> str:
        return self._client.server.address

    def start(self) -> None:
        self._thread.start()

    def finish(self, seconds: float) -> bool:
        """Send what is left, for at most so long; whether all of it has arrived."""
        deadline = time.monotonic() + seconds
        self._finishing.set()
        while self._thread.is_alive() and time.monotonic() < deadline:
            self._thread.join(0.05)
        self._leave.set()
        return self.done and not self.stopped

    def close(self) -> None:
        """Let others open the files."""
        for buffer in (self.buffer, *self._earlier):
            buffer.close()

    @property
    def done(self) -> bool:
        """There is nothing to send now."""
        left = self.buffer.waiting or (self.buffer.end is not None and not self.buffer.closed)
        return self.stopped or (self.state is not None and not left)

    def send_all(self) -> bool:
        """Send in this thread; whether all of it has arrived. Raises ClientError if the server is away."""
        with closing(self._client):
            self._open()
            while not self.done:
                self._send()
        return not self.stopped

    def _run(self) -> None:
        pause = 1.0
        while not (self._leave.is_set() or self.stopped or (self._finishing.is_set() and self.done)):
            try:
                if self.state is None:
                    self._open()
                else:
                    self._send()
            except ClientError as error:
                self._say_away(error)
                asked = isinstance(error, Refused) and error.retry_seconds
                if self._finishing.is_set():
                    self._leave.wait(1.0)
                else:
                    self._finishing.wait(max(pause, float(asked or 0)))
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            except Closed:  # the script ended while a request was sent
                break
            except Exception as error:  # the training goes on whatever fails here
                self._stop(f"reporting failed: {error!r}. The training continues without it")
            pause = 1.0
            if self._away:
                self._away = False
                log.warning("Vezna: %s answers again; reports continue.", self.address)
            if self.buffer.waiting < MOST_RECORDS and not self._finishing.is_set():
                self._finishing.wait(INTERVAL_SECONDS)
        self._client.close()

    def _say_away(self, error: ClientError) -> None:
        """Say once that the server is away."""
        if not self._away:
            self._away = True
            what = f"{error} The training continues; reports are kept in {self.buffer.path} and sent once it answers."
            log.warning("Vezna: %s", what)

    def _stop(self, why: str) -> None:
        self.stopped = True
        log.error("Vezna: %s. Reports are kept in %s.", why.rstrip("."), self.buffer.path)

    def _asked(self, ask: Any) -> RunState | None:
        """The answer to a request; None if the server refused for good. Raises ClientError if it may succeed later."""
        try:
            answer: RunState = ask()
        except Unreachable:
            raise
        except Refused as error:
            if error.status in AGAIN or error.in_progress:
                raise
            self._stop(f"{self.address} refused the run: {_in_words(error)}")
            return None
        except ClientError as error:
            self._stop(str(error))
            return None
        self.cancel_requested = answer.cancel
        return answer

    def _open(self) -> None:
        while self._earlier:
            Sender(self._earlier[0], url=self._url, token=self._token, own_key=False).send_all()
            self._earlier.pop(0).close()
        opening = self.buffer.opening or {}
        study = self._study(opening["study"])
        body = {name: value for name, value in opening.items() if name != "study"}
        state = None if study is None else self._asked(lambda: self._client.open_run(study, body))
        if state is None:
            return
        if state.status in ENDED:
            self._ended_before(state, opening)
            return
        self.buffer.arrived(state.next_batch)
        self.state = state

    def _study(self, study: int | str) -> int | None:
        """The id of a study that is given by its id or its name. Raises ClientError if the server is away."""
        if isinstance(study, int):
            return study
        try:
            found = [one.id for one in self._client.external_studies() if one.name == study]
        except Refused as error:
            if error.status in AGAIN:
                raise
            self._stop(f"{self.address} refused: {_in_words(error)}")
            return None
        if not found:
            self._stop(
                f"{self.address} has no declared study named {study!r}. Declare it with "
                "`vezna submit study.json --external` or Client.declare_study"
            )
        return found[0] if found else None

    def _ended_before(self, state: RunState, opening: dict[str, Any]) -> None:
        """The run of the key has ended: the script was killed after its end, or a person ended the run."""
        if self._left_over:  # its end had arrived
            self.buffer.append("closed", {"status": state.status})
            self.state = state
            return
        if state.status == "succeeded" or not self._own_key:
            self.buffer.append("closed", {"status": state.status})
            remedy = "Delete the run to train it again" if state.status == "succeeded" else "Give another key"
            self._stop(
                f"run {state.run_id} (arm {opening['arm']!r}, seed {opening['seed']}) has already {_past(state)}, so "
                f"this training is not reported. {remedy}"
            )
            return
        self.buffer.begin(opening | {"key": f"{opening['key'][:100]}-after-{state.run_id}"})

    def _send(self) -> None:
        assert self.state is not None  # noqa: S101  the run is open
        state, number = self.state, self.state.next_batch
        sent = self.buffer.sealed(number)
        records = self.buffer.oldest(MOST_RECORDS if sent is None else sent)
        quiet = self.buffer.end is None and time.monotonic() - self._sent_at >= NEWS_SECONDS
        if records or sent is not None or quiet:
            batch, taken = batch_of(records)
            if sent is None:
                self.buffer.seal(number, taken)
            self._report(state, {"attempt": state.attempt, "number": number, **batch})
            self._sent_at = time.monotonic()
        elif self.buffer.end is not None and not self.buffer.closed:
            self._end(state, self.buffer.end)

    def _report(self, state: RunState, batch: dict[str, Any]) -> None:
        if self._reports_refused:
            batch = {name: batch[name] for name in ("attempt", "number")}
        answer: RunState | None
        try:
            answer = self._client.report(state.run_id, batch)
        except Refused as error:
            if error.status == 422 and not self._reports_refused:
                self._reports_refused = True
                log.error(
                    "Vezna: %s refused steps of run %s: %s The training continues, and its end will be reported.",
                    self.address, state.run_id, _in_words(error),
                )  # fmt: skip
                return
            answer = self._asked(lambda: self._client.report(state.run_id, batch))
        if answer is not None:
            self.cancel_requested = answer.cancel
            self.buffer.arrived(answer.next_batch)
            self.state = answer

    def _end(self, state: RunState, ending: dict[str, Any]) -> None:
        answer = self._asked(lambda: self._client.end_run(state.run_id, {"attempt": state.attempt, **ending}))
        if answer is not None:
            self.buffer.append("closed", {"status": answer.status})
            self.state = answer
            log.info("Vezna: run %s has %s at %s.", answer.run_id, _past(answer), self.address)


def batch_of(records: Sequence[Record]) -> tuple[dict[str, Any], int]:
    """The next batch, and how many records it takes: in a batch steps ascend, and it has at most 100 evaluations and
    one message."""
    steps: list[dict[str, Any]] = []
    evaluations: list[dict[str, Any]] = []
    message = ""
    for taken, record in enumerate(records):
        values = record.values
        full = record.kind == "step" and steps and values["step"] <= steps[-1]["step"]
        full = full or (record.kind == "evaluation" and len(evaluations) == MOST_EVALUATIONS)
        if full or (record.kind == "message" and message):
            return {"steps": steps, "evaluations": evaluations, "message": message}, taken
        if record.kind == "step":
            steps.append(values)
        elif record.kind == "evaluation":
            evaluations.append(values)
        else:
            message = values["message"]
    return {"steps": steps, "evaluations": evaluations, "message": message}, len(records)


def _past(state: RunState) -> str:
    return {"succeeded": "succeeded", "failed": "failed", "cancelled": "been cancelled"}.get(state.status, "ended")


def _in_words(error: Refused) -> str:
    """The fields by name with their remedies; without fields, the whole."""
    if not error.fields:
        return error.detail
    return " ".join(f"{one.path}: {one.message.rstrip('.')}. {one.remedy.rstrip('.')}." for one in error.fields)
