"""Tiny language models with random weights, their tokenizer, rows in every format and a job."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BartConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    T5Config,
)

from app.domain.data.dataset import ChatRow, PairRow, Row, TextRow, item_name, split_at
from app.domain.methods import FullSpec, MethodSpec
from app.domain.runs.job import TrainJob
from app.domain.runs.spec import RunSpec
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import Format, MetricName, Task

NUMBERS = ["one", "two", "three", "four", "five", "six"]
WORDS = [*NUMBERS, "count", "from", "then", "and", "stop", ".", ":", "user", "assistant", "system"]
SPECIAL = ["<pad>", "<unk>", "<s>", "</s>", "<turn>", "<end>"]
FAST = TrainingArguments(
    num_train_epochs=2,
    per_device_train_batch_size=8,
    learning_rate=3e-3,
    max_length=24,
    max_new_tokens=8,
    warmup_steps=0,
    bf16=False,
)
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<turn> {{ message.role }} : {{ message.content }} <end> "
    "{% endfor %}{% if add_generation_prompt %}<turn> assistant : {% endif %}"
)
MARKED_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<turn> {{ message.role }} : {% if message.role == 'assistant' %}"
    "{% generation %}{{ message.content }} <end> {% endgeneration %}{% else %}{{ message.content }} <end> {% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<turn> assistant : {% endif %}"
)


def tokenizer(*, bos: bool = True, eos: bool = False, **changes: Any) -> PreTrainedTokenizerFast:
    """One token a word. `bos`: a text begins with <s>, as with Llama; `eos`: it ends with </s>, as with T5."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = Whitespace()
    backend.add_special_tokens(SPECIAL)
    single = " ".join(["<s>"] * bos + ["$A"] + ["</s>"] * eos)
    backend.post_processor = TemplateProcessing(
        single=single, special_tokens=[(t, vocabulary[t]) for t in ("<s>", "</s>")]
    )
    special: dict[str, Any] = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **{**special, **changes})


def config(kind: str, **changes: Any) -> PreTrainedConfig:
    """Two layers of width 32. `kind`: gpt2, llama, qwen2, qwen3, gemma2, gemma3, t5, bart."""
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    rotary: dict[str, Any] = {
        "vocab_size": 32,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "initializer_range": 0.2,
    }
    bart = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in
            (("layers", 2), ("attention_heads", 2), ("ffn_dim", 64))}  # fmt: skip
    makers: dict[str, tuple[type[PreTrainedConfig], dict[str, Any]]] = {
        "gpt2": (GPT2Config, {"vocab_size": 32, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64,
                              "initializer_range": 0.2}),
        "llama": (LlamaConfig, rotary),
        "qwen2": (Qwen2Config, rotary),
        # heads as wide as transformers and llama.cpp take them to be in a GGUF file
        "qwen3": (Qwen3Config, rotary | {"head_dim": 128}),
        "gemma2": (Gemma2Config, rotary | {"head_dim": 256, "sliding_window": 16}),
        "gemma3": (Gemma3TextConfig, rotary | {"head_dim": 256, "sliding_window": 16}),
        "t5": (T5Config, {"vocab_size": 32, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4,
                          "decoder_start_token_id": 0, "initializer_factor": 1.0}),
        "bart": (BartConfig, {"vocab_size": 32, "d_model": 32, "max_position_embeddings": 64, "init_std": 0.2,
                              "decoder_start_token_id": 3, **bart}),
    }  # fmt: skip
    maker, sizes = makers[kind]
    return maker(**{**ids, **sizes, **changes})


def model(kind: str, **changes: Any) -> PreTrainedModel:
    """With random weights, the same every time, and without dropout."""
    torch.manual_seed(1234)
    auto = AutoModelForSeq2SeqLM if kind in ("t5", "bart") else AutoModelForCausalLM
    found: PreTrainedModel = auto.from_config(
        config(kind, **changes), attn_implementation="eager" if kind == "gemma2" else "sdpa"
    )
    return found.eval()


def save_model(directory: Path, kind: str, *, chat_template: str | None = None, **changes: Any) -> Path:
    """A base model's directory: weights, configuration, tokenizer."""
    model(kind, **changes).save_pretrained(directory)
    encoder_decoder = kind in ("t5", "bart")
    words = tokenizer(bos=not encoder_decoder, eos=encoder_decoder)
    words.chat_template = chat_template
    words.save_pretrained(directory)
    return directory


def pairs(train: int = 40, validation: int = 8, test: int = 12) -> list[PairRow]:
    """Count on from a number, one word more than there are words `and`: 18 different rows, in turn."""
    found = []
    for i in range(train + validation + test):
        first, more = i % 6, i // 6 % 3
        prompt = f"{'and ' * more}count from {NUMBERS[first]} :"
        completion = " " + " ".join(NUMBERS[(first + k) % 6] for k in range(1, more + 2))
        found.append(PairRow(item_name(f"{i} {prompt}"), split_at(i, train, validation), prompt, completion))
    return found


def texts(train: int = 40, validation: int = 8, test: int = 12) -> list[TextRow]:
    """The same as plain texts."""
    return [TextRow(row.item, row.split, f"{row.prompt}{row.completion}") for row in pairs(train, validation, test)]


def chats(train: int = 40, validation: int = 8, test: int = 12) -> list[ChatRow]:
    """The same as conversations of two turns each."""
    return [
        ChatRow(
            row.item,
            row.split,
            [
                {"role": "user", "content": "count"},
                {"role": "assistant", "content": "from one"},
                {"role": "user", "content": row.prompt},
                {"role": "assistant", "content": row.completion.strip()},
            ],
        )
        for row in pairs(train, validation, test)
    ]


ROWS: dict[Format, Any] = {"text": texts, "prompt-completion": pairs, "messages": chats}


def save_rows(file: Path, rows: Sequence[Row]) -> Path:
    """A dataset's Parquet file."""
    pq.write_table(pa.table({name: [getattr(row, name) for row in rows] for name in rows[0]._fields}), file)
    return file


def job(
    directory: Path,
    base: Path,
    task: Task,
    rows: Sequence[Row],
    form: Format = "prompt-completion",
    *,
    method: MethodSpec | None = None,
    training: TrainingArguments = FAST,
    metric: MetricName | None = None,
    general: Sequence[TextRow] = (),
) -> TrainJob:
    """A job in a directory of its own."""
    output = directory / "output"
    output.mkdir(parents=True)
    return TrainJob(
        run_id=1,
        epoch=1,
        spec=RunSpec(
            base_model="tiny",
            dataset="counting",
            task=task,
            method=method or FullSpec(),
            training=training,
            metric=metric,
            general_text="general" if general else None,
        ),
        model_location=str(base),
        dataset_file=str(save_rows(directory / "rows.parquet", rows)),
        dataset_format=form,
        general_file=str(save_rows(directory / "general.parquet", general)) if general else None,
        output=str(output),
        device="cpu",
        threads=1,
        claimed_at=time.time(),
    )
