"""Whether the default learning rates are good ones: full fine-tuning and LoRA at multiples of their defaults.

    python -m benchmarks.default_rates [--seeds 2] [--language] [--rows 16] [--factors 1/3 1 3]

The packaged MiniLM on the headlines of the sample, three epochs; with `--language`, SmolLM2 on the sample's first
paragraphs, one epoch. Every run is a trainer as a worker starts it, on the same rows and items. The rule
(`app.domain.methods.base`) is published and was not fitted to these runs, so they may be scored on the test split.
`--rows` keeps the first rows of each split, to try the benchmark itself.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from app.domain.data.dataset import SPLITS, Row
from app.domain.methods import FullSpec, LoraSpec, MethodSpec
from app.domain.methods.base import default_rate
from app.domain.runs.result import Evaluation
from app.domain.runs.spec import RunSpec
from app.domain.runs.training import TrainingArguments
from app.domain.tasks import Format
from app.samples import samples as sample
from benchmarks.speed.tables import over_seeds
from benchmarks.speed.trained import trained
from worker.samples.host import load_from

METHODS: dict[str, tuple[MethodSpec, float]] = {"full": (FullSpec(), 1), "LoRA r=8": (LoraSpec(), 10)}
"""With their multiples of full fine-tuning's rate."""
FACTORS = {"1/9": 1 / 9, "1/3": 1 / 3, "1": 1.0, "3": 3.0, "9": 9.0}
"""Of the default rate."""
COLUMNS: dict[str, tuple[Callable[[Evaluation], float], str]] = {
    "accuracy (%)": (lambda tested: 100 * tested.metrics["accuracy"], ".1f"),
    "test loss": (lambda tested: tested.loss, ".3f"),
}


def tested(method: MethodSpec, rate: float, seed: int, *, language: bool, most: int | None = None) -> Evaluation:
    """Train once, and evaluate on the test split; `most` is the number of rows of each split."""
    fields: dict[str, float] = {"learning_rate": rate, "seed": seed, "per_device_train_batch_size": 16}
    if language:
        rows: list[Row] = [*sample.titles()]
        labels: list[str] = []
        model = Path(load_from("sample", "smollm2", Path.home() / ".cache" / "vezna"))
        fields |= {"num_train_epochs": 1, "max_length": 96, "max_new_tokens": 1}  # the loss needs no generated text
    else:
        labels, headlines = sample.headlines()
        rows, model = [*headlines], sample.model_directory()
        fields |= {"num_train_epochs": 3, "max_length": 64}
    spec = RunSpec(
        base_model="packaged",
        dataset="rows",
        task="causal-lm" if language else "sequence-classification",
        method=method,
        metric="token_accuracy" if language else "accuracy",
        training=TrainingArguments.model_validate(fields),
    )
    rows = [row for split in SPLITS for row in [row for row in rows if row.split == split][:most]]
    with tempfile.TemporaryDirectory() as folder:
        form: Format = "prompt-completion" if language else "labelled"
        result, _steps = trained(spec, model, labels, rows, Path(folder), form)
    evaluation = result.evaluation("adapted", "test")
    assert evaluation is not None
    return evaluation


def main() -> None:
    """Print the table as Markdown, a row as soon as its runs are done."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--language", action="store_true")
    parser.add_argument("--rows", type=int, help="the first rows of each split only")
    parser.add_argument("--factors", nargs="+", choices=FACTORS, default=[*FACTORS], help="of the default rate")
    options = parser.parse_args()
    columns = {"test loss": COLUMNS["test loss"]} if options.language else COLUMNS
    print(f"| method | rate | of the default | {' | '.join(columns)} |\n|{'---|' * (3 + len(columns))}", flush=True)
    for name, (method, multiple) in METHODS.items():
        for words in options.factors:
            rate = FACTORS[words] * default_rate(multiple, 576 if options.language else 384)
            cut = {"language": options.language, "most": options.rows}
            runs = [tested(method, rate, seed, **cut) for seed in range(options.seeds)]
            scores = [over_seeds([of(run) for run in runs], form) for of, form in columns.values()]
            print(f"| {name} | {rate:.1e} | {words} | {' | '.join(scores)} |", flush=True)


if __name__ == "__main__":
    main()
