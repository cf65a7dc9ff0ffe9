"""What a check of `vezna doctor` has found."""

from dataclasses import dataclass
from typing import Literal

from app.words.i18n import gettext as _
from app.words.i18n import marked

State = Literal["ok", "warning", "problem"]
STATES: dict[State, str] = {"ok": marked("ok"), "warning": marked("warning"), "problem": marked("problem")}
CHECKS: dict[str, str] = {
    "python": marked("python"),
    "libraries": marked("libraries"),
    "settings": marked("settings"),
    "home": marked("home"),
    "disk": marked("disk"),
    "temporary files": marked("temporary files"),
    "database": marked("database"),
    "workers": marked("workers"),
    "control": marked("control"),
    "clock": marked("database clock"),
    "broker": marked("broker"),
    "files": marked("files"),
    "gpu": marked("gpu"),
}
"""Checks by the names that `--json` prints; those of features are called by these names."""


@dataclass(frozen=True)
class Finding:
    check: str
    state: State
    message: str
    remedy: str = ""

    @property
    def line(self) -> str:
        """`problem  broker: it does not answer. Start it …`"""
        width = max(len(_(state)) for state in STATES.values())
        line = f"{_(STATES[self.state]):<{width}}  {_(CHECKS.get(self.check, self.check))}: {self.message}."
        return f"{line} {self.remedy}." if self.remedy else line
