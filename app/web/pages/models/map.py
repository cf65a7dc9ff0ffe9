"""The context of a model's memory map."""

from dataclasses import dataclass

from app.domain.errors import FieldError
from app.domain.methods import METHODS, Family, MethodFacts
from app.domain.models.adaptations import usual
from app.domain.models.base_model import ModelFacts
from app.domain.resources.devices import Device
from app.domain.resources.memory_map import MapReport
from app.domain.tasks import Task
from app.web.figures.figure import Drawn
from app.web.pages.models.map_form import PRECISIONS, MapForm
from app.words.data.data import task_options
from app.words.format import memory
from app.words.i18n import gettext as _
from app.words.models.memory_maps import precision_words
from app.words.models.methods import by_family
from app.words.runs.fields import option


@dataclass(frozen=True)
class MapPage:
    """Method × max length × batch size for one model on one device."""

    name: str
    facts: ModelFacts
    form: MapForm
    available: tuple[Device, ...]
    """Live workers, then well-known GPUs."""
    report: MapReport | None
    """None where the form has errors."""
    figures: tuple[Drawn, ...]
    errors: tuple[FieldError, ...] = ()

    @property
    def device(self) -> str:
        """The device of the map, with its memory and the precision."""
        if self.report is None:
            return ""
        device = self.report.device
        name = _("%(device)s, %(size)s", device=device.name, size=memory(device.memory_bytes))
        return _("%(device)s, in %(precision)s", device=name, precision=precision_words(self.report))

    @property
    def tasks(self) -> list[tuple[Task, str]]:
        return task_options(self.facts.tasks)

    @property
    def devices(self) -> list[tuple[str, str]]:
        return [(device.name, _named(device)) for device in self.available]

    @property
    def precisions(self) -> list[tuple[str, str]]:
        return [(value, option("bf16", value)) for value in PRECISIONS]

    @property
    def chosen_device(self) -> str:
        """Device of the form, else of the map."""
        return self.form.device or (self.report.device.name if self.report else "")

    @property
    def families(self) -> list[tuple[Family, str, list[MethodFacts]]]:
        """The compatible methods and the chosen ones, by family."""
        model = self.facts.tasks.get(self.form.task)  # type: ignore[call-overload]
        compatible = {kind for kind in METHODS if model and usual(kind, model).incompatibility(model) is None}
        return by_family(compatible | {*self.form.methods})

    @property
    def chosen(self) -> str:
        return ", ".join(_(METHODS[kind].name) if kind in METHODS else kind for kind in self.form.methods)

    def errors_of(self, path: str) -> list[FieldError]:
        return [error for error in self.errors if error.path == path or error.path.startswith(f"{path}.")]


def _named(device: Device) -> str:
    size = memory(device.memory_bytes)
    if not device.worker:
        return _("%(device)s, %(size)s", device=device.name, size=size)
    return _("%(worker)s, %(size)s (worker: %(device)s)", worker=device.name, device=device.device_name, size=size)
