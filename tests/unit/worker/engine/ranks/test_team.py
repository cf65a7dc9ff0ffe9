"""Two processes that train together compute what one does with the same batches (gloo, on the CPU)."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from app.domain.methods import AdaLoraSpec, FullSpec, HeadOnlySpec, LoraSpec, MethodSpec
from app.domain.tasks import Task
from tests.support import ranks
from tests.support.ranks import Done, Planned
from tests.support.tiny import images as tiny_images
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import preferences as tiny_preferences
from tests.support.tiny import texts as tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # processes of their own, which import the ML libraries

STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
LORA = LoraSpec(r=4, target_modules=["query", "value"])
LM_LORA = LoraSpec(r=4, target_modules="all-linear")
# 57 rows are 15 batches of 4: the last step of an epoch has three, and the second process one less than the first
ROWS = 57
TRAINING = tiny.FAST.model_copy(
    update={
        "num_train_epochs": 2,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 4,
        "max_grad_norm": 0.5,
    }
)
METHODS: dict[str, MethodSpec] = {
    "full": FullSpec(),
    "lora": LORA,
    "head-only": HeadOnlySpec(),
    "adalora": AdaLoraSpec(init_r=6, target_r=4, target_modules=["query", "value"]),
    "pissa": LoraSpec(r=4, target_modules=["query", "value"], init_lora_weights="pissa"),
}
SEQ2SEQ: dict[str, MethodSpec] = {"full": FullSpec(), "lora": LoraSpec(r=4, target_modules=["q", "v"])}
STOP = 5
"""Batch of rank 0, two a step: the third step is interrupted."""


def classified(
    directory: Path, model: Path, method: MethodSpec, resume: Path | None = None, **changes: object
) -> Planned:
    job = tiny.job(directory, model, method, TRAINING.model_copy(update=changes), tiny.rows(train=ROWS))
    return Planned(name=directory.name, job=job.model_copy(update={"resume": str(resume) if resume else None}))


def written(
    directory: Path, model: Path, method: MethodSpec, packing: bool, task: Task = "causal-lm", **changes: object
) -> Planned:
    training = tiny_lm.FAST.model_copy(
        update={"packing": packing, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
        | {"max_grad_norm": 0.5}
        | changes
    )
    job = tiny_lm.job(directory, model, task, tiny_lm.pairs(), method=method, training=training)
    return Planned(name=directory.name, job=job)


def preferred(directory: Path, model: Path, method: MethodSpec) -> Planned:
    changes = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "max_grad_norm": 0.5, "beta": 1.0}
    training = tiny_preferences.FAST.model_copy(update=changes)
    return Planned(name=directory.name, job=tiny_preferences.job(directory, model, method, training))


def imaged(directory: Path, model: Path, method: MethodSpec) -> Planned:
    changes = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4, "max_grad_norm": 0.5}
    training = tiny_images.FAST.model_copy(update={"num_train_epochs": 2} | changes)
    return Planned(
        name=directory.name, job=tiny_images.job(directory, model, method, training, tiny_images.rows(ROWS, 24, 24))
    )


def plan(root: Path, models: dict[str, Path], stops: bool) -> list[Planned]:
    tried = [classified(root / name, models["bert"], method) for name, method in METHODS.items()]
    for name in ("full", "lora"):
        recomputed = root / f"recomputed-{name}"
        tried.append(classified(recomputed, models["bert"], METHODS[name], gradient_checkpointing=True))
        tried.append(written(root / f"seq2seq-{name}", models["t5"], SEQ2SEQ[name], False, "seq2seq-lm"))
    tried.append(imaged(root / "full-images", models["vit"], FullSpec()))
    tried.append(imaged(root / "lora-images", models["vit"], LM_LORA))
    tried.append(preferred(root / "lora-preference", models["llama"], LM_LORA))
    for packing in (False, True):
        name = "packed" if packing else "rows"
        tried.append(written(root / f"full-{name}", models["llama"], FullSpec(), packing))
        tried.append(written(root / f"lora-{name}", models["llama"], LM_LORA, packing))
    tried.append(written(root / "full-bf16", models["llama"], FullSpec(), False, bf16=True))
    tried.append(written(root / "full-halved", models["halved"], FullSpec(), False))
    if stops:
        for name in ("full", "lora"):
            stopped = classified(root / f"stopped-{name}", models["bert"], METHODS[name])
            tried.append(stopped.model_copy(update={"stop_at": STOP}))
    return tried


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {
        "bert": tiny.save_model(root / "bert", **STILL),
        "llama": tiny_lm.save_model(root / "llama", "llama"),
        "vit": tiny_images.save_model(root / "vit"),
        "t5": tiny_lm.save_model(root / "t5", "t5", dropout_rate=0.0),
        "halved": halved(root / "halved"),
    }


def halved(directory: Path) -> Path:
    """Stored in bfloat16, with an output projection that is tied to the embeddings."""
    tiny_lm.model("llama", tie_word_embeddings=True).to(torch.bfloat16).save_pretrained(directory)
    tiny_lm.tokenizer().save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, models: dict[str, Path]) -> dict[str, Done]:
    root = tmp_path_factory.mktemp("two")
    return ranks.execute(root, plan(root, models, stops=True))


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, models: dict[str, Path]) -> dict[str, Done]:
    return {p.name: ranks.alone(p) for p in plan(tmp_path_factory.mktemp("one"), models, stops=False)}


def numbers(done: Done) -> list[tuple[float, ...]]:
    """Loss and norm of the gradient of every step."""
    return [(step.loss, step.grad_norm) for step in done.steps]


NAMES = [
    *METHODS,
    *(f"{kind}-{method}" for kind in ("recomputed", "seq2seq") for method in ("full", "lora")),
    *(f"{method}-{kind}" for kind in ("rows", "packed", "images") for method in ("full", "lora")),
    "lora-preference",
    "full-bf16",
    "full-halved",
]


@pytest.mark.nightly
@pytest.mark.parametrize("name", NAMES)
def test_two_processes_train_as_accumulation_does(one: dict[str, Done], two: dict[str, Done], name: str) -> None:
    expected, got = one[name], two[name]
    assert any(step.grad_norm > 0.5 for step in expected.steps), "no step is clipped"
    for alone, together in zip(numbers(expected), numbers(got), strict=True):
        assert together == pytest.approx(alone, rel=2e-4)
    assert [s.tokens for s in got.steps] == [s.tokens for s in expected.steps]
    assert got.result and expected.result
    for mine, theirs in zip(got.result.evaluations, expected.result.evaluations, strict=True):
        assert mine.loss == pytest.approx(theirs.loss, rel=1e-3)
    assert got.result.audit == expected.result.audit
    assert got.result.parameters == expected.result.parameters
    assert [f.name for f in got.result.artifacts] == [f.name for f in expected.result.artifacts]


def test_rank_0_records_the_memory_of_its_replica_only(one: dict[str, Done], two: dict[str, Done]) -> None:
    alone, together, shared = (done.result for done in (one["lora"], two["lora"], two["full"]))
    assert alone and together and shared
    assert shared.memory.ledger is None and together.memory.ledger and alone.memory.ledger
    mine, whole = together.memory.ledger.owners, alone.memory.ledger.owners
    assert (mine["weights"], mine["optimizer"]) == (whole["weights"], whole["optimizer"])
    assert 0 < mine["activations"] <= whole["activations"] and mine["communication"] == 0


@pytest.fixture(scope="module")
def resumed(
    tmp_path_factory: pytest.TempPathFactory, models: dict[str, Path], two: dict[str, Done]
) -> dict[str, dict[int, Done]]:
    """The runs that two processes left, taken up by one and by two; and the other way round."""
    root = tmp_path_factory.mktemp("resumed")
    left = {name: two[f"stopped-{name}"].checkpoints[-1][1] for name in ("full", "lora")}
    for name in ("full", "lora"):
        alone = classified(root / f"alone-{name}", models["bert"], METHODS[name]).model_copy(
            update={"stop_at": 2 * STOP}
        )
        left[f"{name} of one"] = ranks.alone(alone).checkpoints[-1][1]

    def again(name: str, place: str) -> Planned:
        return classified(root / f"{place}-{name}", models["bert"], METHODS[name.split()[0]], resume=left[name])

    by_two = ranks.execute(root, [again(name, "two") for name in left])
    return {name: {1: ranks.alone(again(name, "one")), 2: by_two[f"two-{name}"]} for name in left}


@pytest.mark.parametrize("name", ["full", "lora", "full of one", "lora of one"])
@pytest.mark.parametrize("world", [1, 2])
def test_a_checkpoint_resumes_on_any_number_of_processes(
    one: dict[str, Done], resumed: dict[str, dict[int, Done]], name: str, world: int
) -> None:
    expected, got = one[name.split()[0]], resumed[name][world]
    assert got.result and got.result.resumed_from == 2
    for alone, again in zip(numbers(expected), numbers(got), strict=True):
        assert again == pytest.approx(alone, rel=2e-4)
    assert got.result.best_step == expected.result.best_step  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["full", "lora"])
def test_two_processes_that_resume_are_the_two_that_were_not_stopped(
    two: dict[str, Done], resumed: dict[str, dict[int, Done]], name: str
) -> None:
    assert numbers(resumed[name][2]) == numbers(two[name])


def test_a_rank_reads_only_its_rows(two: dict[str, Done]) -> None:
    """A checkpoint of shards has a file of every rank, none of them with a whole matrix."""
    [(_step, folder)] = two["stopped-full"].checkpoints
    parts = [load_file(folder / name) for name in ("weights.safetensors", "weights-1.safetensors")]
    assert {len(part["classifier.weight"]) for part in parts} == {2, 1}
    [(_step, folder)] = two["stopped-lora"].checkpoints
    assert not (folder / "weights-1.safetensors").exists() and (folder / "random-1.safetensors").exists()
