"""What sorting by length costs where length predicts the label, and what it saves.

    python -m benchmarks.length_order texts.csv [--rows 320,2000] [--seeds 30] [--windows 1,2,4,8]

`texts.csv` has columns `text` and `label`. Batches of 16 are made by `training_order` with windows of so many batches;
a window of one is no sorting. The model is a bag of 64-dimensional word embeddings with a linear head, trained for two
epochs with AdamW: it takes a second, so that many seeds fit, and its gradients depend on a batch's labels as any
classifier's do. Printed beside the padding: mean differences to no sorting over seeds, in nats, with the half width of
their 95 % interval (pairs of the same seed).
"""

import argparse
import csv
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch
from scipy.stats import t
from torch.nn import functional

from app.domain.data.dataset import LabelledRow, split_by_hash
from worker.engine.data.batches import batches

SIZE, WORDS, WIDTH, EPOCHS, RATE, LONGEST = 16, 2**15, 64, 2, 1e-2, 128


def encoded(rows: Sequence[LabelledRow]) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Hashed words of each row, and its label."""
    words = [row.text.split()[:LONGEST] or [""] for row in rows]
    ids = [torch.tensor([sum(ord(c) * 31**i for i, c in enumerate(w[:12])) % WORDS for w in row]) for row in words]
    return ids, torch.tensor([row.label for row in rows])


def losses(
    train: Sequence[LabelledRow], test: Sequence[LabelledRow], labels: int, seed: int, window: int
) -> tuple[float, float, float]:
    """Mean training loss of the last epoch, loss on the test rows, and share of padding in the first epoch."""
    batches._WINDOW = window
    torch.manual_seed(seed)
    ids, targets = encoded(train)
    lengths = [len(row) for row in ids]
    model = torch.nn.ModuleDict({"words": torch.nn.EmbeddingBag(WORDS, WIDTH), "head": torch.nn.Linear(WIDTH, labels)})
    torch.nn.init.normal_(model["words"].weight, std=0.1)

    def loss(rows: Sequence[torch.Tensor], wanted: torch.Tensor) -> torch.Tensor:
        starts = torch.tensor([0, *(len(row) for row in rows[:-1])]).cumsum(0)
        return functional.cross_entropy(model["head"](model["words"](torch.cat(list(rows)), starts)), wanted)

    optimizer = torch.optim.AdamW(model.parameters(), RATE, fused=True)
    seen: list[float] = []
    for epoch in range(EPOCHS):
        for batch in batches.training_order(lengths, SIZE, seed, epoch):
            value = loss([ids[i] for i in batch], targets[batch])
            value.backward()
            optimizer.step()
            optimizer.zero_grad()
            seen.append(value.item())
    first = batches.training_order(lengths, SIZE, seed, 0)
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in first)
    with torch.no_grad():
        tested = loss(*encoded(test)).item()
    return statistics.fmean(seen[len(seen) // EPOCHS * (EPOCHS - 1) :]), tested, 1 - sum(lengths) / padded


def difference(values: Sequence[float], others: Sequence[float]) -> str:
    """Mean difference of pairs, with the half width of its 95 % interval."""
    pairs = [a - b for a, b in zip(values, others, strict=True)]
    half = t.ppf(0.975, len(pairs) - 1) * statistics.stdev(pairs) / len(pairs) ** 0.5
    return f"{statistics.fmean(pairs):+.4f} ± {half:.4f}"


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--rows", default="320,2000")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--windows", default="1,2,4,8")
    options = parser.parse_args()
    with options.texts.open(encoding="utf-8", newline="") as file:
        texts = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    windows = [int(window) for window in options.windows.split(",")]
    print("| rows | window | padding | train loss | test loss |\n|---|---|---|---|---|")
    for count in map(int, options.rows.split(",")):
        labels, placed = split_by_hash(texts, count, 0)
        train = [row for row in placed if row.split == "train"]
        test = [row for row in placed if row.split == "test"][:500]
        found = {w: [losses(train, test, len(labels), s, w) for s in range(options.seeds)] for w in windows}
        for window, runs in found.items():
            kinds = list(zip(zip(*runs, strict=True), zip(*found[windows[0]], strict=True), strict=True))
            compared = [difference(*kind) for kind in kinds[:2]] if window != windows[0] else ["0", "0"]
            print(f"| {len(train)} | {window} | {100 * statistics.fmean(kinds[2][0]):.0f} % | {' | '.join(compared)} |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
