"""Preference pairs that a tiny decoder can learn to rank, as prompts and as conversations, and a job on them."""

from collections.abc import Sequence
from pathlib import Path

from app.domain.data.dataset import PreferenceChatRow, PreferenceRow
from app.domain.methods import MethodSpec
from app.domain.runs.job import TrainJob
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import Format
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny

FAST = tiny_lm.FAST.model_copy(update={"num_train_epochs": 4})


def rows(train: int = 40, validation: int = 8, test: int = 12) -> list[PreferenceRow]:
    """The chosen answer counts on from the prompt's number; the rejected one counts on from two numbers after it."""
    found = []
    for row in tiny_lm.pairs(train, validation, test):
        words = row.completion.split()
        wrong = [tiny_lm.NUMBERS[(tiny_lm.NUMBERS.index(word) + 2) % 6] for word in words]
        found.append(PreferenceRow(row.item, row.split, row.prompt, row.completion, " " + " ".join(wrong)))
    return found


def chats(train: int = 40, validation: int = 8, test: int = 12) -> list[PreferenceChatRow]:
    """The same as conversations."""
    return [
        PreferenceChatRow(
            row.item, row.split, [{"role": "user", "content": row.prompt}], row.chosen.strip(), row.rejected.strip()
        )
        for row in rows(train, validation, test)
    ]


def job(
    folder: Path,
    base: Path,
    method: MethodSpec | None = None,
    training: TrainingArguments = FAST,
    table: Sequence[PreferenceRow] | Sequence[PreferenceChatRow] | None = None,
) -> TrainJob:
    """A job in a directory of its own."""
    table = table or rows()
    form: Format = "preference" if isinstance(table[0], PreferenceRow) else "preference-messages"
    return tiny.job_on(folder, base, "preference", form, table, method=method, training=training)
