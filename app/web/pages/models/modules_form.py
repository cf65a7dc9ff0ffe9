"""What the address of a model's page says of its module tree: a method, its rank, and which layers are ticked."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from app.domain.methods import SPECS
from app.domain.methods.base import LinearMethod
from app.domain.models.architecture import TaskModel
from app.domain.models.module_tree import Module, chosen_layers

USUAL_METHOD = "lora"
MOST = 5_000


@dataclass(frozen=True)
class ModulesForm:
    """What stands in the fields."""

    method: str
    rank: str
    """Empty: the method's own."""
    keys: tuple[str, ...]
    """Of ticked modules."""
    ticked: bool
    """They are the reader's choice, even where there are none; False: as the method has it."""
    add: str = ""
    """Key of a module below which all layers are to be ticked."""
    drop: str = ""
    """The same, for none."""

    @classmethod
    def of(cls, query: QueryParams) -> "ModulesForm":
        """From an address; what it does not say is as usual."""
        method = query.get("method", "")
        return cls(
            method=method if method in SPECS else USUAL_METHOD,
            rank=query.get("r", "").strip()[:9],
            keys=tuple(query.getlist("module")[:MOST]),
            ticked="ticked" in query or "module" in query,
            add=query.get("all", ""),
            drop=query.get("none", ""),
        )

    @property
    def targets_layers(self) -> bool:
        """Whether the method has selectable target modules."""
        return issubclass(SPECS[self.method], LinearMethod)

    @property
    def ranked(self) -> bool:
        """Whether the method has a rank."""
        return "r" in SPECS[self.method].model_fields

    def layers(self, tree: Sequence[Module], model: TaskModel) -> list[str]:
        """The ticked layers, by full name, in the model's order."""
        ticked = set(chosen_layers(tree, {*self.keys, self.add} - {""}))
        ticked -= set(chosen_layers(tree, {self.drop})) if self.drop else set()
        return [layer.name for layer in model.linear if layer.name in ticked]

    def address(self, **fields: str) -> str:
        """The page for the same method, with other fields beside it."""
        fields |= {"method": self.method} | ({"r": self.rank} if self.rank and self.ranked else {})
        return f"?{urlencode(fields)}"
