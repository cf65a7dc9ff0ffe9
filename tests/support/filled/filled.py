"""A database with one of everything in it, for the pages: studies in every state, runs, workers, a log, step metrics.

The numbers are like those of the sample study; nothing here was trained.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import update
from sqlalchemy.orm import Session

from app.domain.data.baselines import Baseline
from app.domain.data.dataset import SAMPLE_DATASET, DatasetFacts, items_hash
from app.domain.failures import FAILURES, FailureCode
from app.domain.methods import FullSpec, HeadOnlySpec, LoraSpec
from app.domain.models.architecture import LABELS as LABELS_SIDE
from app.domain.models.architecture import LinearFacts, ParameterFacts, TaskModel
from app.domain.models.base_model import FACTS_VERSION, SAMPLE_MODEL, ModelFacts, ModelFile, TokenizerFacts
from app.domain.models.spectra import Spectrum
from app.domain.models.weight_delta import MatrixDelta, WeightDeltas
from app.domain.runs.clocks import Clocks
from app.domain.runs.confusion import Answers, Confusion
from app.domain.runs.result import (
    STEP_DTYPE,
    ArtifactFile,
    Audit,
    AuditGroup,
    Environment,
    Evaluation,
    Memory,
    Parameters,
    RunResult,
)
from app.domain.runs.status import Phase
from app.domain.runs.training import TrainingArguments, TrainingBudget
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import OwedRun, StudySpec
from app.samples import samples as sample
from app.services.data import baselines
from app.services.runs.log import PHASES
from app.store.data import queries as datasets
from app.store.models import queries as base_models
from app.store.runs import evaluations, events, steps, weight_deltas
from app.store.tables import (
    ArtifactRow,
    BaseModelRow,
    DatasetRow,
    DeviceRow,
    EstimateRow,
    RunEventRow,
    RunRow,
    StudyRow,
    WorkerRow,
    now,
)

MIB = 1024**2
ITEMS = 646
ITEM_NAMES = [f"item-{i}" for i in range(ITEMS)]
TOTAL_STEPS = 246
LABELS = ["business", "entertainment", "politics", "sport", "tech"]
ACCURACY = {"full": 0.895, "lora": 0.891, "head-only": 0.812}
BASELINES = {"most-frequent": 0.231, "tfidf": 0.786}
PEAK = {"full": 403, "lora": 150, "head-only": 121}
SECONDS = {"full": 54.0, "lora": 28.0, "head-only": 18.0}
TRAINABLE = {"full": 22_715_141, "lora": 75_653, "head-only": 1_925}
GPUS = ("GPU-5f3a9c1e-7d24-4b1b-9a57-0c6b1f0e8d01", "GPU-5f3a9c1e-7d24-4b1b-9a57-0c6b1f0e8d02")
"""Of the worker `gpu-1`."""
LOST_WORKER = "cpu-2"
SIZE = {"full": 90_900_000, "lora": 310_000, "head-only": 8_400}


def three_arms() -> StudySpec:
    """Full fine-tuning, LoRA and a linear probe on the sample's model and data, three seeds."""
    return StudySpec(
        name=sample.STUDY_NAME,
        base_model=SAMPLE_MODEL,
        dataset=SAMPLE_DATASET,
        arms=[
            ArmSpec(method=FullSpec(), learning_rate=1e-4),
            ArmSpec(method=LoraSpec(target_modules=["query", "value"]), learning_rate=2e-3),
            ArmSpec(method=HeadOnlySpec(), learning_rate=3e-2),
        ],
        seeds=[0, 1, 2],
        training=TrainingBudget(num_train_epochs=3, per_device_train_batch_size=16, max_length=64),
        reference="full",
        margin_points=2.0,
    )


