"""Lines of a run's log about its trainer's reports. In English, like every log."""

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


def numbers(evaluation: Evaluation) -> str:
    """`accuracy 0.901, macro-F1 0.899, loss 0.310`."""
    return ", ".join(
        [
            *(f"{METRICS[name].title} {value:.3f}" for name, value in evaluation.metrics.items()),
            f"loss {evaluation.loss:.3f}",
        ]
    )


def weight_deltas_summary(analysis: WeightDeltas) -> str:
    """`ΔW analysis of 36 of 72 matrices in 9.8 s: for 36 there was no time`; empty where there are none."""
    if analysis.unchanged:
        return ""
    parts = [
        f"for {analysis.late} there was no time" if analysis.late else "",
        f"for {analysis.large} there was no memory" if analysis.large else "",
        *analysis.broken[:3],
    ]
    why = "; ".join(part.rstrip(".") for part in parts if part)
    done = f"ΔW analysis of {len(analysis.matrices)} of {analysis.of} matrices in {analysis.seconds:.1f} s"
    return f"{done}: {why}" if why else done
