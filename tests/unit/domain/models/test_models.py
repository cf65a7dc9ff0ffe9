"""Models: what methods train of them, module trees, patterns for names, and weight deltas."""

import math
import time

import numpy as np
import pytest

from app.domain.methods import BitFitSpec, FullSpec, HeadOnlySpec, Ia3Spec, LoraSpec, MethodSpec, PrefixSpec, PromptSpec
from app.domain.methods.targets import checked_targets, chosen
from app.domain.models.adaptations import usual
from app.domain.models.architecture import LinearFacts, ParameterFacts, TaskModel
from app.domain.models.base_model import ModelFacts
from app.domain.models.module_tree import Module, chosen_layers, module_tree, targets_of, trains_in
from app.domain.models.patterns import LONGEST, matcher
from app.domain.models.spectra import (
    MOST_VALUES,
    Spectrum,
    effective_rank,
    energy_kept,
    rank_holding,
    ranks_shown,
    stable_rank,
)
from app.domain.models.weight_delta import MatrixDelta, WeightDeltas, energy_curve, spread_order
from app.domain.tasks import Task
from tests.conftest import TINY_FACTS
from tests.support.filled.filled import bert
from tests.support.filled.language import llama, t5

TASK: Task = "sequence-classification"
TINY = TINY_FACTS.tasks[TASK]
HEAD = 5 * 33


def test_trainable_parameters_follow_the_formulas() -> None:
    def count(spec: FullSpec | HeadOnlySpec | LoraSpec) -> int | None:
        return TINY_FACTS.trainable_parameters(spec, TASK, 5)

    assert count(HeadOnlySpec()) == HEAD
    assert count(FullSpec()) == TINY_FACTS.parameters + HEAD
    two = LoraSpec(r=4, target_modules=["query", "value"])
    assert count(two) == HEAD + 2 * 4 * (32 + 32)
    every = 5 * 4 * (32 + 32) + 2 * 4 * (32 + 64)
    assert count(LoraSpec(r=4, target_modules="all-linear")) == HEAD + every
    assert count(two.model_copy(update={"use_dora": True})) == HEAD + 2 * 4 * 64 + 2 * 32
    assert count(two.model_copy(update={"bias": "lora_only"})) == HEAD + 2 * 4 * 64 + 2 * 32


def test_incompatible_methods_are_not_counted_and_the_default_is_all_linear_layers() -> None:
    assert TINY_FACTS.trainable_parameters(LoraSpec(target_modules=["q_proj"]), TASK, 5) is None
    assert TINY_FACTS.trainable_parameters(PrefixSpec(), TASK, 5) is None
    assert TINY_FACTS.trainable_parameters(LoraSpec(), "causal-lm", 0) is None
    assert LoraSpec().targets(TINY) == TINY.linear
    assert not any(TINY.in_head(m.name) for m in TINY.linear)


@pytest.mark.parametrize("targets", ["peft-default", None])
def test_what_peft_chooses_has_a_name(targets: str | None) -> None:
    spec = LoraSpec.model_validate({"target_modules": targets})
    assert spec.target_modules == "peft-default"
    assert [m.name.rsplit(".", 1)[-1] for m in spec.targets(TINY)] == ["query", "value"]


def test_a_narrow_matrix_does_not_limit_the_rank_on_all_linear_layers() -> None:
    gate = LinearFacts(name="bert.encoder.layer.0.gate", in_features=32, out_features=1, bias=False)
    gated = TINY.model_copy(update={"linear": [*TINY.linear, gate]})
    assert LoraSpec(r=8).incompatibility(gated) is None
    assert LoraSpec(r=4).advice(gated) == []
    for spec in (LoraSpec(r=8, target_modules=["gate"]), LoraSpec(r=8, init_lora_weights="pissa")):
        problem = spec.incompatibility(gated)
        assert problem is not None and (problem.path, problem.remedy) == ("r", "Use at most 1")
    too_high = LoraSpec(r=33).incompatibility(gated)
    assert too_high is not None and too_high.remedy == "Use at most 32"


