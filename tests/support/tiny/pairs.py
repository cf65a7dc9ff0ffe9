"""Queries and passages that a tiny BERT can learn to match, and a job on them."""

import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from app.domain.data.dataset import QueryRow, item_name, split_at
from app.domain.methods import FullSpec, MethodSpec
from app.domain.runs.job import TrainJob
from app.domain.runs.spec import RunSpec
from app.domain.runs.training import TrainingArguments
from tests.support.tiny import texts as tiny

WORDS = [word for group in tiny.WORDS.values() for word in group]
FAST = tiny.FAST.model_copy(update={"num_train_epochs": 4, "learning_rate": 5e-3, "per_device_train_batch_size": 12})


def rows(train: int = 96, validation: int = 12, test: int = 12) -> list[QueryRow]:
    """A query is a word of 15 beside a filler; its passage has the word that stands next to it in the list."""
    found = []
    for i in range(train + validation + test):
        word, answer = WORDS[i % 15], WORDS[(i + 1) % 15]
        fillers = [tiny.FILLERS[(i // 15 + k) % 6] for k in range(1 + i % 4)]
        query, passage = f"{word} {tiny.FILLERS[i // 15 % 6]}", f"{' '.join(fillers)} {answer}"
        found.append(QueryRow(item_name(f"{i} {query}"), split_at(i, train, validation), query, passage))
    return found


def job(
    folder: Path,
    base: Path,
    method: MethodSpec | None = None,
    training: TrainingArguments = FAST,
    table: Sequence[QueryRow] | None = None,
) -> TrainJob:
    """A job in a directory of its own."""
    output = folder / "output"
    output.mkdir(parents=True)
    table = table or rows()
    file = folder / "rows.parquet"
    pq.write_table(pa.table({name: [getattr(row, name) for row in table] for name in QueryRow._fields}), file)
    return TrainJob(
        run_id=1,
        epoch=1,
        spec=RunSpec(
            base_model="tiny",
            dataset="pairs",
            task="sentence-embeddings",
            method=method or FullSpec(),
            training=training,
        ),
        model_location=str(base),
        dataset_file=str(file),
        dataset_format="query-passage",
        output=str(output),
        device="cpu",
        threads=1,
        claimed_at=time.time(),
    )