def fill(session: Session) -> None:
    """Put one of everything into an empty database."""
    register(session)
    finished = three_arms()
    add_baselines(session, finished)
    for run in add_study(session, finished, hours_ago=5.0):
        succeed(session, run)
    running = finished.model_copy(update={"name": "Headlines, five seeds", "seeds": [0, 1, 2, 3, 4], "reference": ""})
    runs = add_study(session, running, hours_ago=0.2)
    for run in runs[:6]:
        succeed(session, run)
    start(session, runs[6])
    small = StudySpec(
        name="Two ranks",
        base_model=finished.base_model,
        dataset=finished.dataset,
        arms=[
            ArmSpec(method=FullSpec(), learning_rate=1e-4),
            ArmSpec(method=LoraSpec(r=4), learning_rate=2e-3),
            ArmSpec(method=LoraSpec(r=64), learning_rate=2e-3),
            ArmSpec(method=LoraSpec(r=64, use_dora=True), learning_rate=2e-3),
        ],
        seeds=[7],
        training=TrainingArguments(num_train_epochs=1),
    )
    first, *others = add_study(session, small, hours_ago=30.0)
    fail(session, first, FailureCode.OUT_OF_MEMORY)
    for run in others:
        succeed(session, run)
    alone = add_study(session, finished.model_copy(update={"name": "Called off"}), hours_ago=50.0)
    for run in alone:
        run.status, run.finished_at = "cancelled", run.queued_at + timedelta(seconds=9)
    add_workers(session, runs[6].id)


def register(session: Session) -> None:
    """The sample base model and the sample dataset."""
    session.add(BaseModelRow(name=SAMPLE_MODEL, source="sample", status="ready", facts_json=model_facts().model_dump()))
    session.add(BaseModelRow(name="distilbert-base", source="hub", location="distilbert/distilbert-base-uncased"))
    facts = DatasetFacts(
        labels=LABELS,
        counts={"train": 1300, "validation": 150, "test": ITEMS},
        label_counts=dict(zip(LABELS, [490, 370, 405, 495, 336], strict=True)),
        content_hash="5f1e04a9" * 8,
    )
    session.add(
        DatasetRow(
            name=SAMPLE_DATASET,
            title=sample.TITLE,
            content_hash=facts.content_hash,
            file="datasets/x.parquet",
            facts_json=facts.model_dump(),
        )
    )
    session.flush()


def model_facts() -> ModelFacts:
    """all-MiniLM-L6-v2: six layers of width 384."""
    special = {name: f"[{name.upper()}]" for name in ("unk", "sep", "pad", "cls", "mask")}
    return ModelFacts(
        version=FACTS_VERSION,
        architecture="BertModel",
        model_type="bert",
        parameters=22_713_216,
        hidden_size=384,
        layers=6,
        max_positions=512,
        tasks={"sequence-classification": bert(layers=6, width=384, inner=1536, words=30522, positions=512, heads=12)},
        unable={
            "causal-lm": "a model of type 'bert' reads in both directions: choose another base model or task.",
            "seq2seq-lm": "transformers has no seq2seq-lm model of type 'bert': choose another base model or task.",
        },
        revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
        dtype="float32",
        files=[ModelFile(name="model.safetensors", bytes=90_868_376)],
        tokenizer=TokenizerFacts(
            kind="BertTokenizer", vocabulary=30_522, special={f"{name}_token": text for name, text in special.items()}
        ),
    )


