"""Compare a server with a run: claim the check, read the run's predictions, send the test items, write the result."""

from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

import worker.asking.answers
from app.domain.data.turns import last_reply
from app.domain.errors import Unavailable
from app.domain.messages import _
from app.features.shipping.rules.parity import Model, Parity, ServedItem, parity
from app.features.shipping.services import parity_checks
from app.features.shipping.services.parity_checks import ParityClaim
from app.features.shipping.services.work import CHECKS
from app.services.outbound.openai_server import OpenAIServer, ServerRefused
from app.services.outbound.outbound import Outbound
from app.services.ownership.vault import Vault
from worker.asking.answers import MOST_SECONDS, PAUSES, Answer, Answers, Prompt
from worker.asking.predicted import Item, has_parts, prompt_text, reference_of, rows
from worker.children.work import WorkCancelled, WorkQueue
from worker.nodes.claimed import noting_the_end, reporter
from worker.text_metrics import exact_match, likeness, rouge_l
from worker.training.workdir import workdir

if TYPE_CHECKING:
    from worker.nodes.context import Context

METRICS = {"exact_match": exact_match, "rouge_l": rouge_l}


class ParityQueue(WorkQueue):
    """Does one check at a time: it waits for a server for up to an hour, and neither an export nor an upload should
    wait for it. It starts no process."""

    name = "parity"


def check(context: "Context", check_id: int, pauses: tuple[float, ...] = PAUSES) -> None:
    """Run one parity check. `pauses`: seconds before a request is sent again."""
    write = context.database.write
    claim = write(lambda session: parity_checks.begin(session, check_id))
    if claim is None:
        return
    with noting_the_end(context, CHECKS, claim, lambda why: _("The parity check failed (%(why)s).", why=why)):
        result = _compared(context, claim, pauses)
        write(partial(parity_checks.succeeded, claim=claim, result=result))


def _compared(context: "Context", claim: ParityClaim, pauses: tuple[float, ...]) -> Parity:
    began = monotonic()

    report = reporter(context, context.one(ParityQueue), CHECKS, claim)
    key = Vault(context.settings).decrypt(claim.api_key) if claim.api_key else ""
    server = OpenAIServer(Outbound(context.settings), claim.url, claim.model, key)
    items = _items(context, claim)
    whole = [item for item in items if not item.get("cut")]
    sent = [(item, prompt) for item in whole if (prompt := _prompt(item))]
    if not sent:
        raise _nothing_compared(claim) if items and not whole else _no_prompt()
    requests = Answers(
        server, [prompt for _item, prompt in sent], claim.max_new_tokens, pauses=pauses, most_seconds=MOST_SECONDS
    )
    answers = requests.gather(report)
    refusals = [answer for answer in answers if isinstance(answer, ServerRefused)]
    compared = _scored([item for item, _prompt in sent], answers, claim, server, report)
    if not compared:
        raise refusals[0] if refusals else _nothing_compared(claim)
    return parity(
        compared,
        claim.margin,
        claim.metric,
        monotonic() - began,
        left_out=len(items) - len(compared) - len(refusals),
        refused=len(refusals),
        refusal=refusals[0].message if refusals else "",
    )


def _scored(
    items: Sequence[Item],
    answers: Sequence[Answer],
    claim: ParityClaim,
    server: OpenAIServer,
    report: Callable[[float], bool],
) -> list[ServedItem]:
    """The items with an answer to the prompt that the run has read. Raises WorkCancelled."""
    compared, reported = [], monotonic()
    for item, answer in zip(items, answers, strict=True):
        if monotonic() - reported >= worker.asking.answers.REPORT_SECONDS:
            reported = monotonic()
            if not report(1.0):
                raise WorkCancelled
        if not isinstance(answer, ServerRefused) and not _was_cut(item, answer.prompt_tokens, claim.prompt_tokens):
            compared.append(_served(item, answer.text, claim, server))
    return compared


def _no_prompt() -> Unavailable:
    return Unavailable(
        _("No test item of the run has a prompt to send. Conversations with tools or reasoning are not sent.")
    )


def _nothing_compared(claim: ParityClaim) -> Unavailable:
    text = _(
        "The run has read only the end of every prompt (max_length is %(tokens)s tokens), so no answer can be "
        "compared. Train it with a larger max_length.",
        tokens=claim.prompt_tokens,
    )
    return Unavailable(text)


def _items(context: "Context", claim: ParityClaim) -> list[Item]:
    """Rows of the predictions file, in its order; a sample if there are more than the check sends."""
    with workdir(context.settings.home) as folder:
        file = folder / "predictions.parquet"
        context.files.get(claim.predictions, file)
        return rows(file, claim.sample)


def _prompt(item: Item) -> Prompt | None:
    """What a server is sent: a prompt, or the conversation up to the assistant's last turn. None if that is empty, or
    if the answer depends on how the server reads calls of tools and writes them."""
    if "messages" in item and has_parts(item):
        return None
    text: str | list[dict[str, str]] = _turns(item) if "messages" in item else item["prompt"] or ""
    turns = text if isinstance(text, list) else []
    length = sum(len(turn["content"].encode()) for turn in turns) if turns else len(str(text).encode())
    return Prompt(text, length) if text else None


def _turns(item: Item) -> list[dict[str, str]]:
    last = last_reply(item["messages"])
    return [{"role": turn["role"], "content": turn["content"]} for turn in item["messages"][:last]]


def _was_cut(item: Item, read: int | None, tokens: int) -> bool:
    """The server has read more of the prompt than the run. Files of earlier versions do not say what the run has read;
    there, the server's count decides."""
    return "cut" not in item and read is not None and read > tokens


def _served(item: Item, answer: str, claim: ParityClaim, server: OpenAIServer) -> ServedItem:
    reference = reference_of(item)
    answer = answer.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    run, base = item["prediction"] or "", item["base_prediction"] or ""
    metric = METRICS[claim.metric]
    return ServedItem(
        item=item["item"],
        prompt=prompt_text(item),
        run=run,
        base=base,
        answer=server.masked(answer),
        run_score=metric(run, reference),
        base_score=metric(base, reference),
        score=metric(answer, reference),
        nearer=nearer(answer.strip(), run.strip(), base.strip()),
        writes_on=writes_on(answer.strip(), run.strip()),
    )


def nearer(answer: str, run: str, base: str) -> Model:
    """To which of two models' texts an answer is nearer, all without white space at their ends: the equal one; the one
    with which the answer begins; else the one that is more like it, first within the length of the shortest of the
    three, then in whole. An answer that writes on after a text is thus not taken for the other model's, which is often
    longer."""
    if run == base:
        return Model.UNCLEAR
    if answer in (run, base):
        return Model.RUN if answer == run else Model.BASE
    begins_run = writes_on(answer, run) and not base.startswith(run)
    begins_base = writes_on(answer, base) and not run.startswith(base)
    if begins_run or begins_base:
        return Model.RUN if begins_run else Model.BASE
    shortest = min(len(answer), len(run), len(base))
    for end in (shortest, None):
        to_run, to_base = likeness(answer[:end], run[:end]), likeness(answer[:end], base[:end])
        if to_run != to_base:
            return Model.RUN if to_run > to_base else Model.BASE
    return Model.UNCLEAR


def writes_on(answer: str, text: str) -> bool:
    """The answer begins with a text and has more."""
    return 0 < len(text) < len(answer) and answer.startswith(text)
