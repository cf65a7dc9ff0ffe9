"""Weight updates: right on matrices that one can work out, the same by the cheap way and by the plain one, for every
method, and of no consequence for the run."""

from pathlib import Path

import pytest
import torch
from torch import nn

from app.domain.methods import FullSpec, LastLayersSpec, LoraSpec, MethodSpec
from app.domain.models.architecture import LinearFacts, TaskModel
from app.domain.models.weight_delta import UNCHANGED, WeightDeltas
from app.domain.runs.status import Phase
from tests.support.tiny import texts as tiny
from tests.unit.worker.engine import adapted as tried
from tests.unit.worker.engine.methods.test_methods import every_try, put
from worker.engine.evaluation import weight_delta
from worker.engine.evaluation.change import Change, Product
from worker.engine.evaluation.weight_delta import analyse, cosines, dense_values, eigen, product_values
from worker.engine.loop import attempt as attempt_module
from worker.engine.loop.attempt import Attempt
from worker.engine.methods import MECHANISMS
from worker.engine.models.precision import freeze_in_bf16, settle

FACTS = tried.facts("bert")
CPU = torch.device("cpu")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer(rows: int, columns: int) -> LinearFacts:
    return LinearFacts(name=FACTS.linear[0].name, in_features=columns, out_features=rows)


def orthogonal(n: int, seed: int = 0) -> torch.Tensor:
    return torch.linalg.qr(random(n, n, seed=seed))[0]


def test_an_update_of_rank_1_has_effective_rank_1_and_rank_1_holds_all_of_it() -> None:
    before = random(8, 12)
    delta = torch.outer(random(8, seed=1), random(12, seed=2))
    found = analyse(FACTS, layer(8, 12), Change(before, delta))
    assert found.delta.effective_rank == pytest.approx(1, abs=1e-5)
    assert found.delta.energy_at(1) == pytest.approx(1, abs=1e-12)
    assert found.delta.rank_99 == 1
    assert found.norm_ratio == pytest.approx(float(delta.norm() / before.norm()))
    assert (found.block, found.module) == (0, "attention.self.query")


@pytest.mark.parametrize("shape", [(6, 6), (6, 9), (9, 6)])
def test_a_known_spectrum_comes_back(shape: tuple[int, int]) -> None:
    rows, columns = shape
    values = torch.tensor([5.0, 3.0, 1.0, 1e-3, 1e-6, 0.0], dtype=torch.float64)
    matrix = orthogonal(rows)[:, :6] @ torch.diag(values) @ orthogonal(columns, 1)[:, :6].T
    torch.testing.assert_close(dense_values(matrix)[:5], values[:5], rtol=1e-3, atol=1e-8)
    torch.testing.assert_close(dense_values(matrix)[:4], values[:4], rtol=1e-8, atol=0)
    torch.testing.assert_close(eigen(matrix)[0], dense_values(matrix), rtol=0, atol=1e-7)


@pytest.mark.parametrize("shape", [(40, 40), (40, 64), (64, 40)])
def test_the_cheap_way_of_a_product_equals_the_plain_one(shape: tuple[int, int]) -> None:
    rows, columns = shape
    product = Product(random(rows, 5), random(5, columns, seed=1))
    plain = torch.linalg.svdvals(product.dense)[:5]
    torch.testing.assert_close(product_values(product), plain, rtol=1e-10, atol=0)
    before = random(rows, columns, seed=2)
    cheap = analyse(FACTS, layer(rows, columns), Change(before, product))
    dense = analyse(FACTS, layer(rows, columns), Change(before, product.dense))
    assert (cheap.delta.count, dense.delta.count) == (5, 40)
    assert cheap.delta.norm == pytest.approx(dense.delta.norm, rel=1e-6)
    assert cheap.delta.effective_rank == pytest.approx(dense.delta.effective_rank, rel=1e-6)
    assert [cheap.delta.energy_at(k) for k in (1, 2, 4)] == pytest.approx([dense.delta.energy_at(k) for k in (1, 2, 4)])
    assert (cheap.weight, cheap.intruders, cheap.norm_ratio) == (
        dense.weight, dense.intruders, pytest.approx(dense.norm_ratio)
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(30, 30), (30, 50), (50, 30)])
def test_an_intruder_is_found_where_one_is_planted_and_nowhere_else(shape: tuple[int, int]) -> None:
    """A direction that is spread over all of W's, stronger than any of them."""
    rows, columns = shape
    left, right = orthogonal(rows)[:, :30], orthogonal(columns, 1)[:, :30]
    values = torch.linspace(2, 1, 30, dtype=torch.float64)
    before = left @ torch.diag(values) @ right.T
    # Between 30 directions each cosine is 1/√30 = 0.18.
    planted = 10 * torch.outer(left.sum(dim=1), right[:, -1]) / 30**0.5
    assert analyse(FACTS, layer(rows, columns), Change(before, planted)).intruders == 1
    assert analyse(FACTS, layer(rows, columns), Change(before, 0.5 * before)).intruders == 0
    along = 10 * torch.outer(left[:, 3], right[:, 3])
    assert analyse(FACTS, layer(rows, columns), Change(before, along)).intruders == 0