def bert(*, layers: int, width: int, inner: int, words: int, positions: int, heads: int) -> TaskModel:
    """A BERT classifier as an inspection describes it."""
    blocks = [f"bert.encoder.layer.{n}" for n in range(layers)]
    linear = [
        LinearFacts(name=f"{block}.{part}", in_features=i, out_features=o)
        for block in blocks
        for part, i, o in (
            ("attention.self.query", width, width),
            ("attention.self.key", width, width),
            ("attention.self.value", width, width),
            ("attention.output.dense", width, width),
            ("intermediate.dense", width, inner),
            ("output.dense", inner, width),
        )
    ] + [LinearFacts(name="bert.pooler.dense", in_features=width, out_features=width)]
    shapes: dict[str, tuple[int, ...]] = {
        "bert.embeddings.word_embeddings.weight": (words, width),
        "bert.embeddings.position_embeddings.weight": (positions, width),
        "bert.embeddings.token_type_embeddings.weight": (2, width),
    }
    norms = ["bert.embeddings.LayerNorm"]
    norms += [f"{block}.{part}.LayerNorm" for block in blocks for part in ("attention.output", "output")]
    for norm in norms:
        shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    for m in linear:
        shapes |= {f"{m.name}.weight": (m.out_features, m.in_features), f"{m.name}.bias": (m.out_features,)}
    shapes |= {"classifier.weight": (LABELS_SIDE, width), "classifier.bias": (LABELS_SIDE,)}
    return TaskModel(
        task="sequence-classification",
        architecture="BertForSequenceClassification",
        model_type="bert",
        parameters=[ParameterFacts(name=name, shape=shape) for name, shape in shapes.items()],
        head=["classifier"],
        linear=linear,
        blocks=blocks,
        hidden_size=width,
        layers=layers,
        attention_heads=heads,
        key_value_heads=heads,
        key_value_width=width,
        default_targets={
            "lora": ["query", "value"],
            "ia3": ["key", "value", "output.dense"],
            "ia3_feedforward": ["output.dense"],
        },
    )


def add_study(session: Session, spec: StudySpec, *, hours_ago: float) -> list[RunRow]:
    """A study with the runs that it owes, queued."""
    at = now() - timedelta(hours=hours_ago)
    model, dataset = base_models.by_name(session, spec.base_model), datasets.by_name(session, spec.dataset)
    assert model is not None and dataset is not None
    study = StudyRow(
        name=spec.name,
        base_model_id=model.id,
        dataset_id=dataset.id,
        spec_json=spec.model_dump(mode="json"),
        created_at=at,
    )
    session.add(study)
    session.flush()
    rows = [_queued(study, owed, at) for owed in spec.owed()]
    session.add_all(rows)
    session.flush()
    return rows


def _queued(study: StudyRow, owed: OwedRun, at: object) -> RunRow:
    return RunRow(
        study_id=study.id,
        arm=owed.arm,
        seed=owed.seed,
        method_kind=owed.spec.method.kind,
        metric=owed.spec.verdict_metric,
        base_model_id=study.base_model_id,
        dataset_id=study.dataset_id,
        learning_rate=owed.spec.training.learning_rate,
        spec_json=owed.spec.model_dump(mode="json"),
        queued_at=at,
    )


def start(session: Session, run: RunRow, step: int = 153) -> None:
    """A run in the middle of its training."""
    run.status, run.worker, run.epoch, run.attempts = "running", "cpu-1", 1, 1
    run.started_at = now() - timedelta(seconds=22)
    run.lease_expires_at = now() + timedelta(seconds=40)
    run.phase, run.step, run.total_steps = "train", step, TOTAL_STEPS
    run.train_loss, run.train_seconds, run.memory_bytes = 0.24, 18.1, 149 * MIB
    run.validation_score = 0.843
    steps.append(session, run.id, _steps(run, step))
    log: list[tuple[float, str, str]] = [(0.0, "status", "claimed by cpu-1, attempt 1")]
    begun = {0.8: Phase.LOAD, 1.7: Phase.TOKENIZE, 2.1: Phase.BASELINE, 4.3: Phase.TRAIN}
    log += [(after, "phase", PHASES[phase]) for after, phase in begun.items()]
    log += [(4.2, "evaluation", "untouched model: test accuracy 0.292, loss 1.620, 646 items")]
    for after, kind, message in sorted(log):
        at = run.started_at + timedelta(seconds=after)
        session.add(RunEventRow(run_id=run.id, at=at, kind=kind, message=message))
    _evaluate(session, run, "adapted", "validation", 82, 0.843, 150)


