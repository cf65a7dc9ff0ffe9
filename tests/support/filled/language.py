"""Studies of language models for the pages: one finished (causal-lm), one under way (seq2seq-lm), both with forgetting.

The numbers are like those of such runs on one card; nothing here was trained. Goes on from
`tests.support.filled.filled.fill`."""

from datetime import timedelta
from typing import NamedTuple

import numpy as np
from sqlalchemy.orm import Session

from app.domain.data.dataset import DatasetFacts
from app.domain.methods import FullSpec, Ia3Spec, LoraSpec, PromptSpec, QloraSpec
from app.domain.models.architecture import LinearFacts, ParameterFacts, TaskModel
from app.domain.models.base_model import FACTS_VERSION, ModelFacts, ModelFile, TokenizerFacts
from app.domain.runs.checkpoint import StoredCheckpoint
from app.domain.runs.clocks import Clocks
from app.domain.runs.result import (
    STEP_DTYPE,
    ArtifactFile,
    Audit,
    AuditGroup,
    Environment,
    Evaluation,
    Forgetting,
    Memory,
    Parameters,
    RunResult,
    Steps,
)
from app.domain.runs.training import TrainingArguments
from app.domain.studies.arms import ArmSpec
from app.domain.studies.spec import StudySpec
from app.domain.tasks import MetricName, Task
from app.samples import samples as sample
from app.store.runs import evaluations, events, steps
from app.store.tables import ArtifactRow, BaseModelRow, DatasetRow, RunRow
from tests.support.filled.filled import MIB, add_study

CAUSAL, SEQ2SEQ = "SmolLM2-135M", "t5-small"
TEMPLATE = (
    """{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] }}{% endfor %}"""
)
ITEMS, TOTAL_STEPS, STOPPED_AT, PER_EPOCH = 640, 246, 205, 82


class Reached(NamedTuple):
    """What a method's runs came to."""

    score: float
    loss: float
    forgotten: float
    """Nats per token."""
    peak: int
    """MiB."""
    seconds: float
    trainable: int
    size: int
    frozen_dtype: str


UNTOUCHED = {CAUSAL: Reached(0.402, 3.412, 0, 0, 0, 0, 0, ""), SEQ2SEQ: Reached(0.171, 3.051, 0, 0, 0, 0, 0, "")}
OUTCOMES: dict[str, dict[str, Reached]] = {
    CAUSAL: {
        "full": Reached(0.561, 2.204, 0.311, 2964, 171.0, 134_515_008, 538_000_000, "float32"),
        "lora": Reached(0.556, 2.231, 0.042, 1310, 128.0, 1_843_200, 7_400_000, "bfloat16"),
        "qlora": Reached(0.549, 2.262, 0.037, 1112, 169.0, 1_843_200, 7_400_000, "nf4"),
        "prompt": Reached(0.447, 2.951, -0.002, 1204, 117.0, 11_520, 47_000, "bfloat16"),
    },
    SEQ2SEQ: {
        "full": Reached(0.388, 1.902, 0.214, 1410, 96.0, 60_506_624, 242_000_000, "float32"),
        "lora": Reached(0.381, 1.944, 0.031, 702, 71.0, 294_912, 1_200_000, "bfloat16"),
        "ia3": Reached(0.342, 2.120, 0.004, 655, 69.0, 36_864, 160_000, "bfloat16"),
    },
}
TOTAL = {CAUSAL: 134_515_008, SEQ2SEQ: 60_506_624}


def fill_language(session: Session) -> None:
    """Add base models, data and two studies to a database that has the sample's."""
    register_language(session)
    finished, under_way = studies()
    for run in add_study(session, finished, hours_ago=2.0):
        succeed(session, run)
    runs = add_study(session, under_way, hours_ago=0.3)
    for run in runs[:4]:
        succeed(session, run)
    start(session, runs[4])
    hand_back(session, runs[5])
    session.flush()