@pytest.mark.parametrize("targets", [["query"], ["self.query"], ["bert.encoder.layer.0.attention.self.query"]])
def test_a_target_is_a_name_or_its_end_after_a_dot(targets: list[str]) -> None:
    assert len(LoraSpec(target_modules=targets).targets(TINY)) == 1


def test_a_pattern_matches_whole_names_and_no_part_of_one() -> None:
    assert [m.name for m in LoraSpec(target_modules=r".*\.(query|key)").targets(TINY)] == [
        "bert.encoder.layer.0.attention.self.query", "bert.encoder.layer.0.attention.self.key"
    ]  # fmt: skip
    assert LoraSpec(target_modules="query").targets(TINY) == []
    problem = TINY_FACTS.incompatibility(LoraSpec(target_modules=["uery"]), TASK)
    assert problem is not None
    assert problem.message == "BertForSequenceClassification has no linear module 'uery'"
    assert problem.remedy == 'Choose from: query, key, value, dense, or "all-linear"'


def test_an_architecture_that_peft_does_not_know_needs_named_targets() -> None:
    odd = TINY.model_copy(update={"model_type": "odd", "default_targets": {}})
    strange = ModelFacts.model_validate(TINY_FACTS.model_copy(update={"tasks": {TASK: odd}}).model_dump())
    problem = strange.incompatibility(LoraSpec(target_modules="peft-default"), TASK)
    assert problem is not None and problem.message == "PEFT has no default target modules for odd"
    assert strange.incompatibility(LoraSpec(target_modules=["key"]), TASK) is None
    assert strange.incompatibility(LoraSpec(), TASK) is None
    assert strange.incompatibility(FullSpec(), TASK) is None
    assert usual("ia3", odd) == Ia3Spec(target_modules="all-linear")


def test_of_a_task_that_the_model_cannot_do_nothing_is_said_twice() -> None:
    assert TINY_FACTS.incompatibility(LoraSpec(target_modules=["nowhere"]), "causal-lm") is None


def test_what_a_method_touches_are_modules_of_the_model() -> None:
    attention = "bert.encoder.layer.0.attention.self"
    assert LoraSpec(target_modules=["query", "value"]).touches(TINY) == [
        f"{attention}.query",
        f"{attention}.value",
        "classifier",
    ]
    assert HeadOnlySpec().touches(TINY) == ["classifier"]
    assert Ia3Spec(target_modules=["key"], feedforward_modules=["key"]).touches(TINY) == [
        f"{attention}.key", "classifier"
    ]  # fmt: skip


def test_a_head_is_filled_in_with_its_labels() -> None:
    assert TINY.with_labels(7).total - TINY.with_labels(2).total == 5 * 33
    assert all(isinstance(m, LinearFacts) for m in TINY.linear)


BERT = bert(layers=6, width=384, inner=1536, words=30522, positions=512, heads=12).with_labels(2)
TREE = module_tree(BERT)
BLOCKS = "bert.encoder.layer.0-5"


def every(tree: tuple[Module, ...]) -> dict[str, Module]:
    """All modules by key."""
    found: dict[str, Module] = {}
    for module in tree:
        found |= {module.key: module} | every(module.children)
    return found


@pytest.mark.parametrize("model", [BERT, llama(), t5()], ids=["bert", "llama", "t5"])
def test_a_folded_tree_loses_nothing(model: TaskModel) -> None:
    tree = module_tree(model)
    assert sum(module.parameters for module in tree) == model.total
    leaves = [name for module in tree for leaf in module.leaves() for name in leaf.names]
    assert sorted(leaves) == sorted(layer.name for layer in model.linear)
    assert len(every(tree)) < len(model.parameters)


def test_blocks_stand_once_if_they_are_alike_and_apart_if_they_differ() -> None:
    blocks = every(TREE)[BLOCKS]
    assert (blocks.label, len(blocks.names)) == ("encoder.layer.0-5", 6)
    query = every(TREE)[f"{BLOCKS}.attention.self.query"]
    assert (len(query.names), query.parameters) == (6, 6 * (384 * 384 + 384))
    assert every(TREE)["classifier"].new
    # T5's first block alone has a table of relative positions.
    more = ParameterFacts(name="bert.encoder.layer.0.table.weight", shape=(32, 12))
    model = BERT.model_copy(update={"parameters": [*BERT.parameters, more]})
    found = every(module_tree(model))
    assert {"bert.encoder.layer.0", "bert.encoder.layer.1-5"} <= found.keys()


