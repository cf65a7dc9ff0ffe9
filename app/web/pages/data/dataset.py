"""The context of a dataset's page: a version of it, what was found in it, what a model sees of it."""

from dataclasses import dataclass

from app.domain.data.mapping import Role
from app.store.tables import DatasetRow, UploadRow
from app.web.figures import Drawn
from app.web.format import share
from app.web.i18n import gettext as _
from app.web.pages.data.context import SOURCES, DataLine
from app.web.pages.data.findings import FindingView, views
from app.web.pages.data.preview import PreviewView
from app.web.text.data import ROLES, SPLITS


@dataclass(frozen=True)
class DatasetPage:
    """A version of a dataset."""

    line: DataLine
    row: DatasetRow
    upload: UploadRow | None
    versions: tuple[DataLine, ...]
    """All of the name, the newest first."""
    figure: Drawn | None = None
    """Its labels."""
    preview: PreviewView | None = None
    """Of one that is ready."""

    @property
    def newest(self) -> bool:
        """A spec that gives the name alone means this one."""
        ready = next((line for line in self.versions if line.status == "ready"), None)
        return ready is not None and ready.version == self.line.version

    @property
    def findings(self) -> tuple[FindingView, ...]:
        """The gravest first."""
        return views(self.row.findings)

    @property
    def mapped(self) -> list[tuple[str, str]]:
        """Which column is what."""
        found = self.row.mapping.columns if self.row.mapping else {}
        order: list[Role] = list(ROLES)
        return [(_(ROLES[role][0]), found[role]) for role in order if role in found]

    @property
    def origin(self) -> str:
        """Where its rows came from."""
        if self.upload is None:
            return _("made by a program")
        return f"{_(SOURCES[self.upload.source])}: {self.upload.name}"

    @property
    def split_how(self) -> str:
        """How its rows came into splits."""
        splitting = self.row.splitting
        if splitting is None:
            return ""
        cuts = {
            "validation": share(splitting.validation, 1.0),
            "test": share(splitting.test, 1.0),
            "seed": splitting.seed,
        }
        if splitting.kind == "made":
            return _("made here: %(validation)s validation, %(test)s test, seed %(seed)s", **cuts)
        missing = [_(SPLITS[split]) for split in SPLITS if split in splitting.missing()]
        own = _("the column %(name)s", name=splitting.column) if splitting.column else _("the source's own")
        return _("%(own)s; %(missing)s cut from train", own=own, missing=", ".join(missing)) if missing else own
