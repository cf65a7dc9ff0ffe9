"""Findings as a page shows them: title, sentence, what to do, rows to look at."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.data.findings import Example, Finding, gravest_first
from app.web.format import count
from app.web.i18n import gettext as _
from app.web.text.data import SEVERITIES, SPLITS, finding_of
from app.web.text.findings import in_words


@dataclass(frozen=True)
class FindingView:
    """One thing that was found."""

    finding: Finding
    """In words."""

    @property
    def icon(self) -> str:
        """Of its severity."""
        return SEVERITIES[self.finding.severity][0]

    @property
    def severity(self) -> str:
        """In a word or two."""
        return _(SEVERITIES[self.finding.severity][1])

    @property
    def title(self) -> str:
        """What kind of thing it is."""
        return finding_of(self.finding.code)

    @property
    def message(self) -> str:
        """What was found."""
        return self.finding.message

    @property
    def remedy(self) -> str:
        """What to do."""
        return self.finding.remedy

    @property
    def examples(self) -> list[tuple[str, str]]:
        """Rows to look at: where each stands, and how it begins."""
        return [(_place(example), example.excerpt) for example in self.finding.examples]


def views(findings: Sequence[Finding]) -> tuple[FindingView, ...]:
    """The gravest first."""
    return tuple(FindingView(in_words(finding)) for finding in gravest_first(findings))


def _place(example: Example) -> str:
    parts = [
        example.file,
        _("row %(number)s", number=count(example.row)) if example.row is not None else "",
        _(SPLITS[example.split]) if example.split else "",
    ]
    return ", ".join(part for part in parts if part)