@pytest.mark.parametrize(
    ("keys", "targets"),
    [
        ([f"{BLOCKS}.attention.self.query"], ["query"]),
        ([f"{BLOCKS}.attention.self"], ["query", "key", "value"]),
        ([f"{BLOCKS}.attention.output.dense"], ["attention.output.dense"]),
        (["bert"], "all-linear"),
        ([f"{BLOCKS}.output.dense"], [f"{n}.output.dense" for n in range(6)]),
        (["nowhere", "bert.pooler.dense"], ["pooler.dense"]),
        ([], []),
    ],
)
def test_targets_name_what_is_chosen_and_nothing_else(keys: list[str], targets: list[str] | str) -> None:
    layers = chosen_layers(TREE, keys)
    found = targets_of(layers, BERT)
    assert found == targets
    assert [m.name for m in chosen(found, BERT.linear)] == [m.name for m in BERT.linear if m.name in set(layers)]


def test_a_long_list_becomes_a_short_exact_pattern() -> None:
    model = bert(layers=12, width=8, inner=8, words=9, positions=9, heads=2)
    layers = chosen_layers(module_tree(model), ["bert.encoder.layer.0-11.output.dense"])
    found = targets_of(layers, model)
    assert found == r"(?:.*\.)?(?:\d+\.output\.dense)"
    assert [m.name for m in chosen(found, model.linear)] == layers
    leaves = [leaf for module in TREE for leaf in module.leaves()]
    for bits in range(1, 2 ** len(leaves)):
        layers = [name for at, leaf in enumerate(leaves) if bits >> at & 1 for name in leaf.names]
        targets = targets_of(layers, BERT)
        assert {m.name for m in chosen(targets, BERT.linear)} == set(layers)
        assert len(targets if isinstance(targets, str) else ", ".join(targets)) <= LONGEST


@pytest.mark.parametrize("spec", [FullSpec(), BitFitSpec(), LoraSpec(target_modules=["query"])], ids=lambda s: s.kind)
def test_what_trains_is_told_by_module_and_adds_up(spec: MethodSpec) -> None:
    found = trains_in(spec, BERT)
    assert sum(found.values()) == spec.trainable(BERT)
    assert found["classifier"] == 2 * 385
    assert "" not in found


def test_virtual_tokens_are_in_no_module() -> None:
    model = llama()
    assert trains_in(PromptSpec(num_virtual_tokens=10), model) == {"": 10 * model.hidden_size}


@pytest.mark.slow
@pytest.mark.timeout(20)
def test_thousands_of_modules_are_folded_in_no_time() -> None:
    """A mixture whose experts are modules of their own: 48 blocks of 128 experts with three layers each."""
    names = [
        f"model.layers.{b}.mlp.experts.{e}.{w}" for b in range(48) for e in range(128) for w in ("up", "gate", "down")
    ]
    linear = [LinearFacts(name=name, in_features=8, out_features=8, bias=False) for name in names]
    parameters = [ParameterFacts(name=f"{name}.weight", shape=(8, 8)) for name in names]
    model = llama().model_copy(update={"linear": linear, "parameters": parameters, "blocks": []})
    began = time.perf_counter()
    tree = module_tree(model)
    found = every(tree)
    experts = "model.layers.0-47.mlp.experts.0-127"
    assert set(found) == {experts, f"{experts}.up", f"{experts}.gate", f"{experts}.down"}
    assert targets_of(chosen_layers(tree, [f"{experts}.up"]), model) == ["up"]
    assert time.perf_counter() - began < 10


NAME = "bert.encoder.layer.{}.attention.self.query"
LAYERS = [LinearFacts(name=NAME.format(i), in_features=8, out_features=8) for i in range(48)]