def studies() -> tuple[StudySpec, StudySpec]:
    """One of each task."""
    training = TrainingArguments(max_length=256, early_stopping_patience=1)
    shared = {"dataset": sample.SUMMARIES, "general_text": sample.GENERAL_TEXT, "training": training}
    return (
        StudySpec(
            name="Headlines written by SmolLM2",
            base_model=CAUSAL,
            task="causal-lm",
            arms=[
                ArmSpec(method=FullSpec()),
                ArmSpec(method=LoraSpec(r=16)),
                ArmSpec(method=QloraSpec(r=16)),
                ArmSpec(method=PromptSpec()),
            ],
            **shared,
        ),
        StudySpec(
            name="Headlines written by T5",
            base_model=SEQ2SEQ,
            task="seq2seq-lm",
            arms=[ArmSpec(method=FullSpec()), ArmSpec(method=LoraSpec()), ArmSpec(method=Ia3Spec())],
            seeds=[0, 1],
            **shared,
        ),
    )


def register_language(session: Session) -> None:
    """Two base models, pairs to learn from, and plain text."""
    for name, task_model, width in ((CAUSAL, llama(), 576), (SEQ2SEQ, t5(), 512)):
        facts = ModelFacts(
            architecture=task_model.architecture.split("For")[0] + "Model",
            model_type=task_model.model_type,
            parameters=task_model.total,
            hidden_size=width,
            layers=task_model.layers,
            max_positions=8192 if name == CAUSAL else None,
            tasks={task_model.task: task_model},
            unable=dict.fromkeys(_others(task_model.task), "not this kind of model."),
            revision="93efa2f0" * 5,
            version=FACTS_VERSION,
            dtype="bfloat16",
            files=[ModelFile(name="model.safetensors", bytes=2 * task_model.total)],
            chat_template=name == CAUSAL,
            tokenizer=TokenizerFacts(
                kind="GPT2Tokenizer" if name == CAUSAL else "T5Tokenizer",
                vocabulary=49_152 if name == CAUSAL else 32_100,
                special={"eos_token": "<|im_end|>"} if name == CAUSAL else {"eos_token": "</s>", "pad_token": "<pad>"},
                template=TEMPLATE if name == CAUSAL else "",
            ),
        )
        session.add(BaseModelRow(name=name, source="hub", location=name, status="ready", facts_json=facts.model_dump()))
    for name, title, form in (
        (sample.SUMMARIES, sample.SUMMARIES_TITLE, "prompt-completion"),
        (sample.GENERAL_TEXT, sample.GENERAL_TEXT_TITLE, "text"),
    ):
        data = DatasetFacts.model_validate(
            {
                "format": form,
                "counts": {"train": 1300, "validation": 150, "test": ITEMS},
                "content_hash": f"{len(name):02d}c0ffee" * 8,
            }
        )
        session.add(
            DatasetRow(
                name=name,
                title=title,
                content_hash=data.content_hash,
                file=f"datasets/{name}.parquet",
                facts_json=data.model_dump(),
            )
        )
    session.flush()


