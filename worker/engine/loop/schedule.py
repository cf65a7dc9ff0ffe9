"""Learning-rate schedules: a factor on the peak rate for each optimizer step.

    warm-up:   k / w                              for k = 1 … w
    then       1                                  constant
               1 − p                              linear     p = (k − w − 1) / (n − w), from 0 to just below 1
               (1 + cos πp) / 2                   cosine     (Loshchilov & Hutter 2016, arXiv 1608.03983)

The names are those of transformers. Its first step with warm-up has rate 0; counted from 1, as here, no step is lost.
"""

import math
from typing import Literal

Schedule = Literal["linear", "cosine", "constant"]


def warmup(warmup_steps: float, total: int) -> int:
    """Number of warm-up steps; a value below 1 is a share of all steps, rounded up."""
    steps = math.ceil(warmup_steps * total) if warmup_steps < 1 else int(warmup_steps)
    return min(steps, total)


def factor(step: int, total: int, warmup: int, kind: Schedule) -> float:
    """The factor for optimizer step `step`, from 1 to `total`; in (0, 1]."""
    if step <= warmup:
        return step / warmup
    progress = (step - warmup - 1) / (total - warmup)
    match kind:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - progress
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * progress))
