"""The model card of an export, in the format of the Hugging Face hub: metadata in YAML, then Markdown.

Source of the metadata: the hub's documentation, "Model Cards" (`base_model`, `model-index`). It is English in every
language of Vezna, since its readers are those of the hub.
"""

from typing import Any

import yaml

from app.domain.comparison.fairness.export_gate import GateOutcome
from app.domain.models.exports import ExportFormat
from app.domain.runs.training import applies
from app.domain.tasks import LANGUAGE, METRICS, TASKS
from app.features.shipping.services.model_cards import CardFacts
from app.features.shipping.words.snippets import Export, loading_code

ARGUMENTS = ("learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size",
                  "gradient_accumulation_steps", "max_length", "weight_decay", "lr_scheduler_type", "bf16")  # fmt: skip


def described(facts: CardFacts, folder: str = "") -> Export:
    """What code that loads an export depends on; `folder`: the unpacked archive, or a repository."""
    hub, data = facts.model.source == "hub", facts.dataset.facts
    return Export(
        facts.export.form,
        facts.run.spec,
        folder or f"run-{facts.run.id}-{facts.export.format}",
        facts.model.location if hub else f"path/to/{facts.model.name}",
        facts.model.pinned if hub else "",
        data.labels,
        data.format,
        facts.model.facts.max_positions if facts.model.facts else None,
    )


def model_card(facts: CardFacts, repository: str, reason: str = "") -> str:
    """The text of `README.md`. `reason`: why an export that has not passed its gate is published."""
    head = yaml.safe_dump(_metadata(facts, repository), sort_keys=False, allow_unicode=True)
    parts = [
        f"# {repository.partition('/')[2]}",
        _what(facts),
        _results(facts),
        _gate(facts, reason),
        _loading(facts, repository),
        _training(facts),
        _limitations(facts),
        _receipt(facts),
    ]
    return f"---\n{head}---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def _metadata(facts: CardFacts, repository: str) -> dict[str, Any]:
    form, spec = facts.export.form, facts.run.spec
    hub = facts.model.source == "hub"
    quantized = form.gguf not in ("", "F16", "BF16") or form is ExportFormat.ONNX_INT8
    relation = "adapter" if not form.merged else "quantized" if quantized else "finetune"
    library = "onnx" if form is ExportFormat.ONNX_INT8 else "gguf" if form.gguf else "transformers"
    results = {
        "task": {"type": TASKS[spec.task].pipeline, "name": str(TASKS[spec.task].title)},
        "dataset": {"type": facts.dataset.name, "name": facts.dataset.reference, "split": "test"},
        "metrics": [{"type": facts.gate.metric, "value": round(facts.gate.score, 6), "name": _metric(facts)}],
    }
    return {
        **({"base_model": facts.model.location, "base_model_relation": relation} if hub else {}),
        "library_name": library if form.merged else "peft",
        "pipeline_tag": TASKS[spec.task].pipeline,
        "tags": ["vezna", spec.method.kind, *(["base_model:" + facts.model.name] if not hub else [])],
        "model-index": [{"name": repository.partition("/")[2], "results": [results]}],
    }


def _metric(facts: CardFacts) -> str:
    return str(METRICS[facts.gate.metric].title)


def _what(facts: CardFacts) -> str:
    model, spec = facts.model, facts.run.spec
    pinned = f" at {model.pinned[:12]}" if model.pinned else ""
    return (
        f"{model.name}{pinned}, fine-tuned on {facts.dataset.reference} with {spec.method.label}, exported as "
        f"{facts.export.format}. Trained and measured by Vezna (run {facts.run.id}, seed {facts.run.seed})."
    )


