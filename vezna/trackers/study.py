"""A study as experiment trackers describe one: runs with parameters, metrics, tags and files; read over REST."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from vezna.client import Client
from vezna.models import Artifact, Comparison, Run, StudyComparison
from vezna.sending.connection import Request

AnyComparison = Comparison | StudyComparison

STEPS = 10_000
"""Optimizer steps of a run that are exported; of more, those that keep the shape of the loss curve."""
STEP_COLUMNS = ("loss", "learning_rate", "grad_norm", "epoch", "tokens", "memory_bytes")
STATED = (
    "method", "seed", "base_model", "base_model_hash", "dataset", "learning_rate", "device", "precision", "metric",
    "metric_version", "memory_measure",
)  # fmt: skip
"""Facts of a run that is trained elsewhere, beside its settings."""
BLOCKWISE = ("sequence-classification", "token-classification", "causal-lm", "preference")
USED_BY = {
    "beta": ("preference",),
    "compile_blocks": BLOCKWISE,
    "completion_only_loss": ("causal-lm", "seq2seq-lm"),
    "devices": (*BLOCKWISE, "image-classification", "seq2seq-lm"),
    "gradient_accumulation_steps": (*BLOCKWISE, "image-classification", "seq2seq-lm"),
    "max_length": (*BLOCKWISE, "seq2seq-lm", "sentence-embeddings"),
    "max_new_tokens": ("causal-lm", "seq2seq-lm"),
    "packing": ("causal-lm",),
    "padding_free": BLOCKWISE,
    "preference_loss": ("preference",),
}
"""The tasks of training arguments that apply to some only, as the server has them."""
MEMORY = ("peak_bytes", "train_peak_bytes", "weights_bytes", "gradients_bytes", "optimizer_bytes", "reserved_bytes")


@dataclass(frozen=True)
class Point:
    name: str
    """`test/accuracy`, `seconds/wall`."""
    value: float
    step: int = 0
    seconds: float = 0.0
    """Since training began; 0 if it is not known."""


@dataclass(frozen=True)
class TrackedRun:
    """A run that has started."""

    id: int
    name: str
    """`LoRA r=8, seed 0`."""
    status: str
    ended: bool
    attempt: int
    """Which reports all steps anew; 0 of a run that is trained elsewhere, whose steps stay."""
    total_steps: int | None
    started_at: datetime
    finished_at: datetime | None
    note: str
    worker: str
    """Which machine trained it: only for trackers that the team runs itself."""
    parameters: Mapping[str, str]
    tags: Mapping[str, str]
    points: list[Point]
    """Results and evaluations; the steps are read apart."""
    files: list[Artifact]
    private: bool = False


@dataclass(frozen=True)
class TrackedStudy:
    """A study and its verdict."""

    id: int
    external: bool
    """Its runs are trained elsewhere."""
    name: str
    status: str
    url: str
    created_at: str
    """As the server writes it: with the id it tells the studies of several servers apart."""
    note: str
    summary: str
    """The verdict in a sentence or two."""
    runs: list[int]
    """Trials too, which have a tag `vezna.trial_round`."""
    tags: Mapping[str, str]
    points: list[Point]
    """Score of each arm with its 95 % interval, difference from the reference, costs."""
    comparison: Mapping[str, Any] = field(repr=False)

    @property
    def key(self) -> str:
        """The same at every address of its server, and another at every other server."""
        return f"{'elsewhere ' if self.external else ''}{self.id} {self.created_at}"

    @property
    def title(self) -> str:
        """Its name for people: `BBC headlines (Vezna study 12)`."""
        return self.name + self.suffix

    @property
    def suffix(self) -> str:
        """What tells it from studies of the same name: ` (Vezna study 12)`."""
        return f" (Vezna {'external ' if self.external else ''}study {self.id})"


def read_study(client: Client, study_id: int) -> TrackedStudy:
    """A study with its comparison. Raises ClientError."""
    study, comparison = client.study(study_id), client.study_comparison(study_id)
    rest = study.model_extra or {}
    url = f"{client.server.address}/studies/{study.id}"
    tags = {
        "vezna.url": url,
        "vezna.status": study.status,
        "vezna.tags": ", ".join(rest["tags"]),
        "vezna.summary": comparison.summary,
        "vezna.complete": str(comparison.complete).lower(),
        "vezna.interim_looks": str(comparison.interim_looks),
        "vezna.caveats": "\n".join(comparison.caveats),
    }
    return TrackedStudy(
        id=study.id,
        external=False,
        name=study.name,
        status=study.status,
        url=url,
        created_at=rest["created_at"],
        note=rest["note"],
        summary=comparison.summary,
        runs=[*study.runs, *study.trials],
        tags=tags | _verdict_tags(comparison),
        points=_arm_points(comparison),
        comparison=comparison.model_dump(mode="json"),
    )


def read_external_study(client: Client, study_id: int) -> TrackedStudy:
    """A study whose runs are trained elsewhere, with its comparison. Raises ClientError, also if no run was opened."""
    study, comparison = client.external_study(study_id), client.compare(collection=study_id)
    url = f"{client.server.address}/external-studies/{study.id}"
    lead = (comparison.model_extra or {})["lead"]
    complete = len(study.spec["arms"]) * len(study.spec["seeds"])
    scored = sum(run.score is not None for run in study.runs)
    status = "finished" if scored == complete else "running"
    tags = {
        "vezna.url": url,
        "vezna.status": status,
        "vezna.summary": f"{comparison.headline} {lead}".strip(),
        "vezna.complete": str(scored == complete).lower(),
        "vezna.caveats": "\n".join(confounder.sentence for confounder in comparison.confounders),
        "vezna.trained_elsewhere": "true",
    }
    return TrackedStudy(
        id=study.id,
        external=True,
        name=study.name,
        status=status,
        url=url,
        created_at=(study.model_extra or {})["created_at"],
        note="",
        summary=tags["vezna.summary"],
        runs=[run.id for run in study.runs],
        tags=tags | _verdict_tags(comparison),
        points=_arm_points(comparison),
        comparison=comparison.model_dump(mode="json"),
    )


def read_run(client: Client, run_id: int) -> TrackedRun | None:
    """A run; None if it has not started. Raises ClientError."""
    run = client.run(run_id)
    rest = run.model_extra or {}
    if not rest["started_at"]:
        return None
    result, reported, trial = rest["result"] or {}, rest["imported"], rest["trial_round"]
    seed = reported["seed"] if reported else rest["spec"]["training"]["seed"]
    tags = {
        "vezna.run": str(run.id),
        "vezna.url": f"{client.server.address}/runs/{run.id}",
        "vezna.arm": run.arm,
        "vezna.status": run.status,
        "vezna.trial_round": "" if trial is None else str(trial),
        "vezna.failure": f"{run.failure.code}: {run.failure.message}" if run.failure else "",
        "vezna.tags": ", ".join(rest["tags"]),
    }
    return TrackedRun(
        id=run.id,
        name=f"{run.arm}, seed {seed}" + ("" if trial is None else f", trial {run.id}"),
        status=run.status,
        ended=run.ended,
        attempt=0 if reported else run.attempt,
        total_steps=run.total_steps,
        started_at=datetime.fromisoformat(rest["started_at"]),
        finished_at=datetime.fromisoformat(rest["finished_at"]) if rest["finished_at"] else None,
        note=rest["note"],
        worker=rest["worker"] or "",
        parameters=_reported_parameters(reported) if reported else _parameters(rest["spec"], result),
        tags={name: value for name, value in tags.items() if value},
        points=_points(run, result) + (_reported_points(reported, run.step) if reported else []),
        files=client.artifacts(run.id) if run.ended else [],
        private=rest["visibility"] == "private",
    )


def read_steps(client: Client, run_id: int, *, after: int = 0, most: int = STEPS) -> Iterator[Point]:
    """At most `most` optimizer steps of a run after one of them, each with its values, in order. Raises ClientError."""
    series = client.request(Request("GET", f"/runs/{run_id}/steps", {"points": most, "after_step": after}))
    for index, step in enumerate(series["step"]):
        for name in STEP_COLUMNS:
            value = series[name][index]
            if value is not None:
                yield Point(f"train/{name}", value, step, series["seconds"][index])


def _parameters(spec: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, str]:
    """The spec without its levels: `method`, `r`, `learning_rate`, `seed`, `base_model`, `dataset`, …"""
    method, training = dict(spec["method"]), dict(spec["training"])
    whole = {"method": method.pop("kind"), **method, **training}
    whole |= {name: value for name, value in spec.items() if name not in ("method", "training")}
    if data := result.get("data"):
        whole["dataset_sha256"] = data["splits"]
    unused = {name for name, tasks in USED_BY.items() if spec["task"] not in tasks}
    if training["max_steps"] is not None:
        unused.add("num_train_epochs")
    return {name: _text(value) for name, value in whole.items() if value is not None and name not in unused}


def _reported_parameters(reported: Mapping[str, Any]) -> dict[str, str]:
    """What the script of a run stated of it, with its settings by their own names."""
    whole = dict(reported["settings"]) | {name: reported[name] for name in STATED}
    whole |= {f"versions.{name}": value for name, value in reported["versions"].items()}
    whole |= {f"{split}_sha256": value for split, value in reported["splits"].items()}
    return {name: _text(value) for name, value in whole.items() if value not in (None, "")}


def _reported_points(reported: Mapping[str, Any], step: int) -> list[Point]:
    values = {
        "tokens": reported["tokens"],
        "parameters/trainable": reported["trainable_parameters"],
        "parameters/total": reported["total_parameters"],
        "file_bytes": reported["file_bytes"],
        "memory/peak_bytes": reported["peak_bytes"],
        "seconds/train": reported["train_seconds"],
    }
    values |= {f"seconds/{name}": seconds for name, seconds in reported["clocks"].items()}
    return [Point(name, value, step) for name, value in values.items() if value is not None]


def _points(run: Run, result: Mapping[str, Any]) -> list[Point]:
    scores = {"score": run.score, "base_score": run.base_score, "validation_score": run.validation_score}
    found = [Point(name, value, run.step) for name, value in scores.items() if value is not None]
    if not result:
        return found
    for one in result["evaluations"]:
        place = one["split"] if one["subject"] == "adapted" else f"base/{one['split']}"
        values = {"loss": one["loss"], **one["metrics"]}
        found += [Point(f"{place}/{name}", value, one["step"]) for name, value in values.items() if value is not None]
    totals = {
        "tokens": result["tokens"],
        "parameters/trainable": result["parameters"]["trainable"],
        "parameters/total": result["parameters"]["total"],
        "file_bytes": sum(file["bytes"] for file in result["artifacts"] if file["kind"] in ("adapter", "model")),
        "energy_joules": result["energy_joules"],
    }
    if result["forgetting"]:
        totals["forgetting"] = result["forgetting"]["adapted_loss"] - result["forgetting"]["base_loss"]
    if result["trained_together"] == 1:  # else memory and times are a group's
        totals |= {f"memory/{name}": result["memory"][name] for name in MEMORY}
        totals |= {f"seconds/{name}": value for name, value in result["clocks"].items()}
    return found + [Point(name, value, result["steps"]) for name, value in totals.items() if value is not None]


def _verdict_tags(comparison: AnyComparison) -> dict[str, str]:
    tags = {
        "vezna.headline": comparison.headline,
        "vezna.metric": comparison.metric,
        "vezna.margin": str(comparison.margin),
        "vezna.confidence": str(comparison.confidence),
    }
    for arm in comparison.arms:
        if arm.reference:
            tags["vezna.reference"] = arm.title
        if arm.verdict:
            tags[f"vezna.verdict/{arm.title}"] = arm.verdict.kind
            tags[f"vezna.verdict_sentence/{arm.title}"] = arm.verdict.sentence
    return tags


def _arm_points(comparison: AnyComparison) -> list[Point]:
    found = []
    for arm in comparison.arms:
        values: dict[str, Any] = {}
        if arm.score:
            score = arm.score
            values |= {"score": score.mean, "score_low": score.low, "score_high": score.high, "seeds": score.seeds}
        if arm.verdict:
            verdict = arm.verdict
            values |= {"difference": verdict.delta, "difference_low": verdict.low, "difference_high": verdict.high}
        if costs := (arm.model_extra or {}).get("costs"):
            means = {name: costs.get(name) for name in ("peak_bytes", "train_seconds", "wall_seconds")}
            values |= {name: mean["mean"] for name, mean in means.items() if mean}
            values["trainable_parameters"] = costs["trainable_parameters"]
        found += [Point(f"arm/{arm.title}/{name}", value) for name, value in values.items() if value is not None]
    return found


def _text(value: object) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text.lower() if isinstance(value, bool) else text