def succeed(session: Session, run: RunRow) -> None:
    """A run that ended well, whatever it had done before."""
    evaluations.clear(session, run.id)
    steps.clear(session, run.id)
    weight_deltas.clear(session, run.id)
    weight_deltas.add(session, run.id, _updates(run))
    kind, chance = run.method_kind, np.random.default_rng(run.id)
    accuracy = ACCURACY[kind] + float(chance.normal(0, 0.006))
    result = _result(run, accuracy)
    run.status, run.worker, run.epoch, run.attempts = "succeeded", "cpu-1", 1, 1
    run.started_at = run.queued_at + timedelta(seconds=40.0 * (run.id % 9))
    run.finished_at = run.started_at + timedelta(seconds=result.clocks.wall)
    run.step = run.total_steps = TOTAL_STEPS
    run.phase, run.train_loss, run.train_seconds = None, 0.11, result.clocks.train
    run.base_score, run.loss = 0.292, 0.37
    run.trainable_parameters, run.total_parameters = TRAINABLE[kind], 22_715_141
    run.peak_bytes, run.wall_seconds, run.artifact_bytes = PEAK[kind] * MIB, result.clocks.wall, SIZE[kind]
    run.tokens_per_second, run.device_name = 42_000 / result.clocks.train, "x86, 2 cores"
    run.precision = result.environment.precision
    steps.append(session, run.id, _steps(run, TOTAL_STEPS))
    for line in ("claimed by cpu-1, attempt 1", "loaded all-MiniLM-L6-v2", "succeeded"):
        events.add(session, run.id, "log", line)
    base = _evaluate(session, run, "base", "test", 0, 0.292, ITEMS)
    for epoch, reached in enumerate((0.843, 0.884, 0.893), start=1):
        _evaluate(session, run, "adapted", "validation", 82 * epoch, reached, 150)
    test = _evaluate(session, run, "adapted", "test", TOTAL_STEPS, accuracy, ITEMS)
    run.score = test.score
    run.result_json = result.model_copy(update={"evaluations": [base, test]}).model_dump(mode="json")
    for artifact in result.artifacts:
        session.add(ArtifactRow(run_id=run.id, file=f"runs/{run.id}/1/{artifact.name}", **artifact.model_dump()))


def fail(session: Session, run: RunRow, code: FailureCode) -> None:
    """A run that ended badly."""
    run.status, run.worker, run.epoch, run.attempts = "failed", "cpu-1", 1, 1
    run.started_at, run.finished_at = run.queued_at, run.queued_at + timedelta(seconds=12)
    run.phase, run.step, run.total_steps = "train", 3, TOTAL_STEPS
    run.failure_code, run.failure_message = code.value, f"step 3: {FAILURES[code]}"
    events.add(session, run.id, "status", f"failed: {code.value}")


def add_workers(session: Session, run_id: int) -> None:
    """One at work, one idle, one lost."""
    host = {"device": "cpu", "device_name": "x86, 2 cores", "memory_bytes": 8 * 1024 * MIB, "cores": 2}
    card = {
        "device": "cuda",
        "device_name": "NVIDIA L4",
        "memory_bytes": 24 * 1024 * MIB,
        "cores": 8,
        "capabilities": ["qlora"],
        "devices_json": [{"uuid": uuid, "free_bytes": 23 * 1024 * MIB, "problem": ""} for uuid in GPUS],
    }
    for uuid in GPUS:
        session.add(DeviceRow(uuid=uuid, name="NVIDIA L4", memory_bytes=24 * 1024 * MIB))
    session.add(WorkerRow(name="cpu-1", run_id=run_id, **host))
    session.add(WorkerRow(name="gpu-1", **card))
    session.add(WorkerRow(name=LOST_WORKER, heartbeat_at=now() - timedelta(minutes=20), **host))


def still_alive(session: Session) -> None:
    """What is at work has given a sign of life just now, however long ago it was put there."""
    at = now()
    session.execute(update(WorkerRow).where(WorkerRow.name != LOST_WORKER).values(heartbeat_at=at))
    running = update(RunRow).where(RunRow.status == "running")
    session.execute(running.values(lease_expires_at=at + timedelta(seconds=40)))


