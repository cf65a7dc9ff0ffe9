"""The worker's part of judgements: a thread that asks judges, for hours at a time.

different answer once, write the result.

What the judge replies is stored at once, so that a judgement that is resumed, or a later one with the same judge and
rubric, asks for nothing again.
"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from app.broker.queue import JUDGE
from app.domain.comparison.statistics.judged import Judged, JudgedRun, Unscored
from app.domain.errors import Unavailable, VeznaError
from app.domain.messages import _
from app.features.judging.queries import judgements as queries
from app.features.judging.rules import key_of, question, score_in
from app.features.judging.services import judgements
from app.features.judging.services.judgements import JUDGEMENTS, JudgementClaim
from app.services.outbound.openai_server import OpenAIServer, ServerRefused
from app.services.outbound.outbound import NotReached, Outbound
from app.services.ownership.vault import Vault
from worker.asking.answers import PAUSES, Answer, Answers, Prompt
from worker.asking.predicted import Item, prompt_text, reference_of, rows
from worker.children.work import WorkCancelled, WorkQueue
from worker.nodes.claimed import by_thread, noting_the_end
from worker.nodes.node import Node
from worker.training.workdir import workdir

if TYPE_CHECKING:
    from worker.nodes.context import Context


MOST_TOKENS = 1024
"""Tokens of a reply: a model that reasons apart from its answer needs room for that."""
MOST_SECONDS = 4 * 3600.0
FIRST = 10
"""Replies of a judgement without a single score among them end it."""
SHOWN = 10
"""Replies without a score that the result names."""
MOST_SAID = 200
MOST_BYTES = 64 << 20
"""Bytes of all answers, and of all questions: they stay in memory until the judgement has ended."""

Reply = tuple[int | None, str]
"""A score, or None and what was said."""


class JudgeQueue(WorkQueue):
    """Asks judges, one judgement at a time. It starts no process."""

    name = "judge"


def judge(context: "Context", judgement_id: int, pauses: tuple[float, ...] = PAUSES) -> None:
    """Run one judgement. `pauses`: seconds before a request is sent again."""
    write = context.database.write
    claim = write(lambda session: judgements.begin(session, judgement_id))
    if claim is None:
        return
    with noting_the_end(context, JUDGEMENTS, claim, lambda why: _("The judgement failed (%(why)s).", why=why)):
        result = _Judgement(context, claim).judged(pauses)
        write(partial(judgements.succeeded, claim=claim, result=result))


class _Replies(Answers):
    def too_slow(self, done: int, minutes: int) -> VeznaError:
        text = _(
            "The judge replied to %(done)s answers within %(minutes)s minutes, the most time of a judgement. Start "
            "it again: its scores are kept.",
            done=done,
            minutes=minutes,
        )
        return Unavailable(text)


class _Judgement:
    def __init__(self, context: "Context", claim: JudgementClaim) -> None:
        self._context, self._claim = context, claim
        self._replies: dict[str, Reply] = {}
        self._asked = 0

    def judged(self, pauses: tuple[float, ...]) -> Judged:
        """The result. Raises WorkCancelled, and VeznaError with the reason that there is none."""
        items, answers = self._answers()
        questions = self._questions(items, answers)
        with self._context.database.reading() as session:
            known = queries.known(session, self._claim.study_id, self._claim.id)
        mine = self._claim.id
        self._replies = {key: (score, said) for key, (score, said, _by) in known.items() if key in questions}
        self._asked = sum(by == mine for key, (_score, _said, by) in known.items() if key in questions)
        self._ask({key: asked for key, asked in questions.items() if key not in self._replies}, pauses)
        self._require_a_score()
        return self._result(items, answers, len(questions))

    def _answers(self) -> tuple[list[Item], dict[int, list[str]]]:
        """The test items that every run has answered, and by run its answers to them."""
        first: list[Item] = []
        written: dict[int, dict[str, str]] = {}
        size = 0
        with workdir(self._context.settings.home) as folder:
            for run, stored in self._claim.predictions.items():
                file = folder / f"{run}.parquet"
                self._context.files.get(stored, file)
                found = rows(file, self._claim.sample)
                file.unlink()
                first = first or found  # every run has the same prompts
                written[run] = {row["item"]: (row["prediction"] or "").strip() for row in found}
                size += sum(map(len, written[run].values()))
                _require_room(size)
                if not self._report(0.0):
                    raise WorkCancelled
        items = [row for row in first if all(row["item"] in of_run for of_run in written.values())]
        if len(items) < 2:
            raise Unavailable(_("The runs have fewer than two test items in common."))
        return items, {run: [of_run[row["item"]] for row in items] for run, of_run in written.items()}

    def _questions(self, items: list[Item], answers: Mapping[int, list[str]]) -> dict[str, str]:
        """By its key, what the judge is sent for each different answer."""
        questions: dict[str, str] = {}
        size = 0
        for number, row in enumerate(items):
            for text in {texts[number] for texts in answers.values()}:
                asked = self._question(row, text)
                questions[self._key(row, text)] = asked
                size += len(asked)
                _require_room(size)
        return questions

    def _question(self, row: Item, text: str) -> str:
        return question(self._claim.rubric, prompt_text(row), reference_of(row).strip(), text)

    def _key(self, row: Item, text: str) -> str:
        return key_of(self._claim.url, self._claim.model, self._question(row, text))

    def _ask(self, questions: Mapping[str, str], pauses: tuple[float, ...]) -> None:
        """Store the judge's replies, each as it arrives."""
        keys = list(questions)
        if not keys:
            return
        done, total = len(self._replies), len(self._replies) + len(keys)

        settings = self._context.settings
        key = Vault(settings).decrypt(self._claim.api_key) if self._claim.api_key else ""
        server = OpenAIServer(Outbound(settings), self._claim.url, self._claim.model, key)

        def arrived(index: int, answer: Answer) -> None:
            score, said = _reply(answer, server)
            self._replies[keys[index]] = score, said
            if not self._write(partial(judgements.replied, claim=self._claim, key=keys[index], score=score, said=said)):
                raise WorkCancelled
            self._asked += 1
            if self._asked >= FIRST:
                self._require_a_score()

        prompts = [
            Prompt([{"role": "user", "content": text}], len(text.encode("utf-8", "replace")))
            for text in questions.values()
        ]
        answered = bool(self._replies)  # those that this judgement has, and earlier scores by the same server
        replies = _Replies(server, prompts, MOST_TOKENS, pauses=pauses, most_seconds=MOST_SECONDS, answered=answered)
        try:
            replies.gather(lambda share: self._report((done + share * len(keys)) / total), arrived)
        except NotReached as error:
            if not self._replies:
                raise
            self._require_a_score(error.message)
            raise Unavailable(
                _("%(why)s Start the judgement again: its scores are kept.", why=error.message)
            ) from error

    def _require_a_score(self, *ended_by: str) -> None:
        """Raises Unavailable, with the last reply behind what ended the judgement, if no reply so far is a score."""
        if any(score for score, _said in self._replies.values()):
            return
        _score, said = list(self._replies.values())[-1]
        without = _(
            "The judge gave no score (replies: %(count)s). Choose a larger model, or a rubric that asks for one whole "
            "number from 1 to 5 alone. The last reply: %(said)s",
            count=len(self._replies),
            said=said,
        )
        raise Unavailable(_.joined([*ended_by, without]))

    def _report(self, share: float) -> bool:
        return self._write(partial(JUDGEMENTS.progress, claim=self._claim, share=share))

    def _write(self, work: "partial[bool]") -> bool:
        return not self._context.one(JudgeQueue).stopped and self._context.database.write(work)

    def _result(self, items: list[Item], answers: Mapping[int, list[str]], number: int) -> Judged:
        runs, without = [], []
        places = [
            {text: n for n, text in enumerate(dict.fromkeys(of_item))}
            for of_item in zip(*answers.values(), strict=True)
        ]
        for run, texts in answers.items():
            replies = [self._replies[self._key(row, text)] for row, text in zip(items, texts, strict=True)]
            numbers = [place[text] for place, text in zip(places, texts, strict=True)]
            runs.append(JudgedRun(run=run, scores=[score for score, _said in replies], texts=numbers))
            for row, (score, said) in zip(items, replies, strict=True):
                if score is None:
                    without.append(Unscored(item=row["item"], run=run, said=said))
        return Judged(
            items=[row["item"] for row in items],
            runs=runs,
            answers=number,
            asked=self._asked,
            unscored=sum(score is None for score, _said in self._replies.values()),
            examples=without[:SHOWN],
        )


def _reply(answer: Answer, server: OpenAIServer) -> Reply:
    if isinstance(answer, ServerRefused):
        return None, answer.message
    said = server.on_one_line(answer.text)
    return score_in(answer.text), f"{said[:MOST_SAID]}{'…' if len(said) > MOST_SAID else ''}" or _("(empty)")


def _require_room(size: int) -> None:
    if size > MOST_BYTES:
        text = _(
            "The study's answers with their prompts are longer than %(most)s MiB together. Judge fewer items.",
            most=MOST_BYTES >> 20,
        )
        raise Unavailable(text)


NODE = Node(tasks={JUDGE: by_thread(JudgeQueue, judge)})
