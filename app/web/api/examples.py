"""The examples of the API's documentation: the same specs as in `examples/`, which a test holds against them."""

from typing import Any

from app import sample
from app.domain.methods import METHODS, FullSpec, Ia3Spec, LoraSpec, PrefixSpec
from app.domain.runs.spec import RunSpec
from app.domain.runs.training import TrainingBudget
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from app.domain.studies.tuning import GridTuning

CAUSAL = StudySpec(
    name="Headlines by SmolLM2-135M",
    base_model="HuggingFaceTB/SmolLM2-135M",
    dataset=sample.SUMMARIES,
    task="causal-lm",
    general_text=sample.GENERAL_TEXT,
    arms=[
        ArmSpec(method=FullSpec(), learning_rate=2e-5),
        ArmSpec(method=LoraSpec(r=16, lora_alpha=32, target_modules="all-linear"), learning_rate=2e-4),
        ArmSpec(method=Ia3Spec()),
    ],
    training=TrainingBudget(
        num_train_epochs=2,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        max_length=256,
        packing=True,
        early_stopping_patience=2,
    ),
    reference="full",
)
SEQ2SEQ = StudySpec(
    name="Headlines by T5-small",
    base_model="google-t5/t5-small",
    dataset=sample.SUMMARIES,
    task="seq2seq-lm",
    metric="rouge_l",
    arms=[
        ArmSpec(method=FullSpec(), learning_rate=3e-4),
        ArmSpec(method=LoraSpec(r=8, lora_alpha=16), learning_rate=1e-3),
        ArmSpec(method=PrefixSpec(num_virtual_tokens=20)),
    ],
    training=TrainingBudget(num_train_epochs=3, per_device_train_batch_size=8, max_length=256, max_new_tokens=32),
    reference="full",
    margin_points=2,
)


def _body(spec: StudySpec | RunSpec) -> dict[str, Any]:
    return spec.model_dump(mode="json", exclude_defaults=True)


STUDY: dict[str, Any] = {
    "sample": {
        "summary": "Classification: full fine-tuning against LoRA and a linear probe, three seeds",
        "value": _body(sample.study()),
    },
    "causal-lm": {
        "summary": "A language model, with what it forgets of general text",
        "value": _body(CAUSAL),
    },
    "seq2seq-lm": {
        "summary": "An encoder-decoder, judged by the text that it generates",
        "value": _body(SEQ2SEQ),
    },
}
TUNED = StudySpec.model_validate(
    sample.study().model_dump()
    | {
        "name": "BBC headlines, rates tuned",
        "tuning": GridTuning(),
        "arms": [
            ArmSpec(method=FullSpec()),
            ArmSpec(method=LoraSpec(r=8, lora_alpha=16), learning_rates=[1e-3, 2e-3, 5e-3]),
        ],
    }
)
STUDY["tuned"] = {
    "summary": "Learning rates tuned on the validation split: three per arm, those of LoRA given",
    "value": _body(TUNED),
}
ARM: dict[str, Any] = {
    "lora": {
        "summary": "LoRA of rank 64 on every linear layer",
        "value": {"method": {"kind": "lora", "r": 64, "lora_alpha": 128, "target_modules": "all-linear"}},
    },
    "rate": {
        "summary": "A linear probe at a rate of its own",
        "value": {"method": {"kind": "head-only"}, "learning_rate": 0.01},
    },
}
RUN: dict[str, Any] = {
    "lora": {
        "summary": "Classification by LoRA, r = 8 on query and value",
        "value": _body(sample.study().owed()[1].spec),
    },
    "causal-lm": {
        "summary": "A language model by LoRA on every linear layer",
        "value": _body(CAUSAL.owed()[1].spec),
    },
}