def add_baselines(session: Session, spec: StudySpec) -> None:
    """Of the headlines: two that are computed, and one that could not be."""
    scores = {kind: _scores(accuracy, ITEMS, seed=99) for kind, accuracy in BASELINES.items()}
    store_baselines(
        session,
        spec,
        scores,
        items=ITEM_NAMES,
        rows=1300,
        why="The base model's weights take 15.0 GiB, and this process has room for 3 GiB.",
    )


def store_baselines(
    session: Session,
    spec: StudySpec,
    scores: Mapping[str, NDArray[np.float64]],
    *,
    items: Sequence[str],
    rows: int,
    why: str,
) -> None:
    """The baselines of a study with these scores on its test items, by kind; the others could not be computed."""
    model, dataset = base_models.by_name(session, spec.base_model), datasets.by_name(session, spec.dataset)
    assert model and dataset
    for request in baselines.requests(spec, model, dataset):
        row = EstimateRow(key=request.key, kind="baseline", request_json=request.model_dump(mode="json"))
        if request.kind in scores:
            answer = Baseline(
                kind=request.kind,
                metrics={"accuracy": float(scores[request.kind].mean())},
                scores={"accuracy": scores[request.kind].tolist()},
                items_hash=items_hash(items),
                trained_rows=rows,
                train_rows=rows,
                seconds=0.6,
            )
            row.status, row.result_json = "ready", answer.model_dump(mode="json")
        else:
            row.status, row.message = "failed", why
        session.add(row)


def _scores(accuracy: float, n: int, seed: int) -> NDArray[np.float64]:
    """Right and wrong items: the same are hard for all."""
    hard, luck = np.random.default_rng(0).uniform(size=n), np.random.default_rng(seed).uniform(size=n)
    return (0.8 * hard + 0.2 * luck < np.quantile(0.8 * hard + 0.2 * luck, accuracy)).astype(float)


def _evaluate(
    session: Session, run: RunRow, subject: str, split: str, step: int, accuracy: float, n: int
) -> Evaluation:
    items = ITEM_NAMES if split == "test" else []
    scores = _scores(accuracy, n, seed=run.id * 7 + step)
    reached = float(scores.mean())
    evaluation = Evaluation.model_validate(
        {
            "subject": subject,
            "split": split,
            "step": step,
            "epoch": step / 82,
            "n": n,
            "loss": 0.37,
            "metric": "accuracy",
            "metrics": {"accuracy": reached, "macro_f1": max(0.0, reached - 0.003)},
        }
    )
    evaluations.add(session, run.id, evaluation, items, scores.tolist() if items else [])
    return evaluation


def _updates(run: RunRow) -> WeightDeltas:
    """Of a linear probe none; of a LoRA query and value; of full fine-tuning all linear layers, with two left out."""
    if run.method_kind == "head-only":
        return WeightDeltas(unchanged="head")
    full, whole = run.method_kind == "full", Spectrum.of(np.geomspace(8, 0.5, 384))
    facts = model_facts().tasks["sequence-classification"]
    layers = [m for m in run.spec.method.changed_layers(facts) if facts.block_of(m.name) is not None]
    rank = getattr(run.spec.method, "r", 384)
    matrices = [_matrix(m, place / len(layers), rank, whole, run.seed) for place, m in enumerate(layers)]
    return WeightDeltas(
        matrices=matrices[: -2 if full else None], late=2 if full else 0, budget_seconds=10, seconds=1.2
    )


def _matrix(m: LinearFacts, depth: float, rank: int, whole: Spectrum, seed: int) -> MatrixDelta:
    """The deeper, the more it changed."""
    steep = 0.4 + depth + 0.02 * seed + (0.3 if "output" in m.name else 0.0)
    delta = Spectrum.of(0.3 * (1 + depth) * np.arange(1, rank + 1) ** -steep)
    block, _, module = m.name.removeprefix("bert.encoder.layer.").partition(".")
    return MatrixDelta(
        name=m.name,
        block=int(block),
        module=module,
        rows=m.out_features,
        columns=m.in_features,
        norm_ratio=delta.norm / whole.norm,
        delta=delta,
        weight=whole,
        top=10,
        intruders=0 if rank == 384 else round(2 * depth),
    )


