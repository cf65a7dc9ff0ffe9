"""Compare a server with a run: claim the check, read the run's predictions, send the test items, write the result."""

import random
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import structlog
from sqlalchemy.exc import InterfaceError, OperationalError

from app.domain.comparison.parity import Model, Parity, ServedItem, parity
from app.domain.errors import Unavailable, VeznaError
from app.domain.messages import _
from app.services import parity_checks
from app.services.openai_server import Completion, OpenAIServer
from app.services.outbound import Outbound
from app.services.parity_checks import ParityClaim
from app.services.vault import Vault
from app.store.files import StoreUnavailable
from worker.children.work import WorkCancelled
from worker.parity.answers import MOST_SECONDS, PAUSES, Answers, Prompt
from worker.text_metrics import exact_match, likeness, rouge_l
from worker.training.workdir import workdir

if TYPE_CHECKING:
    from worker.context import Context

log = structlog.get_logger()

LEFT_TO_THE_SWEEP = (OperationalError, InterfaceError, StoreUnavailable)
"""The database or the files store is unreachable."""
ASSISTANT = "assistant"
TEMPLATE_TOKENS = 16
"""Of a turn in a chat template, at most in usual ones."""
METRICS = {"exact_match": exact_match, "rouge_l": rouge_l}

Item = dict[str, Any]
"""A row of the predictions file."""


def check(context: "Context", check_id: int, pauses: tuple[float, ...] = PAUSES) -> None:
    """Run one parity check. `pauses`: seconds before a request is sent again."""
    write = context.database.write
    claim = write(lambda session: parity_checks.begin(session, check_id))
    if claim is None:
        return
    try:
        result = _compared(context, claim, pauses)
        write(partial(parity_checks.succeeded, claim=claim, result=result))
    except WorkCancelled:
        # unless it was cancelled, the worker shuts down
        write(partial(parity_checks.give_back, bell=context.bell, claim=claim))
    except LEFT_TO_THE_SWEEP as error:
        log.warning("parity check not complete", check_id=check_id, why=type(error).__name__)
    except Exception as error:
        write(partial(parity_checks.failed, claim=claim, message=_sentence(error, check_id)))


def _compared(context: "Context", claim: ParityClaim, pauses: tuple[float, ...]) -> Parity:
    began = monotonic()

    def report(share: float) -> bool:
        return not context.parity.stopped and context.database.write(
            partial(parity_checks.progress, claim=claim, share=share)
        )

    key = Vault(context.settings).decrypt(claim.api_key) if claim.api_key else ""
    server = OpenAIServer(Outbound(context.settings), claim.url, claim.model, key)
    items = _items(context, claim)
    prompts = {place: prompt for place, item in enumerate(items) if (prompt := _prompt(item, claim.prompt_tokens))}
    if not prompts:
        raise Unavailable(_("No test item of the run has a prompt to send."))
    gathering = Answers(server, list(prompts.values()), claim.max_new_tokens, pauses=pauses, most_seconds=MOST_SECONDS)
    answers = gathering.gather(report)
    compared = [
        _served(items[place], answer.text, claim)
        for place, answer in zip(prompts, answers, strict=True)
        if answer is not None and not _was_cut(answer, claim.prompt_tokens)
    ]
    if not compared:
        raise Unavailable(
            _(
                "The run has read only the end of every prompt (max_length is %(tokens)s tokens), so no answer can be "
                "compared. Train it with a larger max_length.",
                tokens=claim.prompt_tokens,
            )
        )
    return parity(compared, claim.margin, len(items) - len(compared), claim.metric, monotonic() - began)


def _items(context: "Context", claim: ParityClaim) -> list[Item]:
    """Rows of the predictions file, in its order; a sample if there are more than the check sends."""
    with workdir(context.settings.home) as folder:
        file = folder / "predictions.parquet"
        context.files.get(claim.predictions, file)
        rows = _rows(file)
    chosen = range(len(rows))
    if len(rows) > claim.sample:
        chosen = sorted(random.Random(0).sample(chosen, claim.sample))  # type: ignore[assignment]
    return [rows[place] for place in chosen]


def _rows(file: Path) -> list[Item]:
    wanted = ("item", "prompt", "completion", "messages", "prediction", "base_prediction")
    try:
        names = [name for name in pq.read_schema(file).names if name in wanted]
        rows: list[Item] = pq.read_table(file, columns=names).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise Unavailable(_("The run's predictions file cannot be read.")) from error
    if not {"prediction", "base_prediction"} <= set(names):
        raise Unavailable(_("The run's predictions file has no generated texts."))
    return rows


def _prompt(item: Item, tokens: int) -> Prompt | None:
    """What a server is sent: a prompt, or the conversation up to the assistant's last turn. None if that is empty."""
    text: str | list[dict[str, str]] = _turns(item) if "messages" in item else item["prompt"] or ""
    turns = text if isinstance(text, list) else []
    length = sum(len(turn["content"].encode()) for turn in turns) if turns else len(str(text).encode())
    # a tokenizer makes at most as many tokens as bytes; template and start of text add some
    return Prompt(text, length, length + TEMPLATE_TOKENS * (1 + len(turns)) > tokens) if text else None


def _turns(item: Item) -> list[dict[str, str]]:
    last = _last_reply(item)
    return [{"role": turn["role"], "content": turn["content"]} for turn in item["messages"][:last]]


def _last_reply(item: Item) -> int:
    return max(place for place, turn in enumerate(item["messages"]) if turn["role"] == ASSISTANT)


def _was_cut(answer: Completion, tokens: int) -> bool:
    """The server has read more of the prompt than the run."""
    return answer.prompt_tokens is not None and answer.prompt_tokens > tokens


def _served(item: Item, answer: str, claim: ParityClaim) -> ServedItem:
    reference = item["messages"][_last_reply(item)]["content"] if "messages" in item else item["completion"]
    answer = answer.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    run, base = item["prediction"] or "", item["base_prediction"] or ""
    metric = METRICS[claim.metric]
    prompt = item["prompt"] if "messages" not in item else "\n".join(t["content"] for t in _turns(item))
    return ServedItem(
        item=item["item"],
        prompt=prompt,
        run=run,
        base=base,
        answer=answer,
        run_score=metric(run, reference),
        base_score=metric(base, reference),
        score=metric(answer, reference),
        nearer=_nearer(answer.strip(), run.strip(), base.strip()),
    )


def _nearer(answer: str, run: str, base: str) -> Model:
    if run == base:
        return Model.UNCLEAR
    if answer in (run, base):
        return Model.RUN if answer == run else Model.BASE
    to_run, to_base = likeness(answer, run), likeness(answer, base)
    if to_run == to_base:
        return Model.UNCLEAR
    return Model.RUN if to_run > to_base else Model.BASE


def _sentence(error: Exception, check_id: int) -> str:
    if isinstance(error, VeznaError):
        return error.message
    log.error("parity check failed", exc_info=error, check_id=check_id)
    return _("The parity check failed (%(why)s).", why=f"{type(error).__name__}: {error}")