@pytest.mark.parametrize("shape", [(20, 20), (20, 33), (33, 20)])
def test_cosines_are_those_of_a_plain_decomposition(shape: tuple[int, int]) -> None:
    before, after = random(*shape), random(*shape) + random(*shape, seed=1)
    u, _, _ = torch.linalg.svd(before, full_matrices=False)
    new, _, _ = torch.linalg.svd(after, full_matrices=False)
    plain = (u.T @ new[:, :10]).abs().amax(dim=0)
    torch.testing.assert_close(cosines(before, *eigen(before), after, 10), plain, rtol=1e-9, atol=1e-9)


def base_model(name: str) -> nn.Module:
    return tried.model(name)


def changes(adapted: nn.Module, spec: MethodSpec, name: str) -> list[tuple[LinearFacts, Change]]:
    facts = tried.facts(name)
    mechanism = MECHANISMS[spec.mechanism]
    return [(m, mechanism.change(adapted, spec, m, lambda: base_model(name))) for m in spec.changed_layers(facts)]


def responds(adapted: nn.Module, m: LinearFacts) -> tuple[torch.Tensor, torch.Tensor]:
    """Some inputs of a layer, and what it makes of them without its bias."""
    module = next(module for name, module in adapted.named_modules() if name.endswith(m.name))
    x = torch.randn(5, m.in_features, generator=torch.Generator().manual_seed(0))
    return x, (module(x) - module(torch.zeros_like(x))).double()


@pytest.mark.by_day
@every_try
def test_every_method_has_the_update_that_its_layer_does_or_a_reason(spec: MethodSpec, name: str) -> None:
    adapted = put(spec, name)
    list(tried.steps(adapted, spec, name, 3))
    before = {n: p.clone() for n, p in adapted.named_parameters()}
    found = changes(adapted, spec, name)
    assert bool(found) == (spec.unchanged is None)
    assert spec.unchanged is None or UNCHANGED[spec.unchanged]
    for m, change in found:
        own = tried.model(name).get_submodule(m.name).weight.detach().double()
        torch.testing.assert_close(change.before, own.T if m.transposed else own, rtol=0, atol=1e-6)
        with torch.inference_mode():
            x, y = responds(adapted, m)
        torch.testing.assert_close(x.double() @ (change.before + change.dense).T, y, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(p, before[n]) for n, p in adapted.named_parameters()), "it changes nothing"


@pytest.mark.parametrize(
    "spec",
    [
        LoraSpec(r=4, use_dora=True),
        LoraSpec(r=4, use_rslora=True),
        LoraSpec(r=4, init_lora_weights="pissa"),
        LoraSpec(r=4, init_lora_weights="olora"),
        LoraSpec(r=4, init_lora_weights="pissa", use_dora=True),
        LoraSpec(r=4, init_lora_weights="orthogonal"),
    ],
    ids=lambda spec: f"{spec.label} {spec.init_lora_weights}",
)
def test_every_kind_of_lora_has_the_update_that_its_layer_does(spec: LoraSpec) -> None:
    adapted = put(spec, "bert")
    list(tried.steps(adapted, spec, "bert", 3))
    for m, change in changes(adapted, spec, "bert"):
        own = tried.model("bert").get_submodule(m.name).weight.detach().double()
        torch.testing.assert_close(change.before, own, rtol=0, atol=1e-6)
        with torch.inference_mode():
            x, y = responds(adapted, m)
        torch.testing.assert_close(x.double() @ (change.before + change.dense).T, y, rtol=1e-4, atol=1e-5)
        thin = isinstance(change.delta, Product)
        assert thin == (not spec.use_dora)
        assert not thin or change.delta.a.shape[0] == (8 if spec.moves_base else 4)  # type: ignore[union-attr]


