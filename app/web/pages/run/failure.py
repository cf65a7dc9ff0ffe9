"""Why a run failed, in words, and what it held when memory ran out."""

import re
from dataclasses import dataclass

from app.domain.failures import FAILURES, Failure, FailureCode
from app.web.format import MIB, memory
from app.web.i18n import gettext as _
from app.web.text.failures import FAILURE_LABELS
from app.web.text.memory_fit import peak_words

NO_MEMORY = (FailureCode.OUT_OF_MEMORY.value, FailureCode.HOST_OOM.value)
ASKED = re.compile(r"([\d,]+) MiB more were asked for")
"""In the worker's message: `worker.engine.failures`."""


@dataclass(frozen=True)
class RunFailure:
    """Why a run failed, in words, and what to do."""

    code: str
    words: str
    sentence: str
    message: str
    """What the worker said; empty where it is the same sentence."""
    asked: str
    """How much was asked for when memory ran out; empty where that is not known."""
    moment: str
    """When that was, within a step; empty where no ledger was kept."""
    ledger: bool
    """It is known who held what."""

    @classmethod
    def of(cls, failure: Failure | None) -> "RunFailure":
        """From what was stored."""
        found = failure or Failure(code=FailureCode.INTERNAL, message="")
        sentence = FAILURES[found.code]
        asked = ASKED.search(found.message)
        return cls(
            code=found.code.value,
            words=_(FAILURE_LABELS[found.code]),
            sentence=_(sentence),
            message=found.message if found.message != sentence else "",
            asked=memory(float(asked[1].replace(",", "")) * MIB) if asked else "",
            moment=peak_words(found.ledger) if found.ledger else "",
            ledger=found.ledger is not None,
        )