@pytest.mark.timeout(30)
@pytest.mark.parametrize("pattern", [".*" * 9 + "!", r"(?:a|b|c|.|\w)*!", "(a+)+b", "(.*)*(.*)*!", r"(\w?){99}!"])
def test_no_pattern_takes_longer_than_names_are_long(pattern: str) -> None:
    """Python's `re` needs 7 s a name for the first one, and outlives whoever waits for the second."""
    assert chosen(LoraSpec(target_modules=pattern).target_modules or [], LAYERS) == []


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        (r".*layer\.(4|5)\..*query", [4, 5]),
        (r".*\.1\d\..*", [*range(10, 20)]),
        (r"bert(\.\w+)*\.7\.attention\.self\.query", [7]),
        (r"(?i).*LAYER\.[0-2]\..*QUERY$", [0, 1, 2]),
        (r"^(?:.*layer\.(?P<number>3)\..+)$", [3]),
        (r".*query|nothing", [*range(48)]),
    ],
)
def test_ordinary_patterns_match_whole_names_as_in_peft(pattern: str, found: list[int]) -> None:
    assert [m.name for m in chosen(LoraSpec(target_modules=pattern).target_modules or [], LAYERS)] == [
        NAME.format(i) for i in found
    ]


@pytest.mark.parametrize("pattern", ["query", "bert", r".*self", "quer", "b|query"])
def test_a_part_of_a_name_is_not_enough(pattern: str) -> None:
    assert chosen(pattern, LAYERS) == []


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("a)|(b", "unopened group"),
        ("(query", "unclosed group"),
        ("[a", "unclosed character class"),
        (r"(a)\1", "backreferences are not supported"),
        ("(?!key).*", "look-around, including look-ahead and look-behind, is not supported"),
        (r"(\w{1000}){1000}", "its repeats make it too large"),
        ("(?x)a #", "unclosed group"),
    ],
)
def test_what_cannot_be_read_has_a_reason_and_a_remedy(pattern: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        matcher(pattern)
    with pytest.raises(ValueError, match="is not valid") as refused:
        checked_targets(pattern)
    assert reason in str(refused.value)


def test_a_pattern_has_a_length() -> None:
    with pytest.raises(ValueError, match="has 201 characters"):
        checked_targets("a" * 201)


def matrix(delta: list[float], *, block: int = 0, side: int = 4, intruders: int = 0) -> MatrixDelta:
    weight = Spectrum.of(np.full(side, 1.0))
    change = Spectrum.of(np.array(delta))
    return MatrixDelta(
        name=f"bert.encoder.layer.{block}.output.dense",
        block=block,
        module="output.dense",
        rows=side,
        columns=2 * side,
        norm_ratio=change.norm / weight.norm,
        delta=change,
        weight=weight,
        top=side,
        intruders=intruders,
    )


def test_a_summary_is_of_medians_and_counts_what_was_left_out() -> None:
    matrices = [matrix([1, 0, 0, 0]), matrix([1, 1, 0, 0], block=1), matrix([1, 1, 1, 1], block=2, intruders=3)]
    found = WeightDeltas(matrices=matrices, late=5, large=1, broken=["x: it holds numbers that are not finite."])
    summary = found.summary
    assert summary is not None
    assert (summary.matrices, summary.of, found.of) == (3, 10, 10)
    assert summary.effective_rank == pytest.approx(2)
    assert (summary.rank_90, summary.side, summary.possible_rank) == (2, 4, 4)
    assert (summary.intruders, summary.top) == (3, 12)
    assert summary.norm_ratio == pytest.approx(np.sqrt(2) / 2)
    assert summary.weight_effective_rank == pytest.approx(4)


def test_half_a_rank_is_rounded_up_and_without_a_matrix_there_is_no_summary() -> None:
    summary = WeightDeltas(matrices=[matrix([1, 0, 0, 0]), matrix([1, 1, 0, 0])]).summary
    assert summary is not None
    assert summary.rank_90 == 2  # the median is 1.5
    assert WeightDeltas(unchanged="head").summary is None
    assert WeightDeltas(late=3).summary is None


def test_a_curve_is_a_median_over_matrices_of_which_thin_ones_are_whole_early() -> None:
    thin, wide = Spectrum.of(np.array([1.0, 1.0])), Spectrum.of(np.full(4, 1.0))
    curve = {point.rank: point for point in energy_curve([thin, wide])}
    assert list(curve) == [1, 2, 3, 4]
    assert [point.median for point in curve.values()] == pytest.approx([0.375, 0.75, 0.875, 1.0])
    assert curve[1].low == pytest.approx(0.275)
    assert curve[1].high == pytest.approx(0.475)


@pytest.mark.parametrize("n", [1, 7, 36, 37, 224])
def test_every_beginning_of_the_order_is_spread_evenly(n: int) -> None:
    order = spread_order(n)
    assert sorted(order) == list(range(n))
    for taken in range(2, n + 1):
        places = sorted(order[:taken])
        gaps = np.diff([places[-1] - n, *places])
        assert gaps.max() <= 3 * n / taken + 1


def test_the_first_of_the_order_are_of_every_kind_of_module() -> None:
    """Six linear layers a block, one after another: a regular stride would meet the same ones again and again."""
    assert {place % 6 for place in spread_order(36)[:12]} == set(range(6))


def test_known_spectra_give_the_numbers_of_the_formulas() -> None:
    found = Spectrum.of(np.array([3.0, 0.0, 0.0]))
    assert (found.effective_rank, found.stable_rank, found.norm) == (1.0, 1.0, 3.0)
    assert (found.rank_50, found.rank_90, found.rank_99) == (1, 1, 1)
    assert found.energy == [1.0, 1.0, 1.0]
    found = Spectrum.of(np.full(10, 2.0))
    assert found.effective_rank == pytest.approx(10)
    assert found.stable_rank == pytest.approx(10)
    assert (found.rank_50, found.rank_90, found.rank_99) == (5, 9, 10)
    assert found.energy_at(1) == pytest.approx(0.1)
    assert found.energy_at(8) == pytest.approx(0.8)
    values = np.array([4.0, 3.0, 0.0])  # energies 16 and 9 of 25; shares of the sum 4/7 and 3/7
    assert energy_kept(values).tolist() == pytest.approx([0.64, 1.0, 1.0])
    entropy = -(4 / 7 * math.log(4 / 7) + 3 / 7 * math.log(3 / 7))
    assert effective_rank(values) == pytest.approx(math.exp(entropy))
    assert stable_rank(values) == pytest.approx(25 / 16)
    assert [rank_holding(share, values) for share in (0.5, 0.64, 0.65, 1.0)] == [1, 1, 2, 2]
    found = Spectrum.of(np.zeros(4))
    assert (found.effective_rank, found.stable_rank, found.rank_90, found.norm) == (0.0, 0.0, 0, 0.0)
    assert found.energy_at(1) == 1.0


def test_the_scale_changes_the_norm_alone_and_ranks_are_two_to_a_doubling() -> None:
    values = np.array([5.0, 2.0, 1.0])
    one, other = Spectrum.of(values), Spectrum.of(1e-9 * values)
    assert other.norm == pytest.approx(1e-9 * one.norm)
    assert other.effective_rank == pytest.approx(one.effective_rank)
    assert other.energy == pytest.approx(one.energy)
    assert ranks_shown(20) == [1, 2, 3, 4, 6, 8, 12, 16, 20]
    assert (ranks_shown(1), ranks_shown(0)) == ([1], [])


def test_many_values_are_thinned_to_a_few_and_the_energies_stay_exact() -> None:
    values = np.sort(np.random.default_rng(0).gamma(2.0, size=768))[::-1]
    found = Spectrum.of(values)
    assert len(found.values) == len(found.value_ranks) <= MOST_VALUES
    assert (found.value_ranks[0], found.value_ranks[-1], found.count) == (1, 768, 768)
    assert found.value_ranks == sorted(set(found.value_ranks))
    exact = energy_kept(values)
    for rank in ranks_shown(768):
        assert found.energy_at(rank) == pytest.approx(exact[rank - 1], abs=1e-12)
    for rank in (5, 21, 100, 700):
        assert exact[rank - 1] - 0.02 < found.energy_at(rank) <= exact[rank - 1]
    assert found.energy_at(5000) == 1.0


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_what_is_not_finite_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        Spectrum.of(np.array([wrong, 1.0]))
