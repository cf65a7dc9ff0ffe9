"""Well-known architectures, as files of `lab/architectures/` have them: names and shapes, no weights.

A name with `*` stands for the same part of every block. A classifier has two labels. `config` is what the published
configuration sets; a test builds each model from it without weights and compares.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt

from app.domain.models.architecture import LinearFacts, ParameterFacts, TaskModel
from app.domain.tasks import Task

ANY_BLOCK = ".*."


class Architecture(BaseModel):
    """A model that many people use, from which methods count their parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    published: str
    """Its id on the Hugging Face hub."""
    config: dict[str, Any]
    task: Task
    architecture: str
    hidden_size: int
    layers: int
    attention_heads: int
    key_value_heads: int
    key_value_width: int
    encoder_decoder: bool
    blocks: dict[str, int]
    """Stacks of blocks by name, in the order of the forward pass, and how many blocks each has."""
    head: list[str]
    behind: list[str] | None
    default_targets: dict[str, list[str]]
    linear: dict[str, tuple[PositiveInt, PositiveInt, Literal[0, 1], Literal[0, 1]]]
    """Linear layers by name: inputs, outputs, 1 with a bias, 1 if the weight is stored as [in, out]."""
    parameters: dict[str, tuple[PositiveInt, ...]]
    """Shapes by name, with the labels of the head: a placeholder is refused."""

    @property
    def model(self) -> TaskModel:
        """As the methods see a model."""
        return TaskModel(
            model_type=str(self.config["model_type"]),
            blocks=[f"{stack}.{number}" for stack, count in self.blocks.items() for number in range(count)],
            linear=[
                LinearFacts(name=name, in_features=i, out_features=o, bias=bool(bias), transposed=bool(transposed))
                for part, (i, o, bias, transposed) in self.linear.items()
                for name in self._named(part)
            ],
            parameters=[
                ParameterFacts(name=name, shape=shape)
                for part, shape in self.parameters.items()
                for name in self._named(part)
            ],
            **{name: getattr(self, name) for name in _SAME},
        )

    def _named(self, part: str) -> list[str]:
        stack, star, rest = part.partition(ANY_BLOCK)
        return [f"{stack}.{number}.{rest}" for number in range(self.blocks[stack])] if star else [part]


_SAME = (
    *("task", "architecture", "hidden_size", "layers", "attention_heads", "key_value_heads", "key_value_width"),
    *("encoder_decoder", "head", "behind", "default_targets"),
)