REGISTRATION: dict[str, Any] = {
    "sample": {"summary": "The packaged sample", "value": {"name": "all-MiniLM-L6-v2", "source": "sample"}},
    "hub": {
        "summary": "From the Hugging Face hub",
        "value": {"name": "roberta-base", "source": "hub", "location": "FacebookAI/roberta-base", "revision": "main"},
    },
}
SOURCE: dict[str, Any] = {
    "hub": {
        "summary": "A split of a hub dataset, at a tag",
        "value": {"source": "hub", "location": "fancyzhx/ag_news", "revision": "main", "split": "train"},
    },
    "directory": {
        "summary": "Files of a directory below VEZNA_DATA_ROOTS",
        "value": {"source": "directory", "location": "/srv/data/reviews"},
    },
}
READING: dict[str, Any] = {
    "semicolons": {
        "summary": "As a spreadsheet of western Europe writes it",
        "value": {"delimiter": ";", "encoding": "latin-1", "header": True},
    },
}
DATASET: dict[str, Any] = {
    "labelled": {
        "summary": "Texts with a label, split here: a tenth to validate, a tenth to test",
        "value": {
            "name": "reviews",
            "upload_id": 1,
            "mapping": {
                "format": "labelled",
                "columns": {"text": "review", "label": "stars"},
                "label_names": {"0": "bad", "1": "good"},
            },
            "splitting": {"kind": "random", "validation": 0.1, "test": 0.1, "seed": 0, "duplicates": "drop"},
        },
    },
    "own splits": {
        "summary": "Prompts and completions in the splits that the source has",
        "value": {
            "name": "questions",
            "upload_id": 2,
            "mapping": {"format": "prompt-completion", "columns": {"prompt": "question", "completion": "answer"}},
            "splitting": {"kind": "predefined", "names": {"train": ["train"], "test": ["test"]}},
        },
    },
}
IMPORT: dict[str, Any] = {
    "two": {
        "summary": "Two results that someone else measured",
        "value": {
            "collection": "GSM8K by others",
            "results": [
                {
                    "label": "full",
                    "method": "full",
                    "metric": "accuracy",
                    "score": 0.4716,
                    "items": 1319,
                    "test_set": "GSM8K test",
                    "seed": 0,
                    "peak_bytes": 38868615168,
                    "train_seconds": 2147.3,
                    "device": "NVIDIA L40S",
                    "settings": {"max_steps": 5000},
                    "source": "https://example.org/full.json",
                },
                {
                    "label": "LoRA r=32",
                    "method": "lora",
                    "metric": "accuracy",
                    "score": 0.4784,
                    "items": 1319,
                    "test_set": "GSM8K test",
                    "seed": 0,
                    "source": "https://example.org/lora.json",
                },
            ],
        },
    },
}
METHODS_OF_MODEL: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "application/json": {
                "example": [
                    {
                        "kind": "lora",
                        "family": "lora",
                        "label": "LoRA r=8",
                        "formula": METHODS["lora"].formula,
                        "paper": METHODS["lora"].paper,
                        "spec": {"kind": "lora", "r": 8, "lora_alpha": 16},
                        "fits": True,
                        "trainable_parameters": 75653,
                        "total_parameters": 22715141,
                        "touches": ["bert.encoder.layer.0.attention.self.query", "classifier"],
                        "reason": None,
                        "advice": [],
                    },
                    {
                        "kind": "prefix",
                        "family": "prompt",
                        "label": "prefix tuning n=20",
                        "formula": METHODS["prefix"].formula,
                        "paper": METHODS["prefix"].paper,
                        "spec": {"kind": "prefix", "num_virtual_tokens": 20},
                        "fits": False,
                        "trainable_parameters": None,
                        "total_parameters": 22715141,
                        "touches": [],
                        "reason": {
                            "path": "kind",
                            "message": "prefix tuning does not fit the task sequence-classification",
                            "remedy": "it fits causal-lm, seq2seq-lm",
                        },
                        "advice": [],
                    },
                ]
            }
        }
    }
}
"""Shortened: two of the methods, and two of what the first touches."""
ESTIMATE: dict[str, Any] = {
    "study": {"summary": "A study, as it would be submitted", "value": STUDY["sample"]["value"]},
    "run": {"summary": "A run, as it would be submitted", "value": RUN["lora"]["value"]},
    "methods": {
        "summary": "Methods on a registered model, every row as long as max_length lets it be",
        "value": {
            "base_model": "HuggingFaceTB/SmolLM2-135M",
            "task": "causal-lm",
            "methods": [{"kind": "full"}, {"kind": "lora", "r": 16, "target_modules": "all-linear"}],
            "training": {"max_length": 1024, "per_device_train_batch_size": 4},
        },
    },
    "config": {
        "summary": "A model that is not downloaded: 8 billion parameters, from its config.json",
        "value": {
            "config": {
                "model_type": "llama",
                "hidden_size": 4096,
                "intermediate_size": 14336,
                "num_hidden_layers": 32,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "vocab_size": 128256,
            },
            "task": "causal-lm",
            "methods": [{"kind": "full"}, {"kind": "lora", "r": 16}, {"kind": "qlora", "r": 16}],
            "training": {"max_length": 512, "per_device_train_batch_size": 1, "gradient_checkpointing": True},
        },
    },
}
_SPECTRUM = {
    "count": 8,
    "norm": 1.21,
    "effective_rank": 4.3,
    "stable_rank": 1.6,
    "rank_50": 1,
    "rank_90": 2,
    "rank_99": 5,
    "energy": [0.62, 0.91, 0.95, 0.97, 0.99, 1.0],
    "value_ranks": [1, 2, 3, 4, 5, 6, 7, 8],
    "values": [0.953, 0.652, 0.242, 0.171, 0.142, 0.094, 0.067, 0.051],
}
WEIGHT_DELTAS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "application/json": {
                "example": {
                    "run_id": 12,
                    "unchanged": None,
                    "reason": None,
                    "summary": {
                        "matrices": 12,
                        "of": 12,
                        "side": 384,
                        "possible_rank": 8,
                        "effective_rank": 4.3,
                        "rank_90": 2,
                        "energy_8": 1.0,
                        "norm_ratio": 0.131,
                        "weight_effective_rank": 270.1,
                        "weight_rank_90": 156,
                        "weight_energy_8": 0.146,
                        "intruders": 9,
                        "top": 120,
                    },
                    "matrices": [
                        {
                            "name": "bert.encoder.layer.0.attention.self.query",
                            "block": 0,
                            "module": "attention.self.query",
                            "rows": 384,
                            "columns": 384,
                            "norm_ratio": 0.12,
                            "delta": _SPECTRUM,
                            "weight": _SPECTRUM | {"count": 384, "effective_rank": 268.2, "rank_90": 150},
                            "top": 10,
                            "intruders": 1,
                        }
                    ],
                    "late": 0,
                    "large": 0,
                    "broken": [],
                    "budget_seconds": 10.0,
                    "seconds": 2.1,
                }
            }
        }
    }
}
"""Shortened: one of the matrices."""
