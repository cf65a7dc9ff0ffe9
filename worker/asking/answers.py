"""Sends prompts to a server, several at a time, and gathers its answers within bounds of time and bytes.

The shortest prompt goes first and alone: a wrong address or model is named after one request. If its answer takes long,
the others go one at a time too, since each would wait for those before it. A request that fails later is sent again
twice. Threads that still wait for the server when a check ends are left behind: each ends with its request.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TypeGuard

from app.domain.errors import Unavailable, VeznaError
from app.domain.messages import _
from app.services.outbound.openai_server import SECONDS, Completion, Conversation, OpenAIServer, ServerRefused
from app.services.outbound.outbound import NotReached
from worker.children.work import WorkCancelled

AT_ONCE = 4
MOST_SECONDS = 3600.0
"""For all answers."""
MOST_CHARACTERS = 64 << 20
"""Characters of all answers together."""
REPORT_SECONDS = 2.0
PAUSES = (1.0, 5.0)
"""Seconds before a request is sent again."""
BUSY = frozenset({429, 500, 502, 503, 504})
REFUSED = frozenset({400, 413, 422})
"""Statuses with which servers refuse a single prompt: it is longer than their context, or a filter stops it."""


@dataclass(frozen=True)
class Prompt:
    """What is sent for a test item."""

    text: str | Conversation
    length: int
    """Bytes."""


Answer = Completion | ServerRefused


class Answers:
    """The answers to prompts, in their order; an error for one that the server refuses while it answers others."""

    def __init__(
        self,
        server: OpenAIServer,
        prompts: Sequence[Prompt],
        max_tokens: int,
        *,
        pauses: Sequence[float] = PAUSES,
        most_seconds: float = MOST_SECONDS,
        answered: bool = False,
    ) -> None:
        """`answered`: the server has answered other prompts before."""
        self._server, self._prompts, self._max_tokens = server, prompts, max_tokens
        self._pauses, self._most_seconds, self._answered = pauses, most_seconds, answered
        self._waiting: SimpleQueue[int | None] = SimpleQueue()
        self._ended: SimpleQueue[tuple[int, Completion | Exception]] = SimpleQueue()
        self._over = threading.Event()
        self._first = min(range(len(prompts)), key=lambda index: prompts[index].length)

    def gather(
        self, report: Callable[[float], bool], arrived: Callable[[int, Answer], None] = lambda _index, _answer: None
    ) -> list[Answer]:
        """All answers. `report` takes the share that is done about every two seconds, and stops by False; `arrived`
        takes each answer with its place as it arrives.

        Raises WorkCancelled; what `arrived` raises; the errors of `OpenAIServer.complete`; Unavailable if it takes too
        long.
        """
        answers: dict[int, Answer] = {}
        began = reported = monotonic()
        characters = 0
        self._start()
        self._waiting.put(self._first)
        try:
            while len(answers) < len(self._prompts):
                if monotonic() - reported >= REPORT_SECONDS or not answers:
                    reported = monotonic()
                    if not report(len(answers) / len(self._prompts)):
                        raise WorkCancelled
                if monotonic() - began > self._most_seconds:
                    raise self.too_slow(len(answers), round(self._most_seconds / 60))
                try:
                    index, answer = self._ended.get(timeout=REPORT_SECONDS)
                except Empty:
                    continue
                if isinstance(answer, Exception) and not ((answers or self._answered) and _is_refusal(answer)):
                    raise answer
                if not answers:
                    if (monotonic() - began) * AT_ONCE <= SECONDS / 2:
                        for _thread in range(AT_ONCE - 1):
                            self._start()
                    for other in range(len(self._prompts)):
                        if other != self._first:
                            self._waiting.put(other)
                answers[index] = answer
                arrived(index, answer)
                characters += len(answer.text) if isinstance(answer, Completion) else 0
                if characters > MOST_CHARACTERS:
                    raise Unavailable(_("The answers of the server are too long together. Check fewer items."))
        finally:
            self._over.set()
            for _thread in range(AT_ONCE):
                self._waiting.put(None)
        return [answers[index] for index in range(len(self._prompts))]

    def _start(self) -> None:
        threading.Thread(target=self._work, daemon=True, name="parity").start()

    def _work(self) -> None:
        while (index := self._waiting.get()) is not None and not self._over.is_set():
            try:
                self._ended.put((index, self._answer(index)))
            except Exception as error:  # raised by the thread that waits
                self._ended.put((index, error))

    def _answer(self, index: int) -> Completion:
        prompt = self._prompts[index]
        pauses = [] if index == self._first else [*self._pauses]
        while True:
            try:
                return self._server.complete(prompt.text, self._max_tokens)
            except (NotReached, ServerRefused) as error:
                status = error.status if isinstance(error, ServerRefused) else None
                if not pauses or (status is not None and status not in BUSY):
                    raise
                self._over.wait(pauses.pop(0))
                if self._over.is_set():
                    raise

    def too_slow(self, done: int, minutes: int) -> VeznaError:
        text = _(
            "The server answered %(done)s of %(all)s items within %(minutes)s minutes, the most time of a check. "
            "Check fewer items.",
            done=done,
            all=len(self._prompts),
            minutes=minutes,
        )
        return Unavailable(text)


def _is_refusal(error: Exception) -> TypeGuard[ServerRefused]:
    return isinstance(error, ServerRefused) and error.status in REFUSED