def _results(facts: CardFacts) -> str:
    metric, score, gate = _metric(facts), facts.score, facts.gate
    rows = [
        ("this export", _percent(gate.score), f"seed {facts.run.seed}, {gate.items} test items"),
        ("the run it was made from", _percent(gate.run_score), "the same items"),
        (
            f"mean of {score.seeds} seed{'s' if score.seeds > 1 else ''}",
            f"{_percent(score.mean)} [{_percent(score.low)}, {_percent(score.high)}]",
            f"95 % interval over items{' and seeds' if score.seeds > 1 else ''}; "
            f"seeds {', '.join(map(str, facts.seeds))}",
        ),
    ]
    before = facts.result.evaluation("base", "test")
    if before is not None and before.score is not None and not TASKS[facts.run.spec.task].adds_head:
        rows.append(("base model, before training", _percent(before.score), "the same items"))
    lines = "\n".join(f"| {name} | {value} | {note} |" for name, value, note in rows)
    return f"## Results\n\n| | {metric} on the test split | |\n|---|---|---|\n{lines}"


def _gate(facts: CardFacts, reason: str) -> str:
    gate = facts.gate
    text = (
        f"## Checked as exported\n\nThe files were loaded with {gate.loaded_with} and scored on the same {gate.items} "
        f"test items as the run: {100 * gate.delta:+.1f} points (95 % interval "
        f"{100 * gate.low:+.1f} to {100 * gate.high:+.1f}, paired), with a margin of "
        f"{100 * gate.margin:g}: **{gate.outcome.value}**."
    )
    if gate.same is not None:
        text += f" {gate.same} predictions are the same."
    if gate.outcome is not GateOutcome.PASS:
        text += f"\n\nPublished all the same, because: {reason or '(a reason is required)'}"
    return text


def _loading(facts: CardFacts, repository: str) -> str:
    local = facts.export.form is ExportFormat.ONNX_INT8 or described(facts).bare
    folder = repository.partition("/")[2] if local else repository
    code = loading_code(described(facts, folder))
    if not code:
        return "## Use\n\nNeither transformers nor PEFT loads these files; Vezna does."
    fetch = f"```sh\nhf download {repository} --local-dir {folder}\n```\n\n" if local else ""
    return f"## Use\n\n{fetch}```python\n{code}```"


def _training(facts: CardFacts) -> str:
    result, spec = facts.result, facts.run.spec
    settings = spec.training.model_dump(mode="json")
    rows = [(name, settings[name]) for name in ARGUMENTS
            if settings.get(name) not in (None, -1) and applies(name, spec.task)]  # fmt: skip
    rows += [(name, value) for name, value in spec.method.model_dump(mode="json", exclude_defaults=False).items()
             if value is not None and not isinstance(value, list | dict)]  # fmt: skip
    lines = "\n".join(f"| `{name}` | {value} |" for name, value in rows)
    environment = result.environment
    return (
        f"## Training\n\n{result.parameters.trainable:,} of {result.parameters.total:,} parameters trained, in "
        f"{result.steps:,} steps. Peak memory: {result.memory.peak_bytes / 2**20:,.0f} MiB (measured on "
        f"{environment.device_name}); wall time: {result.clocks.wall:,.0f} s; computed in {environment.precision}, "
        f"with {environment.libraries}.\n\n| argument | value |\n|---|---|\n{lines}"
    )


def _limitations(facts: CardFacts) -> str:
    sentences = [
        f"It was measured on the test split of {facts.dataset.reference} alone; other data may give other scores.",
        "The license of the base model and that of the data apply.",
    ]
    if facts.score.seeds == 1:
        sentences.append("It was trained with one seed, so the interval does not say what another seed would change.")
    if facts.run.spec.task in LANGUAGE:
        sentences.append("Generated text was compared with reference texts; its truth and its harms were not judged.")
    if facts.gate.outcome is GateOutcome.UNDECIDED:
        sentences.append("The check of the exported files is undecided: more test items would decide.")
    if facts.gate.weights is not None and facts.gate.weights.unseen:
        sentences.append(
            f"This format rounds so much of the change away that the weights of {facts.gate.weights.unseen:,} tensors "
            "cannot show whether they hold it; the scores of the check are measured with them."
        )
    return "## Limitations\n\n" + "\n".join(f"- {sentence}" for sentence in sentences)


def _receipt(facts: CardFacts) -> str:
    return (
        "## Receipt\n\n`receipt.json` has the SHA-256 of these files, of base model and data, the scores and this "
        "result, signed with Ed25519. In a folder with the files: `vezna verify . --key KEY`, with the public key of "
        "the installation that signed it."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
