"""The context of a model's memory map."""

from dataclasses import dataclass

from app.domain.errors import FieldError
from app.domain.methods import METHODS
from app.domain.models.adaptations import usual
from app.domain.models.base_model import ModelFacts
from app.domain.resources.devices import Device
from app.domain.resources.memory_map import MapReport
from app.domain.tasks import TASKS
from app.web.figures.figure import Drawn
from app.web.format import capitalized, memory
from app.web.i18n import gettext as _
from app.web.pages.models.map_form import PRECISIONS, MapForm
from app.web.text import methods
from app.web.text.fields import option
from app.web.text.memory_maps import precision_words
from app.web.text.methods import by_family


@dataclass(frozen=True)
class MapPage:
    """Method × max length × batch size for one model on one device."""

    name: str
    facts: ModelFacts
    form: MapForm
    available: tuple[Device, ...]
    report: MapReport | None
    """None where the form has errors."""
    figures: tuple[Drawn, ...]
    errors: tuple[FieldError, ...] = ()

    @property
    def working(self) -> bool:
        """The map is in progress."""
        return self.report is not None and not self.report.settled

    @property
    def failed(self) -> str:
        """Why there is no answer."""
        return self.report.message if self.report and self.report.state == "failed" else ""

    @property
    def device(self) -> str:
        """The device of the map, with its memory and the precision."""
        if self.report is None:
            return ""
        device = self.report.device
        name = _("%(device)s, %(size)s", device=device.name, size=memory(device.memory_bytes))
        return _("%(device)s, in %(precision)s", device=name, precision=precision_words(self.report))

    @property
    def tasks(self) -> list[tuple[str, str]]:
        """What the model can do."""
        return [(task, capitalized(_(TASKS[task].title))) for task in self.facts.tasks]

    @property
    def devices(self) -> list[tuple[str, str]]:
        """Live workers, then well-known GPUs."""
        return [(device.name, _named(device)) for device in self.available]

    @property
    def precisions(self) -> list[tuple[str, str]]:
        """The choices of the precision."""
        return [(value, option("bf16", value)) for value in PRECISIONS]

    @property
    def chosen_device(self) -> str:
        """Of the form, else of the map."""
        return self.form.device or (self.report.device.name if self.report else "")

    @property
    def offers(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """The compatible methods, by family, and the chosen ones."""
        model = self.facts.tasks.get(self.form.task)  # type: ignore[call-overload]
        offers = []
        for _family, title, facts in by_family():
            compatible = [
                (f.kind, methods.name(f))
                for f in facts
                if f.kind in self.form.methods or (model and usual(f.kind, model).incompatibility(model) is None)
            ]
            offers.append((title, compatible))
        return [(title, compatible) for title, compatible in offers if compatible]

    @property
    def chosen(self) -> str:
        """The names of the chosen methods."""
        return ", ".join(methods.name(METHODS[kind]) if kind in METHODS else kind for kind in self.form.methods)

    def errors_of(self, path: str) -> list[FieldError]:
        """What is wrong with a field."""
        return [error for error in self.errors if error.path == path or error.path.startswith(f"{path}.")]


def _named(device: Device) -> str:
    size = memory(device.memory_bytes)
    if not device.worker:
        return _("%(device)s, %(size)s", device=device.name, size=size)
    return _("%(worker)s, %(size)s (worker: %(device)s)", worker=device.name, device=device.device_name, size=size)
