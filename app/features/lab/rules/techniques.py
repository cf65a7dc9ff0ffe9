"""What each technique touches: the parts of a model as rows, and what a method trains in each."""

from dataclasses import dataclass

from app.domain.methods import AnyMethod, LoraSpec
from app.domain.models.adaptations import usual
from app.domain.models.architecture import TaskModel
from app.domain.models.module_tree import trains_in

EMBEDDING = ("embed", "wte", "wpe", "shared")
"""In the name of a module that holds embeddings."""
NORM = ("norm", "ln_")
OTHER_PARTS = EMBEDDINGS, NORMS, HEAD, OTHER, BESIDE = "embeddings", "norms", "head", "other", "beside"
"""Parts that are no linear layer; `beside` is what belongs to no module, such as virtual tokens."""


@dataclass(frozen=True)
class Part:
    """A part of a model, over all its blocks."""

    name: str
    """The last part of a linear layer's name, or one of the constants above."""
    parameters: int
    trains: tuple[int, ...]
    """Trainable parameters of each method in it."""


def technique(kind: str, model: TaskModel) -> AnyMethod:
    """A method as the course uses it: LoRA with r=8 and PEFT's target modules of the architecture (q and v of T5), the
    others with their defaults."""
    targets = model.default_targets.get("lora")
    if kind == "lora" and targets:
        return LoraSpec(r=8, lora_alpha=32, target_modules=targets)
    return usual(kind, model)


def parts(model: TaskModel, methods: list[AnyMethod]) -> list[Part]:
    """The parts in the order of the model, with what each method trains."""
    linear = {m.name for m in model.linear}

    def part_of(module: str) -> str:
        if not module:
            return BESIDE
        if model.in_head(module):
            return HEAD
        owner = next((name for name in (module, module.rpartition(".")[0]) if name in linear), "")
        low = module.lower()
        if owner:
            return owner.rpartition(".")[2]
        found = (EMBEDDINGS, EMBEDDING), (NORMS, NORM)
        return next((part for part, words in found if any(word in low for word in words)), OTHER)

    sizes: dict[str, int] = {}
    for parameter in model.parameters:
        name = part_of(parameter.name.rpartition(".")[0])
        sizes[name] = sizes.get(name, 0) + parameter.size
    trained: list[dict[str, int]] = []
    for method in methods:
        by_part: dict[str, int] = {}
        for module, count in trains_in(method, model).items():
            by_part[part_of(module)] = by_part.get(part_of(module), 0) + count
        trained.append(by_part)
    names = [*sizes, *(name for by_part in trained for name in by_part if name not in sizes)]
    return [
        Part(name, sizes.get(name, 0), tuple(by_part.get(name, 0) for by_part in trained))
        for name in dict.fromkeys(names)
    ]