def test_a_weight_in_bfloat16_does_not_round_the_update() -> None:
    model = tried.model("bert")
    spec = LoraSpec(r=4, use_dora=True)
    settle(
        model,
        {t.name for t in spec.trains(FACTS)} | {p.name for p in FACTS.head_parameters},
        next(model.parameters()).device,
        bf16=True,
    )
    adapted = MECHANISMS["peft"].apply(model, spec, FACTS)
    freeze_in_bf16(adapted)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if ".lora_B." in name:
                parameter.fill_(1e-6)
    for _, change in changes(adapted, spec, "bert"):
        assert 0 < float(change.dense.norm()) < 1e-2
        assert torch.equal(change.before, change.before.to(torch.bfloat16).double())


def run(directory: Path, base: Path, method: MethodSpec, **changes: object) -> tuple[object, tiny.Recorder]:
    recorder = tiny.Recorder()
    job = tiny.job(directory, base, method).model_copy(update=changes)
    return Attempt(job, recorder).run(), recorder


@pytest.mark.parametrize("method", [FullSpec(), LastLayersSpec(layers=1), LoraSpec(r=4)], ids=lambda m: m.kind)
def test_a_run_reports_every_matrix_that_it_changes(base: Path, tmp_path: Path, method: MethodSpec) -> None:
    _, recorder = run(tmp_path, base, method)
    found = recorder.weight_deltas_analysis
    assert found is not None and found.summary is not None
    assert (found.late, found.large, found.broken) == (0, 0, [])
    assert [m.name for m in found.matrices] == [m.name for m in method.changed_layers(FACTS)]
    assert {"full": 13, "last-layers": 7, "lora": 13}[method.kind] == len(found.matrices)
    assert all(0 < m.norm_ratio < 1 for m in found.matrices)
    for m in found.matrices:
        assert m.delta.count == (4 if method.kind == "lora" else 32)
        assert 1 <= m.delta.effective_rank <= m.delta.count
        assert m.weight.effective_rank > m.delta.effective_rank


@pytest.mark.slow
def test_a_method_without_an_update_tells_the_reason(base: Path, tmp_path: Path) -> None:
    for spec in tried.EVERY:
        if spec.unchanged and "sequence-classification" in spec.facts.tasks:
            _, recorder = run(tmp_path / spec.kind, base, spec)
            assert recorder.weight_deltas_analysis == WeightDeltas(unchanged=spec.unchanged)


@pytest.mark.slow
@pytest.mark.parametrize("method", [FullSpec(), LoraSpec(r=4)], ids=lambda m: m.kind)
def test_the_analysis_changes_no_number_of_a_run(base: Path, tmp_path: Path, method: MethodSpec) -> None:
    numbers = []
    for name, seconds in (("with", 10.0), ("without", 0.0)):
        result, recorder = run(tmp_path / name, base, method, weight_delta_seconds=seconds)
        assert (recorder.weight_deltas_analysis is not None) == (name == "with")
        numbers.append(
            (
                [(s.loss, s.grad_norm) for s in recorder.seen],
                result.evaluations,  # type: ignore[attr-defined]
                [(a.name, a.sha256) for a in result.artifacts if "model" in a.kind or a.kind == "adapter"],  # type: ignore[attr-defined]
            )
        )
    assert numbers[0] == numbers[1]


def test_it_has_a_clock_of_its_own_and_the_clocks_still_sum_up(base: Path, tmp_path: Path) -> None:
    result, recorder = run(tmp_path, base, FullSpec())
    clocks = result.clocks  # type: ignore[attr-defined]
    assert recorder.weight_deltas_analysis is not None
    assert clocks.weight_delta >= recorder.weight_deltas_analysis.seconds > 0
    assert clocks.accounted == pytest.approx(clocks.wall, rel=0.01)
    steady = clocks.train - clocks.ledger_steady
    assert steady == pytest.approx(clocks.forward + clocks.backward + clocks.optimizer + clocks.data)


