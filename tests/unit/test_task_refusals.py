"""Which task a judge and a parity check refuse, and with which reason."""

from types import SimpleNamespace
from typing import Any

import pytest

from app.domain.runs.status import RunStatus
from app.features.judging.services import judgements
from app.features.shipping.services import parity_checks
from app.store.runs import artifacts

HEADS = ["sequence-classification", "token-classification", "image-classification"]


@pytest.mark.parametrize("task", [*HEADS, "sentence-embeddings", "preference"])
def test_a_judge_is_refused_with_the_reason_of_the_task(task: str) -> None:
    study: Any = SimpleNamespace(id=7, spec=SimpleNamespace(task=task))
    refused = judgements.refusal(None, study)  # type: ignore[arg-type]
    expected = "Study 7 classifies: its answers are labels" if task in HEADS else "The runs of study 7 generate no text"
    assert refused is not None and str(refused.fields[0].message).startswith(expected)


@pytest.mark.parametrize("task", [*HEADS, "sentence-embeddings", "preference"])
def test_a_parity_check_is_refused_with_the_reason_of_the_task(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "predictions_of", lambda _session, runs: dict.fromkeys(runs))
    run: Any = SimpleNamespace(id=7, imported=None, status=RunStatus.SUCCEEDED, spec=SimpleNamespace(task=task))
    refused = parity_checks.refusal(None, run)  # type: ignore[arg-type]
    expected = "Run 7 classifies with a head" if task in HEADS else "Run 7 generates no text"
    assert refused is not None and str(refused.fields[0].message).startswith(expected)
