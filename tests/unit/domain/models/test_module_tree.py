"""The folded tree of a model's modules: exact counts, exact targets, and thousands of modules in no time."""

import time

import pytest

from app.domain.methods import BitFitSpec, FullSpec, LoraSpec, MethodSpec, PromptSpec
from app.domain.methods.targets import chosen
from app.domain.models.architecture import LinearFacts, ParameterFacts, TaskModel
from app.domain.models.module_tree import Module, chosen_layers, module_tree, targets_of, trains_in
from app.domain.models.patterns import LONGEST
from tests.support.filled.filled import bert
from tests.support.filled.language import llama, t5

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


def test_blocks_that_are_alike_stand_once() -> None:
    blocks = every(TREE)[BLOCKS]
    assert (blocks.label, len(blocks.names)) == ("encoder.layer.0-5", 6)
    query = every(TREE)[f"{BLOCKS}.attention.self.query"]
    assert (len(query.names), query.parameters) == (6, 6 * (384 * 384 + 384))
    assert every(TREE)["classifier"].new


def test_a_block_that_differs_stands_apart() -> None:
    """T5's first block alone has a table of relative positions."""
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


def test_a_long_list_becomes_a_pattern_that_says_the_same() -> None:
    model = bert(layers=12, width=8, inner=8, words=9, positions=9, heads=2)
    layers = chosen_layers(module_tree(model), ["bert.encoder.layer.0-11.output.dense"])
    found = targets_of(layers, model)
    assert found == r"(?:.*\.)?(?:\d+\.output\.dense)"
    assert [m.name for m in chosen(found, model.linear)] == layers


def test_any_choice_of_kinds_of_layers_is_written_exactly_and_short() -> None:
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
