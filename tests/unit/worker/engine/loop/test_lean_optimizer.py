"""The optimizer of lean full fine-tuning, beside those that it restates, and what each form of a weight keeps."""

import gc
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers.optimization import Adafactor

from app.domain.methods import FullSpec, LeanFullSpec
from app.domain.methods.selection import Optim, WeightStorage
from app.domain.resources.devices import GPU_MODELS
from app.domain.resources.estimate import EstimateRequest
from app.domain.resources.savings import saving_options
from app.domain.runs.training import TrainingArguments
from tests.support.tiny import lm as tiny_lm
from tests.support.tiny import texts as tiny
from tests.unit.worker.engine.estimation.test_estimate import TWO_STEPS, alike, estimated_and_measured, job, request_of
from worker.engine.estimation.estimate import estimate_run
from worker.engine.loop import lean_optimizer
from worker.engine.loop.attempt import Attempt
from worker.engine.loop.lean_optimizer import LeanOptimizer, rounded_stochastically
from worker.engine.loop.step import had_gradient

STORAGES: list[WeightStorage] = ["float32", "bf16-stochastic", "bf16-kahan"]
OPTIMIZERS: list[Optim] = ["adamw_torch", "adamw_bnb_8bit", "adafactor"]
RATE, DECAY = 1e-2, 0.1


def lean(parameters: list[nn.Parameter], rate: float = RATE, seed: int = 0, **fields: Any) -> LeanOptimizer:
    """The optimizer with these settings."""
    spec = LeanFullSpec.model_validate(fields)
    return LeanOptimizer([{"params": parameters, "weight_decay": DECAY}], spec, rate, seed)


def trained(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], steps: int = 20) -> list[torch.Tensor]:
    """The parameters after some steps on the same gradients for every optimizer."""
    random = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for p in parameters:
            p.grad = torch.randn(p.shape, generator=random).to(p.dtype)
        optimizer.step()
    return [p.detach().clone() for p in parameters]


def some(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    """A matrix of several blocks, the last of them incomplete, and a vector."""
    random = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=random).to(dtype)) for shape in ((70, 90), (17,))]


