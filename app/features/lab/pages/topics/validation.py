"""The pitfall of too little validation: A/A studies that are drawn from stored item scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy.orm import Session
from starlette.datastructures import QueryParams

from app.features.lab.rules.null_studies import LARGEST_SEED, LEAD, STUDIES, NullStudies
from app.features.lab.services import null_studies
from app.features.lab.services import studies as lab_studies
from app.features.lab.services.null_studies import ScoreSource
from app.store.studies import queries as studies
from app.words.i18n import language

FIRST_SEED = 7


@dataclass(frozen=True)
class TooLittleValidation:
    """What the page shows."""

    source: ScoreSource | None
    """None until an arm has two seeds with stored item scores."""
    others: tuple[ScoreSource, ...]
    """Arms to choose from, one of each study."""
    started: int | None
    """The study that the page started."""
    drawn: Sequence[NullStudies]
    """By number of items; empty until the button is pressed."""
    seed: int
    guess: str
    """The learner's prediction; empty without one."""

    @classmethod
    def of(cls, session: Session, query: QueryParams) -> "TooLittleValidation":
        """From the address: `study` chooses another study than the newest, `seed` draws, `guess` is the prediction."""
        found = tuple(null_studies.sources(session))
        source = next((one for one in found if str(one.study.id) == query.get("study")), found[0] if found else None)
        row = studies.by_name(session, lab_studies.PLANS[lab_studies.SEEDS][0])
        asked = query.get("seed", "")
        drawing = asked.isdecimal() and len(asked) < 10 and int(asked) <= LARGEST_SEED
        seed = int(asked) if drawing else FIRST_SEED
        drawn = source.drawn(seed) if source and drawing else ()
        guess = query.get("guess", "").strip()
        guess = guess if guess.isdecimal() and len(guess) < 6 and int(guess) <= STUDIES else ""
        return cls(source, found, row.id if row else None, drawn, seed, guess)

    @property
    def next_seed(self) -> int:
        """Of another draw."""
        return (self.seed + 1) % LARGEST_SEED if self.drawn else self.seed

    @property
    def studies(self) -> int:
        """Drawn for each number of items."""
        return STUDIES

    @property
    def lead(self) -> float:
        """That people would report, a fraction."""
        return LEAD

    @property
    def fewest(self) -> int:
        """The smallest number of items that is drawn."""
        return self.drawn[0].items if self.drawn else 50

    def data(self, words: dict[str, str]) -> dict[str, Any]:
        """What the script draws: by number of items the leads in points, and which studies' intervals exclude 0."""
        by_items = [
            {
                "items": drawn.items,
                "leads": [round(100 * float(lead), 2) for lead in drawn.leads],
                "excludes": [int(place) for place in np.flatnonzero(drawn.excludes)],
                "winners": drawn.winners,
                "leading": drawn.leading,
                "excluded": drawn.excluded,
                "width": 100 * drawn.width,
            }
            for drawn in self.drawn
        ]
        return {"language": language(), "words": words, "lead": 100 * LEAD, "drawn": by_items}