def succeed(session: Session, run: RunRow) -> None:
    """A run that ended well: with seed 1 it stopped early, with seed 2 of the first arm it had been interrupted."""
    spec = run.spec
    reached, chance = OUTCOMES[spec.base_model][run.method_kind], np.random.default_rng(run.id)
    took = STOPPED_AT if run.seed == 1 else TOTAL_STEPS
    best = PER_EPOCH * (took // PER_EPOCH)
    resumed = run.seed == 2 and run.method_kind == "full"
    base = _evaluate(session, run, "base", "test", 0, UNTOUCHED[spec.base_model])
    for step in range(PER_EPOCH, took + 1, PER_EPOCH):
        loss = reached.loss + 0.4 * np.exp(-step / 90) + (0.03 if step > 200 and run.method_kind == "full" else 0)
        _evaluate(
            session,
            run,
            "adapted",
            "validation",
            step,
            reached._replace(loss=loss, score=reached.score - 0.2 * np.exp(-step / 60)),
            generate=False,
        )
    swing = float(chance.normal(0, 0.002))
    test = _evaluate(session, run, "adapted", "test", best, reached._replace(score=reached.score + swing))
    result = _result(run, reached, took, [base, test], chance, resumed=resumed)
    run.status, run.worker, run.epoch, run.attempts = "succeeded", "gpu-1", 2 if resumed else 1, 1
    run.started_at = run.queued_at + timedelta(seconds=240.0 * (run.id % 16))
    run.finished_at = run.started_at + timedelta(seconds=result.clocks.wall)
    run.step, run.total_steps = took, TOTAL_STEPS
    run.phase, run.train_loss, run.train_seconds = None, reached.loss, result.clocks.train
    run.score, run.base_score, run.loss = test.score, base.score, test.loss
    run.trainable_parameters, run.total_parameters = reached.trainable, TOTAL[spec.base_model]
    run.peak_bytes, run.wall_seconds, run.artifact_bytes = reached.peak * MIB, result.clocks.wall, reached.size
    run.tokens_per_second, run.device_name = result.tokens / result.clocks.train, "NVIDIA L4"
    run.result_json = result.model_dump(mode="json")
    steps.append(session, run.id, _steps(run, reached, took))
    for line in ("claimed by gpu-1, attempt 1", f"loaded {spec.base_model}", "succeeded"):
        events.add(session, run.id, "log", line)
    for artifact in result.artifacts:
        session.add(ArtifactRow(run_id=run.id, file=f"runs/{run.id}/1/{artifact.name}", **artifact.model_dump()))


def start(session: Session, run: RunRow, step: int = 96) -> None:
    """A run in the middle of its training: its metric needs generated text, so there is no validation score."""
    reached = OUTCOMES[run.spec.base_model][run.method_kind]
    run.status, run.worker, run.epoch, run.attempts = "running", "gpu-1", 1, 1
    run.started_at = run.queued_at + timedelta(seconds=600)
    run.phase, run.step, run.total_steps = "train", step, TOTAL_STEPS
    run.train_loss, run.train_seconds, run.memory_bytes = 2.2, 28.0, reached.peak * MIB
    steps.append(session, run.id, _steps(run, reached, step))
    events.add(session, run.id, "status", "claimed by gpu-1, attempt 1")
    _evaluate(session, run, "adapted", "validation", PER_EPOCH, reached, generate=False)


def hand_back(session: Session, run: RunRow) -> None:
    """A run whose worker was stopped: it waits, and will go on from its checkpoint."""
    run.epoch = 1
    kept = StoredCheckpoint(step=120, prefix=f"runs/{run.id}/checkpoints/1-120", files={"state.json": "ab" * 32})
    run.checkpoints_json = [kept.model_dump()]
    events.add(session, run.id, "status", "handed back: the worker was stopped")


def _others(task: Task) -> list[Task]:
    tasks: list[Task] = ["sequence-classification", "causal-lm", "seq2seq-lm"]
    return [other for other in tasks if other != task]


def _evaluate(
    session: Session, run: RunRow, subject: str, split: str, step: int, reached: Reached, *, generate: bool = True
) -> Evaluation:
    """Values between 0 and 1 with this mean, alike for all runs but for luck."""
    metric: MetricName = run.spec.verdict_metric
    n = ITEMS if split == "test" else 150
    hard = np.random.default_rng(0).normal(0, 0.16, n)
    values = np.clip(reached.score + hard + np.random.default_rng(run.id * 7 + step).normal(0, 0.04, n), 0, 1)
    values = np.clip(values + reached.score - values.mean(), 0, 1)
    token = float(values.mean()) if metric == "token_accuracy" else min(0.95, reached.score + 0.16)
    metrics: dict[MetricName, float] = {"token_accuracy": token, "perplexity": float(np.exp(reached.loss))}
    if generate:
        rouge = float(values.mean()) if metric == "rouge_l" else reached.score * 0.7
        metrics |= {"rouge_l": rouge, "exact_match": 0.004 if subject == "adapted" else 0.0}
    found = Evaluation.model_validate(
        {
            "subject": subject,
            "split": split,
            "step": step,
            "epoch": step / PER_EPOCH,
            "n": n,
            "loss": reached.loss,
            "metric": metric,
            "metrics": metrics,
        }
    )
    tested = split == "test"
    items = [f"item-{i}" for i in range(n)] if tested else []
    evaluations.add(session, run.id, found, items, values.tolist() if tested else [])
    return found


def _steps(run: RunRow, reached: Reached, count: int) -> Steps:
    chance, made, number = np.random.default_rng(run.id), np.zeros(count, dtype=STEP_DTYPE), np.arange(1, count + 1)
    made["step"], made["epoch"] = number, number / PER_EPOCH
    made["loss"] = reached.loss - 0.1 + 1.1 * np.exp(-number / 50) + chance.normal(0, 0.08, count)
    made["learning_rate"] = run.learning_rate * (1 - number / TOTAL_STEPS)
    made["grad_norm"], made["tokens"] = chance.gamma(4, 0.3, count), number * 1480
    made["seconds"] = number * reached.seconds / TOTAL_STEPS
    made["memory_bytes"] = (reached.peak * (1 - 0.2 * np.exp(-number / 8)) * MIB).astype(int)
    return made


def _result(
    run: RunRow, reached: Reached, took: int, seen: list[Evaluation], chance: np.random.Generator, *, resumed: bool
) -> RunResult:
    total, train = TOTAL[run.spec.base_model], reached.seconds * took / TOTAL_STEPS
    kind = "model" if run.method_kind == "full" else "adapter"
    held = {"float32": 4.0, "bfloat16": 2.0, "nf4": 0.6}[reached.frozen_dtype]
    general = 3.214
    return RunResult(
        steps=took,
        best_step=seen[-1].step,
        tokens=took * 1480,
        parameters=Parameters(total=total, trainable=reached.trainable),
        audit=Audit(
            passed=True,
            groups=[AuditGroup(name="frozen", tensors=272, parameters=total - reached.trainable, changed=0)],
        ),
        memory=Memory(
            device="cuda:0",
            before_bytes=0,
            loaded_bytes=int(held * total),
            peak_bytes=reached.peak * MIB,
            train_peak_bytes=reached.peak * MIB,
            weights_bytes=int(held * (total - reached.trainable) + 4 * reached.trainable),
            gradients_bytes=4 * reached.trainable,
            optimizer_bytes=8 * reached.trainable,
            reserved_bytes=int(reached.peak * MIB * 1.1),
        ),
        clocks=Clocks(
            start=0.4,
            load=1.9,
            tokenize=0.8,
            baseline=9.5,
            cache=3.1 if run.method_kind == "prompt" else 0.0,
            forward=train * 0.34,
            backward=train * 0.54,
            optimizer=train * 0.1,
            data=train * 0.02,
            evaluate=14.2,
            save=0.6,
            audit=0.7,
            wall=train + 28.1 + (3.1 if run.method_kind == "prompt" else 0.0),
        ),
        evaluations=seen,
        forgetting=Forgetting(
            dataset=sample.GENERAL_TEXT,
            tokens=81_920,
            base_loss=general,
            adapted_loss=general + reached.forgotten + float(chance.normal(0, 0.002)),
        ),
        resumed_from=120 if resumed else None,
        environment=Environment.model_validate(
            {
                "device": "cuda:0",
                "device_name": "NVIDIA L4",
                "threads": 8,
                "precision": "bf16",
                "frozen_dtype": reached.frozen_dtype,
                "attention": "sdpa",
                "versions": {"python": "3.11.2", "torch": "2.9.0", "transformers": "5.1.0", "peft": "0.18.1"},
            }
        ),
        artifacts=[
            ArtifactFile(name=f"{kind}/{kind}.safetensors", kind=kind, bytes=reached.size, sha256="ab" * 32),
            ArtifactFile(name="predictions.parquet", kind="predictions", bytes=138_000, sha256="cd" * 32),
        ],
    )


def llama() -> TaskModel:
    """SmolLM2-135M: 30 blocks of width 576, 3 heads for keys and values; the projection onto words is the embedding."""
    linear = [
        LinearFacts(name=f"model.layers.{n}.{part}", in_features=i, out_features=o, bias=False)
        for n in range(30)
        for part, i, o in (
            ("self_attn.q_proj", 576, 576),
            ("self_attn.k_proj", 576, 192),
            ("self_attn.v_proj", 576, 192),
            ("self_attn.o_proj", 576, 576),
            ("mlp.gate_proj", 576, 1536),
            ("mlp.up_proj", 576, 1536),
            ("mlp.down_proj", 1536, 576),
        )
    ]
    norms = [f"model.layers.{n}.{part}" for n in range(30) for part in ("input_layernorm", "post_attention_layernorm")]
    return TaskModel(
        task="causal-lm",
        architecture="LlamaForCausalLM",
        model_type="llama",
        parameters=_parameters({"model.embed_tokens.weight": (49152, 576)}, linear, [*norms, "model.norm"], 576),
        head=[],
        linear=linear,
        blocks=[f"model.layers.{n}" for n in range(30)],
        hidden_size=576,
        layers=30,
        attention_heads=9,
        key_value_heads=3,
        key_value_width=192,
        default_targets={"lora": ["q_proj", "v_proj"], "ia3": ["k_proj", "v_proj", "down_proj"]},
    )


def t5() -> TaskModel:
    """T5-small: six blocks of width 512 on each side."""
    attention = tuple((part, 512, 512) for part in "qkvo")
    linear, norms = [], ["encoder.final_layer_norm", "decoder.final_layer_norm"]
    for side, parts in (("encoder", ["SelfAttention"]), ("decoder", ["SelfAttention", "EncDecAttention"])):
        for n in range(6):
            block = f"{side}.block.{n}"
            named = [(f"layer.{k}.{part}", shapes) for k, part in enumerate(parts) for shapes in [attention]]
            named.append((f"layer.{len(parts)}.DenseReluDense", (("wi", 512, 2048), ("wo", 2048, 512))))
            linear += [
                LinearFacts(name=f"{block}.{where}.{part}", in_features=i, out_features=o, bias=False)
                for where, shapes in named
                for part, i, o in shapes
            ]
            norms += [f"{block}.layer.{k}.layer_norm" for k in range(len(parts) + 1)]
    return TaskModel(
        task="seq2seq-lm",
        architecture="T5ForConditionalGeneration",
        model_type="t5",
        parameters=_parameters({"shared.weight": (32128, 512)}, linear, norms, 512),
        head=[],
        linear=linear,
        blocks=[f"{side}.block.{n}" for side in ("encoder", "decoder") for n in range(6)],
        hidden_size=512,
        layers=6,
        attention_heads=8,
        key_value_heads=8,
        key_value_width=512,
        encoder_decoder=True,
        default_targets={"lora": ["q", "v"], "ia3": ["k", "v", "wo"], "ia3_feedforward": ["wo"]},
    )


def _parameters(
    embeddings: dict[str, tuple[int, ...]], linear: list[LinearFacts], norms: list[str], width: int
) -> list[ParameterFacts]:
    shapes = embeddings | {f"{m.name}.weight": (m.out_features, m.in_features) for m in linear}
    shapes |= {f"{norm}.weight": (width,) for norm in norms}
    return [ParameterFacts(name=name, shape=shape) for name, shape in shapes.items()]
