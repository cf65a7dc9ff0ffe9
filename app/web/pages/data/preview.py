"""Rows as a base model sees them: the query of a dataset's page, and what is shown."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from urllib.parse import urlencode

from sqlalchemy.orm import Session
from starlette.datastructures import QueryParams

from app.broker.queue import Doorbell
from app.domain.data.dataset import DatasetFacts
from app.domain.data.previews import MOST_TOKENS, Preview, PreviewRow
from app.domain.errors import Conflict, FieldError, Invalid
from app.domain.messages import Message
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import Task
from app.services.data import previews
from app.store.database.session import Database
from app.store.models import queries as base_models
from app.store.tables import BaseModelRow, DatasetRow, EstimateRow
from app.web.figures.figure import Drawn
from app.web.forms.errors import HasErrors
from app.web.numbers import NotANumber, parse_whole
from app.words.data.data import task_options

SHORTEST, LONGEST = 2, 131_072
"""Limits of `PreviewRequest.max_length`."""
DEFAULT_LENGTH: int = TrainingArguments.model_fields["max_length"].default


@dataclass(frozen=True)
class PreviewView(HasErrors):
    """The form (base model, task, length, loss), and the preview once a worker has made it."""

    facts: DatasetFacts
    models: Sequence[BaseModelRow]
    """Models that can learn from the rows."""
    model: BaseModelRow | None
    task: Task | None
    max_length: str
    completion_only: bool
    estimate: EstimateRow | None = None
    """None if nothing could be requested."""
    figure: Drawn | None = None
    errors: tuple[FieldError, ...] = ()

    @classmethod
    def of(cls, query: QueryParams, facts: DatasetFacts, models: Sequence[BaseModelRow]) -> "PreviewView":
        """From an address. Defaults: the packaged model if it fits, else the first that does; its first task."""
        able = [row for row in models if row.status == "ready" and able_tasks(row, facts)]
        usual = sorted(able, key=lambda row: (row.name != query.get("model"), row.source != "sample"))
        model = next(iter(usual), None)
        tasks = able_tasks(model, facts) if model else []
        return cls(
            facts=facts,
            models=able,
            model=model,
            task=next((task for task in tasks if task == query.get("task")), next(iter(tasks), None)),
            max_length=query.get("max_length", "").strip()[:9] or str(DEFAULT_LENGTH),
            completion_only=query.get("completion_only_loss") != "false",
        )

    @property
    def query(self) -> str:
        """The form as the address and the API have it."""
        model = self.model.name if self.model else ""
        fields = {"model": model, "task": self.task or "", "max_length": self.max_length}
        return urlencode(fields | ({} if self.completion_only else {"completion_only_loss": "false"}))

    @property
    def length(self) -> int:
        """`max_length` as a number. Raises Invalid."""
        try:
            length = parse_whole(self.max_length)
        except NotANumber:
            length = 0
        if not SHORTEST <= length <= LONGEST:
            range_ = Message("Write a whole number from %(least)s to %(most)s", least=SHORTEST, most=LONGEST)
            raise Invalid.field("max_length", range_)
        return length

    @property
    def model_options(self) -> list[tuple[str, str]]:
        return [(row.name, row.name) for row in self.models]

    @property
    def task_options(self) -> list[tuple[Task, str]]:
        return task_options(able_tasks(self.model, self.facts) if self.model else [])

    @property
    def has_prompts(self) -> bool:
        """The rows have prompts, which may or may not count in the loss."""
        return self.facts.format in ("prompt-completion", "messages")

    @property
    def working(self) -> bool:
        """A worker is making it."""
        return self.estimate is not None and self.estimate.status in ("queued", "working")

    @property
    def preview(self) -> Preview | None:
        """The preview; None until it is made."""
        return self.estimate.preview if self.estimate else None

    @property
    def learns_tokens(self) -> bool:
        """The loss covers tokens; else it covers labels."""
        return any(row.in_loss for row in (self.preview.rows if self.preview else []))

    def groups(self, row: PreviewRow) -> list[tuple[bool, list[tuple[str, bool]]]]:
        """Stretches of a row with and without loss: the text of each token, and whether it is special."""
        return [
            (learnt, [(token.text.strip() if token.special else token.text, token.special) for token in tokens])
            for learnt, tokens in groupby(row.tokens, key=lambda token: token.learnt)
        ]

    def hidden_tokens(self, row: PreviewRow) -> int:
        """How many kept tokens of a row are not shown."""
        return row.kept - MOST_TOKENS if len(row.tokens) == MOST_TOKENS else 0


def preview_of(session: Session, db: Database, bell: Doorbell, row: DatasetRow, query: QueryParams) -> PreviewView:
    """The preview of a version that is ready; requested from a worker if it does not exist yet."""
    view = PreviewView.of(query, row.facts, base_models.everyone(session))
    if view.model is None or view.task is None:
        return view
    try:
        with db.transaction() as writing:
            estimate = previews.wanted(
                writing, bell, row, view.model, view.task, view.length, completion_only_loss=view.completion_only
            )
    except Invalid as error:
        return replace(view, errors=error.fields)
    except Conflict:  # dataset or model is no longer ready
        return view
    return replace(view, estimate=estimate)


def able_tasks(row: BaseModelRow, facts: DatasetFacts) -> list[Task]:
    """The tasks that a base model can learn from such rows."""
    model = row.facts
    return [task for task in facts.tasks if model and task in model.tasks]
