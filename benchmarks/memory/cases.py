"""The configurations whose memory is predicted and measured."""

from dataclasses import dataclass, field
from typing import Any

from app.domain.methods import (
    AdaLoraSpec,
    BitFitSpec,
    BottleneckAdapterSpec,
    FullSpec,
    HeadOnlySpec,
    Ia3Spec,
    LastLayersSpec,
    LoraSpec,
    MethodSpec,
)
from app.domain.tasks import TASKS, Task

SHAPES: dict[str, tuple[Task, dict[str, Any]]] = {
    "bert": (
        "sequence-classification",
        {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 1536},
    ),
    "roberta": (
        "sequence-classification",
        {"hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8, "intermediate_size": 2048,
         "max_position_embeddings": 514, "vocab_size": 50265},
    ),
    "t5": ("seq2seq-lm", {"d_model": 512, "d_kv": 64, "num_heads": 8, "d_ff": 2048, "num_layers": 6}),
    "gpt2": ("causal-lm", {"n_embd": 512, "n_layer": 8, "n_head": 8}),
    "llama": (
        "causal-lm",
        {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "num_attention_heads": 8,
         "num_key_value_heads": 4, "vocab_size": 32000},
    ),
}  # fmt: skip
"""Task and configuration by transformers' name of the architecture."""
LORA = LoraSpec(r=8, lora_alpha=16)
ALL = LoraSpec(r=16, lora_alpha=32, target_modules="all-linear")


@dataclass(frozen=True)
class Case:
    """A configuration."""

    shape: str
    method: MethodSpec
    rows: int
    """Of a batch."""
    length: int
    """max_length, which the longest rows have."""
    bf16: bool = False
    more: dict[str, Any] = field(default_factory=dict)
    """Other training arguments."""
    fit: bool = False

    @property
    def kind(self) -> tuple[bool, bool]:
        """What the constant differs by: bfloat16 has kernels to keep, and language models the code that generates."""
        return self.bf16, TASKS[SHAPES[self.shape][0]].adds_head

    @property
    def words(self) -> str:
        """In a table's row."""
        extra = [
            f"{name.replace('_', ' ')}{'' if value is True else f' {value}'}"
            for name, value in self.more.items()
            if value
        ]
        precision = "bf16" if self.bf16 else "fp32"
        return f"{self.shape}, {self.method.label}, {self.rows} × {self.length}, {', '.join([precision, *extra])}"


EVALUATED = 8
"""Rows of the test split, evaluated together."""
CHECKPOINTING = {"gradient_checkpointing": True}
ACCUMULATION = {"gradient_accumulation_steps": 2}
WRITING = {"per_device_eval_batch_size": 48, "max_new_tokens": 160}
CASES = [
    # The constant is fitted on these …
    Case("bert", FullSpec(), 8, 96, fit=True),
    Case("roberta", LORA, 8, 128, fit=True),
    Case("t5", LORA, 8, 64, fit=True),
    Case("gpt2", FullSpec(), 4, 96, fit=True),
    Case("llama", LORA, 4, 96, fit=True),
    Case("bert", LORA, 8, 96, True, fit=True),
    Case("gpt2", LORA, 4, 128, True, fit=True),
    Case("t5", FullSpec(), 4, 64, True, fit=True),
    Case("llama", FullSpec(), 4, 64, True, fit=True),
    Case("roberta", HeadOnlySpec(), 16, 64, True, fit=True),
    # … and the errors are of these.
    Case("bert", FullSpec(), 16, 128),
    Case("bert", LORA, 32, 128),
    Case("bert", LORA, 16, 256, True),
    Case("bert", FullSpec(), 16, 256, True, CHECKPOINTING),
    Case("bert", BitFitSpec(), 16, 128),
    Case("bert", BottleneckAdapterSpec(), 16, 192, True),
    Case("bert", LastLayersSpec(layers=2), 32, 256),
    Case("roberta", FullSpec(), 16, 128, False, CHECKPOINTING),
    Case("roberta", FullSpec(), 8, 256, True),
    Case("roberta", ALL, 16, 192),
    Case("roberta", AdaLoraSpec(), 16, 128),
    Case("t5", FullSpec(), 8, 128),
    Case("t5", LoraSpec(r=8, lora_alpha=32, target_modules=["q", "v"]), 16, 128),
    Case("t5", LORA, 16, 192, True),
    Case("t5", Ia3Spec(), 8, 128, False, CHECKPOINTING),
    Case("gpt2", FullSpec(), 8, 128),
    Case("gpt2", LORA, 8, 256),
    Case("gpt2", FullSpec(), 8, 192, True, ACCUMULATION),
    Case("gpt2", LORA, 16, 256, True, CHECKPOINTING),
    Case("llama", FullSpec(), 8, 128),
    Case("llama", ALL, 8, 256, True),
    Case("llama", LORA, 8, 192, False, CHECKPOINTING),
    # What is written after the test split's prompts is the peak of these.
    Case("gpt2", LORA, 2, 96, False, WRITING),
    Case("t5", LORA, 2, 96, False, WRITING),
    Case("llama", ALL, 2, 96, True, WRITING),
]
