"""What the log of a run says of what its trainer reports. English, as every log."""

from app.domain.models.weight_delta import WeightDeltas
from app.domain.runs.result import Evaluation
from app.domain.runs.status import Phase
from app.domain.tasks import METRICS

PHASES = {
    Phase.DOWNLOAD: "downloading the base model",
    Phase.LOAD: "loading the base model",
    Phase.TOKENIZE: "tokenizing",
    Phase.BASELINE: "evaluating the base model",
    Phase.TRAIN: "training",
    Phase.EVALUATE: "evaluating",
    Phase.SAVE: "saving",
}


def numbers(found: Evaluation) -> str:
    """`accuracy 0.901, macro-F1 0.899, loss 0.310`."""
    return ", ".join(
        [*(f"{METRICS[name].title} {value:.3f}" for name, value in found.metrics.items()), f"loss {found.loss:.3f}"]
    )


def weight_deltas_summary(found: WeightDeltas) -> str:
    """`ΔW analysis of 36 of 72 matrices in 9.8 s: for 36 there was no time`; empty where there are none."""
    if found.unchanged:
        return ""
    parts = [
        f"for {found.late} there was no time" if found.late else "",
        f"for {found.large} there was no memory" if found.large else "",
        *found.broken[:3],
    ]
    why = "; ".join(part.rstrip(".") for part in parts if part)
    done = f"ΔW analysis of {len(found.matrices)} of {found.of} matrices in {found.seconds:.1f} s"
    return f"{done}: {why}" if why else done
