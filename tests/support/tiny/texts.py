"""A tiny real model with random weights, its tokenizer, a dataset and a job: what the engine's tests run on."""

import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from app.domain.data.dataset import LabelledRow, Row, item_name
from app.domain.methods import FullSpec, HeadOnlySpec, LoraSpec, MethodSpec
from app.domain.models.weight_delta import WeightDeltas
from app.domain.runs.job import TrainJob
from app.domain.runs.result import Evaluation, StepMetrics
from app.domain.runs.spec import RunSpec
from app.domain.runs.status import Phase
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import Format, Task
from app.store.files.rows_file import RowsFile
from worker.engine.loop.progress import Stopped

LABELS = ["animal", "colour", "number"]
WORDS = {
    "animal": ["cat", "dog", "cow", "fox", "owl"],
    "colour": ["red", "blue", "green", "black", "white"],
    "number": ["one", "two", "three", "four", "five"],
}
FILLERS = ["the", "a", "of", "and", "in", "is"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
METHODS: list[MethodSpec] = [FullSpec(), LoraSpec(r=4, target_modules=["query", "value"]), HeadOnlySpec()]
FAST = TrainingArguments(
    num_train_epochs=3, per_device_train_batch_size=8, learning_rate=3e-3, max_length=16, warmup_steps=0, bf16=False
)


def tokenizer() -> PreTrainedTokenizerFast:
    """WordPiece over the words above."""
    words = [*SPECIAL, *FILLERS, *(word for group in WORDS.values() for word in group)]
    vocabulary = {word: i for i, word in enumerate(words)}
    backend = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = Whitespace()
    backend.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(t, vocabulary[t]) for t in ("[CLS]", "[SEP]")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=32,
    )  # fmt: skip


def config(**changes: object) -> BertConfig:
    """BERT with two layers of width 32."""
    sizes: dict[str, object] = {
        "vocab_size": 32,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 32,
        "initializer_range": 0.1,  # with BERT's 0.02, a model as narrow as this learns nothing in a few steps
    }
    return BertConfig(**{**sizes, **changes})


def save_model(directory: Path, **changes: object) -> Path:
    """A base model's directory: weights without a head, configuration, tokenizer."""
    torch.manual_seed(1234)
    BertModel(config(**changes)).save_pretrained(directory)
    tokenizer().save_pretrained(directory)
    return directory


def save_classifier(directory: Path, labels: int) -> Path:
    """The same with a head that somebody has trained."""
    torch.manual_seed(4321)
    BertForSequenceClassification(config(num_labels=labels)).save_pretrained(directory)
    tokenizer().save_pretrained(directory)
    return directory


def rows(train: int = 60, validation: int = 24, test: int = 24) -> list[LabelledRow]:
    """Texts of different lengths in which one word tells the label."""
    found = []
    for i in range(train + validation + test):
        name = LABELS[i % 3]
        words = [FILLERS[(i + k) % 6] for k in range(1 + i * 7 % 9)]
        words.insert(i % (len(words) + 1), WORDS[name][i // 3 % 5])
        text = f"{' '.join(words)} {FILLERS[i % 6]}"
        split = "train" if i < train else "validation" if i < train + validation else "test"
        found.append(LabelledRow(item_name(f"{i} {text}"), split, text, i % 3))
    return found


def save_rows(file: Path, table: list[LabelledRow]) -> Path:
    """A dataset's Parquet file."""
    pq.write_table(pa.table({name: [getattr(row, name) for row in table] for name in LabelledRow._fields}), file)
    return file


def job(
    directory: Path,
    model: Path,
    method: MethodSpec,
    training: TrainingArguments = FAST,
    table: list[LabelledRow] | None = None,
) -> TrainJob:
    """A job in a directory of its own."""
    output = directory / "output"
    output.mkdir(parents=True)
    return TrainJob(
        run_id=1,
        epoch=1,
        spec=RunSpec(base_model="tiny", dataset="words", method=method, training=training),
        model_location=str(model),
        dataset_file=str(save_rows(directory / "rows.parquet", rows() if table is None else table)),
        labels=LABELS,
        output=str(output),
        device="cpu",
        threads=1,
        claimed_at=time.time(),
    )


def job_on(
    directory: Path,
    model: Path,
    task: Task,
    form: Format,
    table: Sequence[Row],
    labels: Sequence[str] = (),
    method: MethodSpec | None = None,
    training: TrainingArguments = FAST,
) -> TrainJob:
    """The same for rows of another task: full fine-tuning, unless it names a method."""
    output = directory / "output"
    output.mkdir(parents=True)
    with RowsFile(directory / "rows.parquet", form, [*labels]) as file:
        file.write([*table])
    return TrainJob(
        run_id=1,
        epoch=1,
        spec=RunSpec(base_model="tiny", dataset="rows", task=task, method=method or FullSpec(), training=training),
        model_location=str(model),
        dataset_file=str(directory / "rows.parquet"),
        dataset_format=form,
        labels=[*labels],
        output=str(output),
        device="cpu",
        threads=1,
        claimed_at=time.time(),
    )


class Recorder:
    """A sink that remembers everything; it stops the attempt at step `stop_at`."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.phases: list[Phase] = []
        self.downloads: list[tuple[int, int]] = []
        self.seen: list[StepMetrics] = []
        self.evaluations: list[tuple[Evaluation, Sequence[str], Sequence[float]]] = []
        self.logs: list[str] = []
        self.weight_deltas_analysis: WeightDeltas | None = None
        self.checkpoints: list[tuple[int, Path]] = []
        self.stop_at = stop_at
        self.total_steps: int | None = None
        self._calls_in_training = 0

    def phase(self, phase: Phase, total_steps: int | None = None) -> None:
        self.phases.append(phase)
        self.total_steps = total_steps or self.total_steps

    def download(self, done_bytes: int, total_bytes: int) -> None:
        self.downloads.append((done_bytes, total_bytes))

    def steps(self, steps: Sequence[StepMetrics]) -> None:
        self.seen += steps

    def evaluation(self, evaluation: Evaluation, items: Sequence[str] = (), scores: Sequence[float] = ()) -> None:
        self.evaluations.append((evaluation, items, scores))

    def log(self, message: str) -> None:
        self.logs.append(message)

    def checkpoint(self, step: int, folder: Path) -> None:
        self.checkpoints.append((step, folder))

    def weight_deltas(self, weight_deltas: WeightDeltas) -> None:
        self.weight_deltas_analysis = weight_deltas

    def raise_if_stopped(self) -> None:
        if self.phases and self.phases[-1] is Phase.TRAIN:
            self._calls_in_training += 1
            if self.stop_at is not None and self._calls_in_training > self.stop_at:
                raise Stopped
