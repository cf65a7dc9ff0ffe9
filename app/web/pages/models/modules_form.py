"""The form of a model's module tree, in the page's address: a method, its rank, and the ticked layers."""

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
    method: str
    rank: str
    """Empty: the method's default."""
    keys: tuple[str, ...]
    """Keys of ticked modules."""
    ticked: bool
    """The layers were ticked by hand, even if none is; False: the method's default."""
    add: str = ""
    """Key of a module whose layers are all to be ticked."""
    drop: str = ""
    """Key of a module whose layers are all to be unticked."""

    @classmethod
    def of(cls, query: QueryParams) -> "ModulesForm":
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
        return "r" in SPECS[self.method].model_fields

    def layers(self, tree: Sequence[Module], model: TaskModel) -> list[str]:
        """Full names of the ticked layers, in the model's order."""
        ticked = set(chosen_layers(tree, {*self.keys, self.add} - {""}))
        ticked -= set(chosen_layers(tree, {self.drop})) if self.drop else set()
        return [layer.name for layer in model.linear if layer.name in ticked]

    def address(self, **fields: str) -> str:
        """The address of the page for this method, with other fields."""
        fields |= {"method": self.method} | ({"r": self.rank} if self.rank and self.ranked else {})
        return f"?{urlencode(fields)}"