@pytest.mark.parametrize("chunk", [lean_optimizer.CHUNK, 1024])
def test_in_float32_it_is_adamw(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean_optimizer, "CHUNK", chunk)
    ours, theirs = some(), some()
    optimizer = lean(ours, optim="adamw_torch", weight_storage="float32")
    peer = torch.optim.AdamW(theirs, lr=RATE, weight_decay=DECAY)
    torch.testing.assert_close(trained(optimizer, ours), trained(peer, theirs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chunk", [lean_optimizer.CHUNK, 1024])
def test_with_8_bit_moments_it_is_that_of_bitsandbytes(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    monkeypatch.setattr(lean_optimizer, "CHUNK", chunk)
    ours, theirs, exact = some(), some(), some()
    theirs_after = trained(bitsandbytes.optim.AdamW8bit(theirs, lr=RATE, weight_decay=DECAY), theirs)
    ours_after = trained(lean(ours, optim="adamw_bnb_8bit", weight_storage="float32"), ours)
    exactly = trained(torch.optim.AdamW(exact, lr=RATE, weight_decay=DECAY), exact)
    quantization = (theirs_after[0] - exactly[0]).norm()
    assert (ours_after[0] - theirs_after[0]).norm() < 0.2 * quantization
    torch.testing.assert_close(ours_after[1], theirs_after[1], rtol=1e-5, atol=1e-6)


def test_adafactor_is_that_of_transformers() -> None:
    ours, theirs = some(), some()
    peer = Adafactor(theirs, lr=RATE, weight_decay=DECAY, scale_parameter=False, relative_step=False)
    optimizer = lean(ours, optim="adafactor", weight_storage="float32")
    torch.testing.assert_close(trained(optimizer, ours), trained(peer, theirs), rtol=1e-5, atol=1e-6)


def test_stochastic_rounding_is_right_on_average_and_takes_a_neighbour() -> None:
    value, n = 1 + 2**-7 / 3, 60_000  # a third of the way between two bfloat16 numbers
    found = rounded_stochastically(torch.full((n,), value), torch.Generator().manual_seed(0))
    assert set(found.tolist()) == {1.0, 1 + 2**-7}
    standard_error = 2**-7 * (2 / 9 / n) ** 0.5
    assert abs(found.double().mean().item() - value) < 4 * standard_error
    exact = torch.tensor([-3.5, 0.0, float("inf"), -float("inf")])
    assert rounded_stochastically(exact.clone(), torch.Generator()).tolist() == exact.tolist()
    assert rounded_stochastically(torch.tensor([float("nan")]), torch.Generator()).isnan().all()


@pytest.mark.parametrize(("storage", "least", "most"), [("bf16-stochastic", 0.08, 0.12), ("bf16-kahan", 0.099, 0.101)])
def test_small_updates_of_a_bfloat16_weight_are_not_lost(storage: WeightStorage, least: float, most: float) -> None:
    """A thousand steps of 1e-4 on weights of 1, where bfloat16 has steps of 0.004 below and 0.008 above."""
    weight = nn.Parameter(torch.ones(64, 64, dtype=torch.bfloat16))
    spec = LeanFullSpec(optim="adamw_torch", weight_storage=storage)
    optimizer = LeanOptimizer([{"params": [weight]}], spec, 1e-4)
    rounded = nn.Parameter(torch.ones(64, 64, dtype=torch.bfloat16))
    plain = torch.optim.AdamW([rounded], lr=1e-4, weight_decay=0.0)
    for _ in range(1000):
        weight.grad, rounded.grad = torch.ones_like(weight), torch.ones_like(rounded)
        optimizer.step()
        plain.step()
    assert rounded.eq(1).all(), "without either, nothing is learned"
    total = weight.double().flatten() + optimizer.state[weight].get(lean_optimizer.REST, torch.zeros(())).double()
    assert least < 1 - total.mean().item() < most


def test_rounding_depends_on_the_seed_and_on_nothing_that_was_drawn_before() -> None:
    def after(seed: int) -> torch.Tensor:
        torch.rand(seed + 1)
        parameters = some(torch.bfloat16)
        return trained(lean(parameters, seed=seed), parameters, steps=3)[0]

    first = after(0)
    assert torch.equal(first, after(0)) and not torch.equal(first, after(1))


def test_every_seed_of_a_run_works() -> None:
    parameters = some(torch.bfloat16)
    assert all(p.isfinite().all() for p in trained(lean(parameters, seed=2**32 - 1), parameters, steps=2))


@pytest.mark.slow
def test_it_is_freed_after_training_though_parameters_hold_its_hooks() -> None:
    weight = nn.Parameter(torch.ones(64, 64))
    optimizer = lean([weight], optim="adamw_torch", weight_storage="float32", step_in_backward=True)
    weight.square().sum().backward()
    kept = weakref.ref(optimizer.state[weight]["exp_avg"])
    optimizer.release()
    del optimizer
    gc.collect()
    assert kept() is None and weight.requires_grad


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_the_state_is_as_large_as_expected_before_the_first_step(optim: Optim, storage: WeightStorage) -> None:
    weight = nn.Parameter(torch.ones(256, 1024, dtype=torch.float32 if storage == "float32" else torch.bfloat16))
    optimizer = lean([weight], optim=optim, weight_storage=storage)
    expected = optimizer.expected_state_bytes()
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    held = sum(t.numel() * t.element_size() for t in optimizer.state[weight].values())
    assert held == pytest.approx(expected, abs=6000)


@pytest.mark.slow
def test_8_bit_moments_are_estimated_without_bitsandbytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = job(tmp_path, "llama", LeanFullSpec(), TWO_STEPS.model_copy(update={"bf16": True}))
    expected = estimate_run(request_of(run), Path(run.dataset_file)).ledger
    monkeypatch.setattr(lean_optimizer, "_code", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    assert estimate_run(request_of(run), Path(run.dataset_file)).ledger == expected


@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_a_parameter_without_a_gradient_is_noticed(optim: Optim) -> None:
    moved, still = nn.Parameter(torch.ones(80, 80)), nn.Parameter(torch.ones(80, 80))
    optimizer = lean([moved, still], optim=optim, weight_storage="float32")
    assert not had_gradient(optimizer, moved)
    moved.grad, still.grad = torch.full((80, 80), 1e-3), torch.zeros(80, 80)
    optimizer.step()
    assert had_gradient(optimizer, moved) and not had_gradient(optimizer, still)
    assert moved.isfinite().all() and still.isfinite().all()


@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_a_step_in_backward_is_the_step_after_it(optim: Optim) -> None:
    def once(in_backward: bool) -> tuple[list[torch.Tensor], torch.Tensor]:
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Linear(70, 70), nn.Linear(70, 2))
        optimizer = lean(list(layers.parameters()), optim=optim, weight_storage="float32", step_in_backward=in_backward)
        for _ in range(3):
            layers(torch.ones(4, 70)).square().sum().backward()
            squares = [p.grad.square().sum() for p in layers.parameters() if p.grad is not None]
            norm = torch.stack(squares).sum().sqrt() if squares else optimizer.norm()
            assert in_backward == (not squares)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return [p.detach() for p in layers.parameters()], norm

    (weights, norm), (expected, of_all) = once(True), once(False)
    assert all(torch.equal(mine, other) for mine, other in zip(weights, expected, strict=True))
    torch.testing.assert_close(norm, of_all)


@pytest.mark.by_day
@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param("bert", marks=pytest.mark.slow), "llama"])
@pytest.mark.parametrize(
    "storage", [pytest.param(s, marks=[] if s == "bf16-kahan" else pytest.mark.slow) for s in STORAGES]
)
@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_its_memory_is_estimated_by_owner(optim: Optim, storage: WeightStorage, name: str, tmp_path: Path) -> None:
    if optim == "adamw_bnb_8bit":
        pytest.importorskip("bitsandbytes")
    training = TWO_STEPS.model_copy(update={"bf16": storage != "float32"})
    alike(*estimated_and_measured(LeanFullSpec(optim=optim, weight_storage=storage), name, tmp_path, training))


@pytest.mark.slow
def test_with_the_step_in_backward_too(tmp_path: Path) -> None:
    training = TWO_STEPS.model_copy(update={"max_grad_norm": 0.0, "bf16": True})
    spec = LeanFullSpec(optim="adafactor", step_in_backward=True)
    estimated, measured = estimated_and_measured(spec, "llama", tmp_path, training)
    alike(estimated, measured)


def test_bytes_of_a_parameter() -> None:
    """As `LeanFullSpec` says, for a matrix that is large enough for all of them."""
    sizes = {}
    for optim in OPTIMIZERS:
        for storage in STORAGES:
            dtype = torch.float32 if storage == "float32" else torch.bfloat16
            weight = nn.Parameter(torch.zeros(256, 1024, dtype=dtype))
            optimizer = lean([weight], optim=optim, weight_storage=storage)
            weight.grad = torch.ones_like(weight)
            optimizer.step()
            held = [weight, weight.grad, *optimizer.state[weight].values()]
            sizes[optim, storage] = sum(t.numel() * t.element_size() for t in held) / weight.numel()
    expected = {"float32": 8, "bf16-stochastic": 4, "bf16-kahan": 6}
    of_moments = {"adamw_torch": 8, "adamw_bnb_8bit": 2 + 2 * 4 / 256, "adafactor": 0.02}
    for (optim, storage), size in sizes.items():
        assert size == pytest.approx(expected[storage] + of_moments[optim], abs=0.01)


@pytest.mark.slow
def test_a_causal_model_learns_with_the_leanest_settings(tmp_path: Path) -> None:
    base = tiny_lm.save_model(tmp_path / "model", "llama")
    recorder = tiny.Recorder()
    training = tiny.FAST.model_copy(
        update={"bf16": None, "max_grad_norm": 0.0, "max_new_tokens": 4, "num_train_epochs": 3}
    )
    spec = LeanFullSpec(step_in_backward=True)
    run = tiny_lm.job(tmp_path, base, "causal-lm", tiny_lm.pairs(), method=spec, training=training)
    result = Attempt(run, recorder).run()
    assert result.environment.precision == "bf16" and result.audit.passed
    assert recorder.seen[-1].loss < recorder.seen[0].loss and recorder.seen[0].grad_norm > 0
    half = result.parameters.total * 2
    assert result.memory.weights_bytes == pytest.approx(half, rel=0.02)
    assert result.weights_file_bytes == pytest.approx(half, rel=0.1)


@pytest.mark.nightly
def test_eight_billion_parameters_fit_an_80_gb_card_and_in_float32_they_do_not() -> None:
    """Llama 3 8B, two rows of 1,024 tokens: full fine-tuning takes 120 GiB, the leanest AdamW 45."""
    config = {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32}
    config |= {"num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128_256, "dtype": "bfloat16"}
    training = TrainingArguments(per_device_train_batch_size=2, max_length=1024, gradient_checkpointing=True)
    card = next(gpu.memory_bytes for gpu in GPU_MODELS if "H100" in gpu.name)
    needed = {}
    asked = EstimateRequest(
        config=config, task="causal-lm", method=FullSpec(), training=training, device="cuda", bf16=True
    )
    options = {saving.name: saving.request for saving in saving_options(asked)}
    for name, request in {"full": asked, "lean": options["lean"]}.items():
        estimate = estimate_run(request, None)
        needed[name] = estimate.peak_bytes
        trained = 8_030_261_248
        assert estimate.trainable == trained
    assert needed["full"] > card > 1.5 * needed["lean"]
    assert needed["lean"] == pytest.approx(6.04 * trained, rel=0.01)
