"""The question of a preview, as it stands in an address: by which base model, for which task, cut at which length."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from app.domain.data.dataset import DatasetFacts
from app.domain.errors import Invalid
from app.domain.messages import Message
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import Task
from app.store.tables import BaseModelRow
from app.web.numbers import NotANumber, parse_whole

SHORTEST, LONGEST = 2, 131_072
"""Of `PreviewRequest.max_length`."""
USUAL_LENGTH: int = TrainingArguments.model_fields["max_length"].default


@dataclass(frozen=True)
class PreviewForm:
    """What stands in the fields."""

    model: str
    task: str
    max_length: str
    completion_only: bool = True

    @classmethod
    def of(cls, asked: Mapping[str, str], facts: DatasetFacts, models: Sequence[BaseModelRow]) -> "PreviewForm":
        """From an address; what it does not say is as usual: the packaged model if it can, else the first that can."""
        able = [row for row in models if able_tasks(row, facts)]
        named = next((row for row in able if row.name == asked.get("model")), None)
        row = named or next(iter(sorted(able, key=lambda row: row.source != "sample")), None)
        tasks = able_tasks(row, facts) if row else []
        task = asked.get("task", "")
        return cls(
            model=row.name if row else "",
            task=task if task in tasks else next(iter(tasks), ""),
            max_length=asked.get("max_length", "").strip()[:9] or str(USUAL_LENGTH),
            completion_only=asked.get("completion_only_loss") != "false",
        )

    @property
    def query(self) -> str:
        """The address's, in the API's words."""
        words = {"model": self.model, "task": self.task, "max_length": self.max_length}
        return urlencode(words | ({} if self.completion_only else {"completion_only_loss": "false"}))

    @property
    def length(self) -> int:
        """Tokens that a row may keep. Raises Invalid."""
        try:
            length = parse_whole(self.max_length)
        except NotANumber:
            length = 0
        if not SHORTEST <= length <= LONGEST:
            text = Message("Write a whole number from %(least)s to %(most)s", least=SHORTEST, most=LONGEST)
            raise Invalid.field("max_length", text)
        return length


def able_tasks(row: BaseModelRow, facts: DatasetFacts) -> list[Task]:
    """What a base model can do with such rows."""
    return [task for task in facts.tasks if row.facts and task in row.facts.tasks]
