"""Parts of an estimate, against what runs take: loading, work, generation, sharing, and the saved file."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import BertModel

from app.domain.methods import AdaLoraSpec, FullSpec, LoraSpec, MethodSpec
from app.domain.resources.estimate import EstimateRequest
from app.domain.resources.work import Work
from app.domain.runs.job import TrainJob
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import pairs as tiny_pairs
from tests.support.tiny import texts as tiny
from tests.unit.worker.engine import adapted as tried
from tests.unit.worker.engine.estimation.test_estimate import CONFIG, TRIES, TWO_STEPS, job, pasted, request_of
from worker.children.environment import ML_ENVIRONMENT
from worker.engine.data.batches.batches import Batch, read
from worker.engine.data.batches.order import Order
from worker.engine.estimation.estimate import estimate_run, fake_steps, work_of_batches, writing_peak
from worker.engine.estimation.fake import Answers, no_rows_side_by_side, replace_tensors
from worker.engine.estimation.shapes import shapes
from worker.engine.estimation.unloaded import unloaded
from worker.engine.evaluation.evaluate import Evaluator
from worker.engine.evaluation.generation import write
from worker.engine.loop.step import optimizer_of
from worker.engine.memory.ledger import Journal, rounded_on_host
from worker.engine.methods import MECHANISMS
from worker.engine.models.architecture import describe
from worker.engine.models.load import load_tokenizer
from worker.engine.models.precision import freeze_in_bf16, settle
from worker.engine.models.weights import stored_dtype
from worker.engine.ranks.team import Team
from worker.engine.saving.artifacts import file_bytes
from worker.engine.tasks import TASKS

MIB = 2**20
LOAD = """
import sys, torch
from worker.engine.device.environment import prepare
from worker.engine.memory.measured import MemoryMeter
from worker.engine.models.load import load
from worker.engine.models.precision import settle
prepare(1)
meter = MemoryMeter(torch.device("cpu"))
meter.begin()
model = load(sys.argv[1], "", "sequence-classification", ["a", "b"], 0).model
settle(model, [], torch.device("cpu"), bf16=False)
print(meter.peak())
"""


def saved(folder: Path, dtype: torch.dtype, **changes: object) -> Path:
    """A base model whose file has a type."""
    torch.manual_seed(0)
    BertModel(tiny.config(**changes)).to(dtype).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def load_phase(base: Path, folder: Path, spec: MethodSpec, *, bf16: bool, device: str = "cpu") -> tuple[int, int]:
    """Estimated bytes of the phase, and parameters of the model."""
    job = tiny.job(folder, base, spec, TWO_STEPS.model_copy(update={"bf16": bf16}))
    found = estimate_run(request_of(job, device=device), None)
    return found.phases["load"], found.total


@pytest.mark.by_day
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.nightly)])
@pytest.mark.parametrize(
    ("spec", "bf16", "least", "most"),
    [
        (FullSpec(), False, 4, 4.1),
        (FullSpec(), True, 4, 4.1),
        (LoraSpec(r=2), False, 4, 4.6),
        (LoraSpec(r=2), True, 2, 3),
    ],
    ids=["full-fp32", "full-bf16", "lora-fp32", "lora-bf16"],
)
def test_loading_takes_the_bytes_that_the_model_trains_in(
    spec: MethodSpec, bf16: bool, least: float, most: float, device: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    base = saved(tmp_path / "model", dtype)
    found, parameters = load_phase(base, tmp_path / "run", spec, bf16=bf16, device=device)
    assert least * parameters <= found < most * parameters


@pytest.mark.slow
def test_a_stored_bfloat16_does_not_peak_while_loading_and_no_files_leave_the_configuration(tmp_path: Path) -> None:
    base = saved(tmp_path / "model", torch.bfloat16, vocab_size=20_000)
    job = tiny.job(tmp_path / "run", base, LoraSpec(r=2), TWO_STEPS.model_copy(update={"bf16": True}))
    assert estimate_run(request_of(job), None).phase != "load"
    said = {
        dtype: estimate_run(pasted(CONFIG | {"dtype": dtype}, method=LoraSpec(), bf16=True), None)
        for dtype in ("float32", "bfloat16")
    }
    assert said["bfloat16"].phases["load"] < said["float32"].phases["load"] < 1.1 * said["bfloat16"].phases["load"]


@pytest.mark.parametrize(
    ("dtypes", "loaded"),
    [
        ([torch.bfloat16, torch.bfloat16, torch.int64], torch.bfloat16),
        ([torch.bfloat16, torch.float32], torch.float32),
        ([torch.bfloat16, torch.float16], torch.float32),
        ([torch.float64], torch.float32),
        ([torch.int64], torch.float16),
    ],
)
def test_loading_rounds_no_weight(dtypes: list[torch.dtype], loaded: torch.dtype, tmp_path: Path) -> None:
    tensors = {f"t{i}": torch.zeros(3, dtype=dtype) for i, dtype in enumerate(dtypes)}
    save_file(tensors, tmp_path / "model.safetensors")
    assert stored_dtype(tmp_path, torch.float16) is loaded


def test_only_the_files_of_the_index_count(tmp_path: Path) -> None:
    for name, dtype in (("model-1", torch.float16), ("model-2", torch.float16), ("adapter", torch.float32)):
        save_file({name: torch.zeros(5, dtype=dtype)}, tmp_path / f"{name}.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert stored_dtype(tmp_path) is torch.float16


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\x08\0\0\0\0\0\0\0[1, 2] ", b'\x09\0\0\0\0\0\0\0{"a": 1} '])
def test_a_file_that_is_none_leaves_it_to_the_configuration(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    assert stored_dtype(tmp_path, torch.bfloat16) is torch.bfloat16
    assert stored_dtype(tmp_path) is torch.float32


@pytest.mark.nightly
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_process_that_loads_holds_what_was_estimated(tmp_path: Path) -> None:
    sizes = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 6, "num_attention_heads": 8}
    base = saved(tmp_path / "model", torch.bfloat16, **sizes, vocab_size=20_000)
    found, _ = load_phase(base, tmp_path / "run", LoraSpec(r=2), bf16=False)
    said = subprocess.run(
        [sys.executable, "-c", LOAD, str(base)],
        env=os.environ | ML_ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    measured = int(said.stdout.split()[-1])
    assert found > 110 * MIB
    assert 0 <= measured - found < 24 * MIB  # threads, and what libraries bring when they are first used


MORE: list[tuple[MethodSpec, str]] = [
    (LoraSpec(r=4, init_lora_weights="pissa"), "llama"),
    (LoraSpec(r=4, init_lora_weights="olora", use_rslora=True), "bert"),
    (LoraSpec(r=4, use_dora=True, bias="all"), "t5"),
]
ONCE = list({spec.kind: (spec, name) for spec, name in TRIES}.values())
"""Every method, on one model."""
CASES = [*((*case, False) for case in MORE), *((*case, True) for case in [*ONCE, *MORE])]
every_case = pytest.mark.parametrize(
    ("spec", "name", "bf16"),
    CASES,
    ids=[f"{spec.kind}-{name}-{'bf16' if bf16 else 'fp32'}" for spec, name, bf16 in CASES],
)


def on_disk(spec: MethodSpec, name: str, folder: Path, *, bf16: bool) -> int:
    """Bytes of the weights' file; of AdaLoRA when each layer has dropped as many directions as it is to drop on
    average."""
    model, task = tried.model(name), tried.MODELS[name]
    facts, mechanism = describe(model, task), MECHANISMS[spec.mechanism]
    if bf16:
        settle(
            model,
            {t.name for t in spec.trains(facts)} | {p.name for p in facts.head_parameters},
            next(model.parameters()).device,
            bf16=True,
        )
    adapted = mechanism.apply(model, spec, facts)
    if bf16:
        freeze_in_bf16(adapted)
    if isinstance(spec, AdaLoraSpec):
        for parameter_name, parameter in adapted.named_parameters():
            if ".lora_E." in parameter_name:
                parameter.data[: spec.target_r] = 1.0
    run = SimpleNamespace(base_model="tiny", task=task, method=spec)
    [file] = mechanism.save(adapted, tiny.tokenizer(), run, folder).glob("*.safetensors")  # type: ignore[arg-type]
    return file.stat().st_size


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], TrainJob]:
    """A run on each tiny model."""
    return cache(lambda name: job(tmp_path_factory.mktemp(name), name, LoraSpec(r=4)))


@pytest.mark.by_day
@every_case
def test_it_is_estimated_to_the_byte(
    spec: MethodSpec, name: str, bf16: bool, jobs: Callable[[str], TrainJob], tmp_path: Path
) -> None:
    request = request_of(jobs(name), method=spec, bf16=bf16)
    estimated = fake_steps(unloaded(request), request).saved_bytes()
    assert estimated == on_disk(spec, name, tmp_path, bf16=bf16)


def test_what_trains_is_kept_in_float32_whatever_the_base_is_held_in(tmp_path: Path) -> None:
    sizes = {}
    for bf16 in (False, True):
        (tmp_path / str(bf16)).mkdir()
        sizes[bf16] = on_disk(LoraSpec(r=4), "llama", tmp_path / str(bf16), bf16=bf16)
    assert sizes[False] == sizes[True]


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.uint8, torch.bool]
)
def test_a_header_is_as_long_as_safetensors_writes_it(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = {f"wörter.{n}.weight": torch.zeros(n + 1, 3).to(dtype) for n in range(12)} | {"b": torch.zeros(5)}
    for count in range(len(tensors)):
        some = dict(list(tensors.items())[count:])
        save_file(some, tmp_path / "file", metadata={"format": "pt"})
        assert file_bytes(some) == (tmp_path / "file").stat().st_size


ROWS, PROMPT = 24, 9
CPU = torch.device("cpu")


def measured(kind: str, new: int) -> int:
    """Bytes at the peak while a model writes so many tokens after prompts of one length."""
    model = tiny_lm.model(kind)
    assert model.generation_config is not None
    model.generation_config.eos_token_id = None  # it never ends by itself
    tokenizer = tiny_lm.tokenizer(bos=False)
    tokenizer.eos_token = None
    evaluator = Evaluator(
        device=CPU,
        batch_size=ROWS,
        pad_token=0,
        bf16=False,
        between=lambda: None,
        log=lambda line: None,
        collate=lambda *_: pytest.fail("nothing is collated"),
        max_new_tokens=new,
    )
    nothing = torch.optim.SGD(model.parameters())
    with Journal(model, nothing, lambda: "evaluate", rounded_on_host) as journal:
        write(model, [np.full(PROMPT, 5, dtype=np.int32)] * ROWS, tokenizer, evaluator)
    return journal.ledger("measured", None, ROWS, PROMPT).total


def estimated(kind: str, new: int) -> int:
    """The same, of a model without memory."""
    model = tiny_lm.model(kind)
    replace_tensors(model, mode := FakeTensorMode())
    model.eval()
    nothing = torch.optim.SGD(model.parameters())
    with mode, Answers(), no_rows_side_by_side(), torch.no_grad():
        ids = torch.empty((ROWS, PROMPT), dtype=torch.int64)
        return writing_peak(model, lambda: Journal(model, nothing, lambda: "evaluate", rounded_on_host), ids, None, new)


@pytest.mark.by_day
@pytest.mark.parametrize("kind", ["gpt2", "llama", "t5"])
@pytest.mark.parametrize("new", [1, 2, 40])
def test_the_memory_of_generation_is_estimated(kind: str, new: int) -> None:
    assert estimated(kind, new) == pytest.approx(measured(kind, new), rel=0.05)


def test_every_token_more_takes_its_keys_and_values() -> None:
    config = tiny_lm.config("gpt2")
    a_token = 2 * config.n_layer * config.n_embd * 4 * ROWS
    copied = config.n_embd * 4 * ROWS
    assert estimated("gpt2", 120) - estimated("gpt2", 100) == pytest.approx(20 * (a_token + copied), rel=0.05)


FOUR_BLOCKS = {"hidden_size": 128, "intermediate_size": 512, "vocab_size": 512, "num_hidden_layers": 4}


@pytest.fixture
def pretended(request: pytest.FixtureRequest) -> Iterator[Team]:
    """Rank 0 of processes that do not exist: collective operations return at once."""
    dist.init_process_group("fake", rank=0, world_size=request.param, store=FakeStore())
    yield Team(0, request.param)
    dist.destroy_process_group()


def on_devices(location: Path, devices: int, rows: int, *, bf16: bool = False) -> EstimateRequest:
    changes = {
        "devices": devices,
        "gradient_accumulation_steps": devices,
        "max_length": 16,
        "per_device_train_batch_size": rows,
    }
    return EstimateRequest(
        location=str(location),
        task="causal-lm",
        labels=1,
        method=FullSpec(),
        training=TWO_STEPS.model_copy(update=changes),
        device="cpu",
        bf16=bf16,
    )


@pytest.mark.by_day
@pytest.mark.slow
@pytest.mark.parametrize("pretended", [2, 4], indirect=True, ids=lambda world: f"{world} devices")
@pytest.mark.parametrize("rows", [1, 64], ids=["peak within the blocks", "peak before them"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
def test_a_shared_model_as_torch_counts(pretended: Team, rows: int, tied: bool, bf16: bool, tmp_path: Path) -> None:
    shape = FOUR_BLOCKS | {"tie_word_embeddings": tied}
    request = on_devices(tiny_lm.save_model(tmp_path, "llama", **shape), pretended.world, rows, bf16=bf16)
    built = unloaded(request)
    batch = shapes(request, None, built.base).heaviest[0]
    model = tiny_lm.model("llama", **shape)
    trained = pretended.wrap(model, built.facts.blocks, torch.device("cpu"), bf16=bf16).trained.train()
    expected = counted(trained, batch, bf16)
    found = estimate_run(request, None).ledger
    # autocast rounds the output projection, which is not in a block, and keeps the copy until its backward pass
    of_head = 2 * 512 * 128 if bf16 and rows == 64 else 0
    assert found.total == pytest.approx(expected["Total"], rel=0.06 if bf16 else 0.02)
    assert found.owners["weights"] == pytest.approx(expected["Sharded Param"] + of_head, rel=0.03)
    assert found.owners["optimizer"] == pytest.approx(expected["OptState"], rel=0.03)
    assert (found.owners["communication"] > found.owners["weights"]) is (
        rows == 1 and (not bf16 or pretended.world == 4)
    )


def counted(model: torch.nn.Module, batch: Batch, bf16: bool) -> dict[str, int]:
    """Bytes on this device by torch's kinds, at the peak of the second step."""
    optimizer = optimizer_of(FullSpec(), dict(model.named_parameters()), 1e-3, 0.0)
    with FSDPMemTracker(model, optimizer) as tracker:
        for _step in range(2):
            tracker.reset_mod_stats()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = TASKS["causal-lm"].loss(model, batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    (found,) = tracker.get_tracker_snapshot("peak").values()
    return {getattr(kind, "value", kind): size for kind, size in found.items()}


@pytest.mark.nightly
def test_each_device_does_a_part_of_the_work_and_holds_a_part_of_the_model(tmp_path: Path) -> None:
    location = tiny_lm.save_model(tmp_path, "llama", **FOUR_BLOCKS)
    alone, shared = (estimate_run(on_devices(location, devices, 1), None) for devices in (1, 4))
    assert shared.ledger.owners["optimizer"] == pytest.approx(alone.ledger.owners["optimizer"] / 4, rel=0.01)
    assert alone.ledger.owners["communication"] == 0
    replicas = estimate_run(on_devices(location, 4, 1).model_copy(update={"method": LoraSpec()}), None)
    assert replicas.ledger.owners["communication"] == 0
    one = on_devices(location, 1, 1).model_copy(update={"method": LoraSpec()})
    assert replicas.ledger.owners["weights"] == estimate_run(one, None).ledger.owners["weights"]


def one_text(folder: Path) -> TrainJob:
    """Texts of 3 to 14 words."""
    table = [row._replace(text=" ".join(["the cat"] * (1 + i % 6))) for i, row in enumerate(tiny.rows())]
    return tiny.job(folder / "job", tiny.save_model(folder / "model"), FullSpec(), TWO_STEPS, table)


def prompts(folder: Path) -> TrainJob:
    """Long prompts beside short completions, and the reverse."""
    table = [row._replace(prompt="count from one " * (1 + i % 5), completion=" two three" * (1 + (i // 5) % 4))
             for i, row in enumerate(tiny_lm.pairs())]  # fmt: skip
    base = tiny_lm.save_model(folder / "model", "t5")
    return tiny_lm.job(folder / "job", base, "seq2seq-lm", table, method=FullSpec(), training=TWO_STEPS)


def queries(folder: Path) -> TrainJob:
    """Short queries beside passages of 1 to 16 words."""
    table = [row._replace(passage=f"{'the cat ' * (i % 9)}{row.passage}") for i, row in enumerate(tiny_pairs.rows())]
    return tiny_pairs.job(folder / "job", tiny.save_model(folder / "model"), FullSpec(), TWO_STEPS, table)


@pytest.mark.slow
@pytest.mark.parametrize("made", [one_text, prompts, queries])
def test_the_work_of_a_run_is_that_of_its_batches(made, tmp_path: Path) -> None:
    job = made(tmp_path)
    request = request_of(job)
    estimated = estimate_run(request, Path(job.dataset_file))
    built, task = unloaded(request), TASKS[job.spec.task]
    rows = read(job.dataset_file, job.dataset_format)["train"]
    train = task.encode(rows, "test", load_tokenizer(Path(job.model_location)), built.base, job, tiny.Recorder())
    steps = fake_steps(built, request)
    each = [
        steps.step(task.collate(train, batch, 0))[1] for step in Order(train, TWO_STEPS).first_epoch() for batch in step
    ]
    whole = sum(each, Work()) + steps.of_update * len(each)
    assert len(set(each)) > 2 and estimated.train_work is not None
    assert estimated.train_flops == pytest.approx(whole.flops, rel=0.01)
    assert estimated.train_work.bytes == pytest.approx(whole.bytes, rel=0.02)
    assert estimated.train_work.calls == pytest.approx(whole.calls, rel=0.02)


def test_four_lengths_give_four_coefficients_of_an_encoder_decoder() -> None:
    def of_batch(rows: int, prompt: int, completion: int) -> Work:
        tokens = 5 * prompt + 11 * completion + 0.5 * (prompt**2 + prompt * completion + completion**2)
        return Work(40, 1000 + rows * tokens, 2 * rows * tokens)

    known = {sides: of_batch(16, *sides) for sides in ((100, 20), (50, 10), (25, 5), (50, 20))}
    expected = of_batch(8, 90, 30) + of_batch(4, 10, 60)
    found = work_of_batches([(8, (90, 30)), (4, (10, 60))], 2, 16, known, "seq2seq-lm")
    assert tuple(found) == pytest.approx(tuple(expected))


def test_the_heaviest_batch_of_two_texts_is_the_one_with_the_most_padded_tokens(tmp_path: Path) -> None:
    job = prompts(tmp_path)
    rows = read(job.dataset_file, job.dataset_format)["train"]
    built = unloaded(request_of(job))
    train = TASKS["seq2seq-lm"].encode(
        rows, "test", load_tokenizer(Path(job.model_location)), built.base, job, tiny.Recorder()
    )
    long_prompt = max(range(len(rows)), key=lambda i: len(train.tokens[i]))
    long_reply = max(range(len(rows)), key=lambda i: len(train.targets[i]) - len(train.tokens[i]))
    batch = TASKS["seq2seq-lm"].collate(train, [long_prompt, long_reply], 0)
    weight, padding = train.weight([long_prompt, long_reply])
    assert weight == batch.inputs["input_ids"].numel() + batch.labels.numel()
    assert weight > 2 * max(train.lengths[long_prompt], train.lengths[long_reply])
    assert padding == weight - train.lengths[long_prompt] - train.lengths[long_reply]
