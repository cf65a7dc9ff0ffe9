"""Examples of request bodies for the API's documentation; those of studies are the files of `examples/`."""

from typing import Any

import yaml

from app.domain.runs.spec import RunSpec
from app.domain.studies.spec import StudySpec
from app.settings import ROOT


def _example(name: str) -> StudySpec:
    return StudySpec.model_validate(yaml.safe_load((ROOT / "examples" / f"{name}.yaml").read_text(encoding="utf-8")))


def _body(spec: StudySpec | RunSpec) -> dict[str, Any]:
    return spec.model_dump(mode="json", exclude_defaults=True)


SAMPLE, CAUSAL = _example("study"), _example("causal-lm")
STUDY: dict[str, Any] = {
    "sample": {
        "summary": "Classification: full fine-tuning against LoRA and a linear probe, three seeds",
        "value": _body(SAMPLE),
    },
    "causal-lm": {
        "summary": "A language model, with its forgetting of general text",
        "value": _body(CAUSAL),
    },
    "seq2seq-lm": {
        "summary": "An encoder-decoder, evaluated on generated text",
        "value": _body(_example("seq2seq-lm")),
    },
    "sentence-embeddings": {
        "summary": "An encoder that finds passages for queries",
        "value": _body(_example("sentence-embeddings")),
    },
    "preference": {
        "summary": "A language model that learns which of two answers is preferred, by DPO",
        "value": _body(_example("preference")),
    },
    "tuned": {
        "summary": "Learning rates tuned on the validation split: three per arm, set for LoRA",
        "value": _body(_example("tuned")),
    },
    "searched": {
        "summary": "Learning rate, batch size and rank searched with TPE, 12 trials per arm",
        "value": _body(_example("searched")),
    },
}
ARM: dict[str, Any] = {
    "lora": {
        "summary": "LoRA of rank 64 on every linear layer",
        "value": {"method": {"kind": "lora", "r": 64, "lora_alpha": 128, "target_modules": "all-linear"}},
    },
    "rate": {
        "summary": "A linear probe with its own learning rate",
        "value": {"method": {"kind": "head-only"}, "learning_rate": 0.01},
    },
}
RUN: dict[str, Any] = {
    "lora": {
        "summary": "Classification by LoRA, r = 8 on query and value",
        "value": _body(SAMPLE.owed()[1].spec),
    },
    "causal-lm": {
        "summary": "A language model by LoRA on every linear layer",
        "value": _body(CAUSAL.owed()[1].spec),
    },
}

REGISTRATION: dict[str, Any] = {
    "sample": {"summary": "A packaged model", "value": {"name": "all-MiniLM-L6-v2", "source": "sample"}},
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
        "summary": "A file of a western European spreadsheet",
        "value": {"delimiter": ";", "encoding": "latin-1", "header": True},
    },
}
EXPORT: dict[str, Any] = {
    "merged": {"summary": "The whole model in bfloat16", "value": {"format": "merged-bfloat16"}},
    "adapter": {"summary": "The adapter as the run saved it", "value": {"format": "adapter"}},
}
PUSH: dict[str, Any] = {
    "private": {"summary": "A private repository, the default", "value": {"repository": "owner/headlines"}},
    "public": {
        "summary": "A public one; the gate of the export is undecided",
        "value": {"repository": "owner/headlines", "private": False, "reason": "200 more items agreed"},
    },
}
WEBHOOK: dict[str, Any] = {
    "promotions": {
        "summary": "Told of promotions",
        "value": {"url": "https://hooks.example.org/vezna", "events": ["model.promoted"]},
    },
}
RATING: dict[str, Any] = {
    "left": {
        "summary": "The left answer is better",
        "value": {"first": 4, "second": 7, "item": "0c1f5a", "better": "left"},
    },
}
CLASS: dict[str, Any] = {"autumn": {"summary": "A class", "value": {"name": "PEFT, autumn term"}}}
CLASS_STUDY: dict[str, Any] = {
    "plan": {
        "summary": "Full fine-tuning and LoRA on the sample; ten learners decide",
        "value": {"plan": "full-or-lora", "planned_seeds": 10},
    },
    "study": {"summary": "A study of yours", "value": {"study_id": 12, "planned_seeds": 10}},
}
PARITY: dict[str, Any] = {
    "serve": {"summary": "A run of vezna serve", "value": {"url": "http://127.0.0.1:8001/v1"}},
    "other": {
        "summary": "An adapter of a server that needs a key; 200 test items",
        "value": {
            "url": "https://models.example.org/v1",
            "model": "headlines",
            "api_key": "sk-EXAMPLE",
            "items": 200,
        },
    },
}
JUDGEMENT: dict[str, Any] = {
    "default": {
        "summary": "The rubric that comes with Vezna, on 200 test items",
        "value": {"url": "http://127.0.0.1:8001/v1", "model": "judge", "items": 200},
    },
    "rubric": {
        "summary": "A rubric of your own, and a server that needs a key",
        "value": {
            "url": "https://models.example.org/v1",
            "model": "large-judge",
            "api_key": "sk-EXAMPLE",
            "rubric": "5: names person, place and event. 1: names none of them.",
        },
    },
}
VERSION: dict[str, Any] = {
    "candidate": {"summary": "The next version, for tests", "value": {"export": 3}},
    "champion": {
        "summary": "The next version, for production at once; its gate is undecided",
        "value": {"export": 3, "stage": "champion", "reason": "200 more items agreed", "revision": 4},
    },
}
PROMOTION: dict[str, Any] = {
    "champion": {"summary": "Promote; the champion so far retires", "value": {"stage": "champion", "revision": 4}},
    "retire": {"summary": "Retire", "value": {"stage": "retired", "reason": "replaced by another model"}},
}
DATASET: dict[str, Any] = {
    "labelled": {
        "summary": "Labelled texts, split at random: a tenth for validation, a tenth for test",
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
        "summary": "Prompts and completions in predefined splits",
        "value": {
            "name": "questions",
            "upload_id": 2,
            "mapping": {"format": "prompt-completion", "columns": {"prompt": "question", "completion": "answer"}},
            "splitting": {"kind": "predefined", "names": {"train": ["train"], "test": ["test"]}},
        },
    },
}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
"""A red PNG of one pixel."""
PREDICT: dict[str, Any] = {
    "texts": {"summary": "Texts", "value": {"inputs": ["Bond game fails to shake or stir"], "truncate": True}},
    "words": {
        "summary": "A list of words, for a model that tags them",
        "value": {"inputs": [["Ada", "Lovelace", "lives", "in", "London", "."]]},
    },
    "image": {
        "summary": "An image, as the bytes of its file in base64",
        "value": {"inputs": [{"image": PIXEL}]},
    },
    "conversation": {
        "summary": "A conversation, by the model's chat template",
        "value": {
            "inputs": [[{"role": "user", "content": "Write a headline: the central bank kept its key rate."}]],
            "decoding": {"max_new_tokens": 24, "temperature": 0.7, "seed": 1},
        },
    },
}
ESTIMATE: dict[str, Any] = {
    "study": {"summary": "A study, as it would be submitted", "value": STUDY["sample"]["value"]},
    "run": {"summary": "A run, as it would be submitted", "value": RUN["lora"]["value"]},
    "methods": {
        "summary": "Methods on a registered model, with rows of max_length tokens",
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