def _steps(run: RunRow, count: int) -> np.ndarray:
    chance = np.random.default_rng(run.id)
    made = np.zeros(count, dtype=STEP_DTYPE)
    number = np.arange(1, count + 1)
    made["step"], made["epoch"] = number, number / 82
    made["loss"] = 1.5 * np.exp(-number / 60) + 0.12 + chance.gamma(2, 0.04, count)
    made["learning_rate"] = run.learning_rate * (1 - number / TOTAL_STEPS)
    made["grad_norm"], made["tokens"] = chance.gamma(4, 0.3, count), number * 170
    made["seconds"] = number * SECONDS[run.method_kind] / TOTAL_STEPS
    made["memory_bytes"] = (PEAK[run.method_kind] * (1 - 0.3 * np.exp(-number / 8)) * MIB).astype(int)
    return made


def _confusion(accuracy: float) -> Confusion:
    """Each label's errors go to the next one, and a few to the one after that."""
    answers = []
    for label, items in enumerate((150, 110, 126, 151, 109)):
        right = round(accuracy * items)
        next_one = (items - right) * 3 // 4
        parts = ((label, right), ((label + 1) % 5, next_one), ((label + 2) % 5, items - right - next_one))
        answers += [Answers(label, predicted, n) for predicted, n in parts if n]
    return Confusion(answers=answers)


def _result(run: RunRow, accuracy: float) -> RunResult:
    kind, train = run.method_kind, SECONDS[run.method_kind]
    adapter = "model" if kind == "full" else "adapter"
    trainable, frozen = TRAINABLE[kind], 22_715_141 - TRAINABLE[kind]
    return RunResult(
        steps=TOTAL_STEPS,
        best_step=TOTAL_STEPS,
        tokens=42_000,
        parameters=Parameters(total=22_715_141, trainable=trainable, by_module={"classifier": 1925}),
        audit=Audit(
            passed=True,
            groups=[
                AuditGroup(name="classifier", tensors=2, parameters=1925, changed=2),
                AuditGroup(name="frozen", tensors=103, parameters=frozen, changed=0),
            ],
        ),
        memory=Memory(
            device="cpu",
            before_bytes=310 * MIB,
            loaded_bytes=90 * MIB,
            peak_bytes=PEAK[kind] * MIB,
            train_peak_bytes=PEAK[kind] * MIB,
            weights_bytes=4 * 22_715_141,
            gradients_bytes=4 * trainable,
            optimizer_bytes=8 * trainable,
        ),
        confusion=_confusion(accuracy),
        clocks=Clocks(
            start=0.8,
            load=0.9,
            tokenize=0.4,
            baseline=2.2,
            forward=train * 0.32,
            backward=train * 0.52,
            optimizer=train * 0.14,
            data=train * 0.02,
            evaluate=2.3,
            save=0.4,
            audit=0.3,
            weight_delta=1.2,
            wall=train + 8.5,
        ),
        evaluations=[],
        environment=Environment(
            device="cpu",
            device_name="x86, 2 cores",
            threads=2,
            precision="fp32",
            attention="sdpa",
            versions={"python": "3.11.2", "torch": "2.9.0", "transformers": "5.1.0", "peft": "0.18.1"},
        ),
        artifacts=[
            ArtifactFile(name=f"{adapter}/{adapter}.safetensors", kind=adapter, bytes=SIZE[kind], sha256="ab" * 32),
            ArtifactFile(name="predictions.parquet", kind="predictions", bytes=38_000, sha256="cd" * 32),
            ArtifactFile(name="metrics.jsonl", kind="metrics", bytes=21_000, sha256="ef" * 32),
        ],
    )