def test_a_matrix_that_fails_is_named(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = weight_delta.analyse

    def spoilt(model: TaskModel, m: LinearFacts, change: Change) -> object:
        if m.name.endswith("layer.0.attention.self.query"):
            change = Change(change.before, change.dense.fill_(float("nan")))
        return plain(model, m, change)

    monkeypatch.setattr(weight_delta, "analyse", spoilt)
    _, recorder = run(tmp_path, base, FullSpec())
    found = recorder.weight_deltas_analysis
    assert found is not None
    assert found.broken == ["bert.encoder.layer.0.attention.self.query: it contains non-finite numbers."]
    assert len(found.matrices) == 12


def test_a_failed_analysis_fails_no_run(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError("the weight file is gone.\nand more")

    monkeypatch.setattr(attempt_module.BaseModelCopy, "model", property(fails))
    result, recorder = run(tmp_path, base, FullSpec())
    assert result.evaluation("adapted", "test")  # type: ignore[attr-defined]
    assert recorder.weight_deltas_analysis is None
    assert recorder.logs == ["The weight deltas could not be analysed: OSError: the weight file is gone."]


def analysis(layers: list[LinearFacts], **changes: object) -> WeightDeltas:
    options = {"budget_seconds": 60.0, "free_bytes": 2**30, "device": CPU, "raise_if_stopped": lambda: None} | changes
    change = Change(random(8, 8), random(8, 8, seed=1))
    return weight_delta.Analysis(model=FACTS, change=lambda _: change, **options).run(layers)  # type: ignore[arg-type]


def test_what_there_is_no_time_and_no_memory_for_is_left_out_and_counted() -> None:
    small, large = layer(8, 8), layer(20_000, 20_000)
    assert len(analysis([small] * 5).matrices) == 5
    late = analysis([large, small, large], free_bytes=2**40)
    assert (len(late.matrices), late.late, late.large, late.of) == (1, 2, 0, 3)
    assert late.budget_seconds == 60.0
    full = analysis([small, large])
    assert (len(full.matrices), full.late, full.large) == (1, 0, 1)


def test_one_thread_decomposes_a_small_matrix_and_all_threads_a_large_one(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, threads, before = torch.linalg.eigh, [], torch.get_num_threads()

    def observed(gram: torch.Tensor) -> object:
        threads.append(torch.get_num_threads())
        return plain(gram)

    monkeypatch.setattr(torch.linalg, "eigh", observed)
    torch.set_num_threads(3)
    try:
        eigen(random(8, 8))
        monkeypatch.setattr(weight_delta, "ONE_THREAD", 7)
        eigen(random(8, 8))
        assert threads == [1, 3] and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_it_may_take_a_tenth_of_a_long_training_but_not_so_long_that_it_seems_to_hang() -> None:
    given = [weight_delta.budget(10, train) for train in (28, 1000, 36_000)]
    assert given == [10, 100, weight_delta.MOST_SECONDS]
    assert weight_delta.budget(900, 28) == 900


def test_a_wish_to_stop_ends_the_analysis_and_keeps_the_result() -> None:
    def stop() -> None:
        raise weight_delta.Stopped

    found = analysis([layer(8, 8)] * 3, raise_if_stopped=stop)
    assert (len(found.matrices), found.late) == (0, 3)


def test_a_run_that_is_stopped_during_the_analysis_has_its_result(base: Path, tmp_path: Path) -> None:
    """What comes after the result is left out, be it a cancel or a drain: the supervisor takes the result."""

    class StoppedWhileSaving(tiny.Recorder):
        def raise_if_stopped(self) -> None:
            if self.phases[-1] is Phase.SAVE:
                raise weight_delta.Stopped

    recorder = StoppedWhileSaving()
    result = Attempt(tiny.job(tmp_path, base, FullSpec()), recorder).run()
    assert result.evaluation("adapted", "test")
    assert recorder.weight_deltas_analysis is not None
    assert (len(recorder.weight_deltas_analysis.matrices), recorder.weight_deltas_analysis.late, recorder.logs) == (
        0,
        13,
        [],
    )


def test_an_unchanged_matrix_has_rank_0_and_a_zero_matrix_no_ratio() -> None:
    with pytest.raises(ValueError, match="zero before training"):
        analyse(FACTS, layer(4, 4), Change(torch.zeros(4, 4, dtype=torch.float64), random(4, 4)))
    found = analyse(FACTS, layer(6, 6), Change(random(6, 6), torch.zeros(6, 6, dtype=torch.float64)))
    assert (found.norm_ratio, found.delta.effective_rank, found.intruders) == (0.0, 0.0, 0)
