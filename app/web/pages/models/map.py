"""The context of a model's map: what fits where, and the form that asks."""

from dataclasses import dataclass

from app.domain.errors import FieldError
from app.domain.methods import METHODS
from app.domain.models.adaptations import usual
from app.domain.models.base_model import ModelFacts
from app.domain.resources.memory_fit import Machine
from app.domain.resources.memory_map import MapReport
from app.domain.tasks import TASKS
from app.web.figures.figure import Drawn
from app.web.format import capitalized, memory
from app.web.i18n import gettext as _
from app.web.pages.models.map_form import FORMATS, MapForm
from app.web.text import methods
from app.web.text.families import by_family
from app.web.text.fields import option
from app.web.text.memory_maps import number_format


@dataclass(frozen=True)
class MapPage:
    """Method × length × batch for one model on one device."""

    name: str
    facts: ModelFacts
    form: MapForm
    machines: tuple[Machine, ...]
    report: MapReport | None
    """None where the question is wrong."""
    figures: tuple[Drawn, ...]
    errors: tuple[FieldError, ...] = ()

    @property
    def working(self) -> bool:
        """It is being worked out."""
        return self.report is not None and not self.report.settled

    @property
    def failed(self) -> str:
        """Why there is no answer."""
        return self.report.message if self.report and self.report.state == "failed" else ""

    @property
    def device(self) -> str:
        """The device that is shown, with its memory and the number format."""
        if self.report is None:
            return ""
        machine = self.report.machine
        device = _("%(card)s, %(size)s", card=machine.name, size=memory(machine.memory_bytes))
        return _("%(device)s, in %(format)s", device=device, format=number_format(self.report))

    @property
    def tasks(self) -> list[tuple[str, str]]:
        """What the model can do."""
        return [(task, capitalized(_(TASKS[task].title))) for task in self.facts.tasks]

    @property
    def devices(self) -> list[tuple[str, str]]:
        """Live workers, then well-known cards."""
        return [(machine.name, _named(machine)) for machine in self.machines]

    @property
    def formats(self) -> list[tuple[str, str]]:
        """In which numbers it may compute."""
        return [(value, option("bf16", value)) for value in FORMATS]

    @property
    def chosen_device(self) -> str:
        """Of the form; the one that is shown where none was chosen."""
        return self.form.device or (self.report.machine.name if self.report else "")

    @property
    def offers(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """The methods that fit the model and the task, by family; those that were chosen besides."""
        model = self.facts.tasks.get(self.form.task)  # type: ignore[call-overload]
        found = []
        for _family, title, facts in by_family():
            able = [
                (f.kind, methods.name(f))
                for f in facts
                if f.kind in self.form.methods or (model and usual(f.kind, model).incompatibility(model) is None)
            ]
            found.append((title, able))
        return [(title, able) for title, able in found if able]

    @property
    def chosen(self) -> str:
        """The chosen methods, in a few words."""
        return ", ".join(methods.name(METHODS[kind]) if kind in METHODS else kind for kind in self.form.methods)

    def errors_of(self, path: str) -> list[FieldError]:
        """What is wrong with a field."""
        return [error for error in self.errors if error.path == path or error.path.startswith(f"{path}.")]


def _named(machine: Machine) -> str:
    size = memory(machine.memory_bytes)
    if not machine.worker:
        return _("%(card)s, %(size)s", card=machine.name, size=size)
    return _("%(worker)s, %(size)s (worker: %(device)s)", worker=machine.name, device=machine.device_name, size=size)
