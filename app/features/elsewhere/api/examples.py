"""Examples of request bodies for results that were measured elsewhere: imports, and runs that scripts report."""

from typing import Any

IMPORT: dict[str, Any] = {
    "two": {
        "summary": "Two results that were measured elsewhere",
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
EXTERNAL_STUDY: dict[str, Any] = {
    "two": {
        "summary": "Full fine-tuning and LoRA, trained elsewhere with three seeds",
        "value": {
            "name": "MiniLM elsewhere",
            "task": "sequence-classification",
            "metric": "accuracy",
            "arms": [{"label": "full", "method": "full"}, {"label": "LoRA r=8", "method": "lora"}],
            "seeds": [0, 1, 2],
            "margin_points": 1.0,
        },
    },
}
OPEN_RUN: dict[str, Any] = {
    "run": {
        "summary": "The run of an arm and a seed",
        "value": {"key": "lora-0", "arm": "LoRA r=8", "seed": 0, "total_steps": 300},
    },
}
REPORT: dict[str, Any] = {
    "batch": {
        "summary": "Two steps and an evaluation",
        "value": {
            "attempt": 1,
            "number": 1,
            "steps": [
                {"step": 1, "loss": 1.61, "learning_rate": 0.0005, "seconds": 0.8},
                {"step": 2, "loss": 1.52, "learning_rate": 0.0005, "seconds": 1.6},
            ],
            "evaluations": [{"step": 2, "split": "validation", "items": 200, "score": 0.61}],
        },
    },
}
END_RUN: dict[str, Any] = {
    "succeeded": {
        "summary": "A run that succeeded",
        "value": {
            "attempt": 1,
            "outcome": "succeeded",
            "item_scores": {"9f86d081": 1.0, "60303ae2": 0.0},
            "facts": {
                "splits": {"train": "a" * 64, "test": "b" * 64},
                "metric_version": "argmax equals label, 1",
                "settings": {"learning_rate": 0.0005, "peft": {"r": 8, "target_modules": ["query", "value"]}},
                "peak_bytes": 1932735283,
                "clocks": {"train": 240.5, "evaluate": 3.2},
            },
        },
    },
}
