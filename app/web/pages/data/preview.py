"""Rows as a base model sees them: the query of a dataset's page, and what is shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from urllib.parse import urlencode

from fastapi import Request
from sqlalchemy.orm import Session

from app.domain.data.dataset import DatasetFacts
from app.domain.data.previews import MOST_TOKENS, Preview, PreviewRow
from app.domain.errors import Conflict, FieldError, Invalid
from app.domain.messages import _ as message
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import TASKS, Task
from app.queue import Doorbell
from app.services import previews
from app.store.queries import base_models
from app.store.session import Database
from app.store.tables import BaseModelRow, DatasetRow, EstimateRow
from app.web.figures.figure import Drawn
from app.web.format import capitalized, count
from app.web.forms.errors import HasErrors
from app.web.i18n import gettext as _
from app.web.i18n import ngettext
from app.web.numbers import NotANumber, parse_whole
from app.web.text.data import SPLITS

SHORTEST, LONGEST = 2, 131_072
"""Limits of `PreviewRequest.max_length`."""
DEFAULT_LENGTH: int = TrainingArguments.model_fields["max_length"].default
FIELDS = ("model", "task", "max_length", "completion_only_loss")


class PreviewQuery(dict[str, str]):
    """The fields of the address; of one that occurs twice, as that of a ticked box does, the last."""

    def __init__(self, request: Request) -> None:
        super().__init__({name: request.query_params[name] for name in FIELDS if name in request.query_params})


@dataclass(frozen=True)
class PreviewForm:
    """The fields: base model, task, length, loss."""

    model: str
    task: str
    max_length: str
    completion_only: bool = True

    @classmethod
    def of(cls, query: Mapping[str, str], facts: DatasetFacts, models: Sequence[BaseModelRow]) -> "PreviewForm":
        """From an address. Defaults: the packaged model if it fits, else the first that does; its first task."""
        able = [row for row in models if able_tasks(row, facts)]
        chosen = next((row for row in able if row.name == query.get("model")), None)
        model = chosen or next(iter(sorted(able, key=lambda row: row.source != "sample")), None)
        tasks = able_tasks(model, facts) if model else []
        task = query.get("task", "")
        return cls(
            model=model.name if model else "",
            task=task if task in tasks else next(iter(tasks), ""),
            max_length=query.get("max_length", "").strip()[:9] or str(DEFAULT_LENGTH),
            completion_only=query.get("completion_only_loss") != "false",
        )

    @property
    def query(self) -> str:
        """As the address and the API have it."""
        fields = {"model": self.model, "task": self.task, "max_length": self.max_length}
        return urlencode(fields | ({} if self.completion_only else {"completion_only_loss": "false"}))

    @property
    def length(self) -> int:
        """`max_length` as a number. Raises Invalid."""
        try:
            length = parse_whole(self.max_length)
        except NotANumber:
            length = 0
        if not SHORTEST <= length <= LONGEST:
            range_ = message("Write a whole number from %(least)s to %(most)s", least=SHORTEST, most=LONGEST)
            raise Invalid.field("max_length", range_)
        return length


@dataclass(frozen=True)
class RowView:
    """A row, token by token."""

    row: PreviewRow
    labels: Sequence[str]

    @property
    def head(self) -> str:
        """Split and length."""
        tokens = ngettext("%(num)s token", "%(num)s tokens", self.row.length, num=count(self.row.length))
        return f"{_(SPLITS[self.row.split])}, {tokens}"

    @property
    def label(self) -> str:
        """Its class; empty for rows without labels."""
        return self.labels[self.row.label] if self.row.label is not None else ""

    @property
    def groups(self) -> list[tuple[bool, list[tuple[str, bool]]]]:
        """Stretches with and without loss: the text of each token, and whether it is special."""
        groups = groupby(self.row.tokens, key=lambda token: token.learnt)
        return [
            (learnt, [(token.text.strip() if token.special else token.text, token.special) for token in tokens])
            for learnt, tokens in groups
        ]

    @property
    def truncated(self) -> str:
        """How many tokens are cut off; empty if none."""
        beyond = self.row.length - self.row.kept
        forms = "%(num)s token beyond max_length is cut off", "%(num)s tokens beyond max_length are cut off"
        return ngettext(*forms, beyond, num=count(beyond)) if beyond else ""

    @property
    def more(self) -> str:
        """How many kept tokens are not shown; empty if none."""
        rest = self.row.kept - len(self.row.tokens)
        return _("… and %(rest)s more", rest=count(rest)) if len(self.row.tokens) == MOST_TOKENS and rest > 0 else ""


@dataclass(frozen=True)
class PreviewView(HasErrors):
    """The form, and the preview once a worker has made it."""

    form: PreviewForm
    models: list[tuple[str, str]]
    """Options."""
    tasks: Sequence[Task]
    prompts: bool
    """The rows have prompts, which may or may not count in the loss."""
    labels: Sequence[str]
    estimate: EstimateRow | None = None
    """None if nothing could be requested."""
    figure: Drawn | None = None
    errors: tuple[FieldError, ...] = ()

    @property
    def task_options(self) -> list[tuple[str, str]]:
        """Tasks with their titles."""
        return [(task, capitalized(_(TASKS[task].title))) for task in self.tasks]

    @property
    def working(self) -> bool:
        """A worker is making it."""
        return self.estimate is not None and self.estimate.status in ("queued", "working")

    @property
    def failed(self) -> str:
        """Why there is no preview."""
        return self.estimate.message if self.estimate and self.estimate.status == "failed" else ""

    @property
    def found(self) -> Preview | None:
        """The preview."""
        return self.estimate.preview if self.estimate else None

    @property
    def rows(self) -> list[RowView]:
        """Some rows."""
        return [RowView(row, self.labels) for row in self.found.rows] if self.found else []

    @property
    def learns_tokens(self) -> bool:
        """The loss covers tokens; else it covers labels."""
        return any(token.learnt for row in (self.found.rows if self.found else []) for token in row.tokens)


def preview_of(
    session: Session, db: Database, bell: Doorbell, row: DatasetRow, query: Mapping[str, str]
) -> PreviewView:
    """The preview of a version that is ready; requested from a worker if it does not exist yet."""
    facts = row.facts
    models = [model for model in base_models.everyone(session) if model.status == "ready"]
    form = PreviewForm.of(query, facts, models)
    model = next((model for model in models if model.name == form.model), None)
    view = PreviewView(
        form=form,
        models=[(model.name, model.name) for model in models if able_tasks(model, facts)],
        tasks=able_tasks(model, facts) if model else [],
        prompts=facts.format in ("prompt-completion", "messages"),
        labels=facts.labels,
    )
    task = next((task for task in facts.tasks if task == form.task), None)
    if model is None or task is None:
        return view
    try:
        with db.transaction() as writing:
            estimate = previews.wanted(
                writing, bell, row, model, task, form.length, completion_only_loss=form.completion_only
            )
    except Invalid as error:
        return replace(view, errors=error.fields)
    except Conflict:  # dataset or model is no longer ready
        return view
    return replace(view, estimate=estimate)


def able_tasks(row: BaseModelRow, facts: DatasetFacts) -> list[Task]:
    """The tasks that a base model can learn from such rows."""
    return [task for task in facts.tasks if row.facts and task in row.facts.tasks]
