"""The Lab's first step: the parts of a model, and its heads on a sentence before and after a run of the learner's."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from app.domain.accounts.policy import Role
from app.domain.methods import FullSpec
from app.features.lab.computations import SENTENCES, Attention, AttentionRequest, packed
from app.features.lab.queries import learner as rows
from app.features.lab.services import computations as lab_computations
from app.store.models import queries as base_models
from app.store.runs import queries as runs
from app.store.tables import EstimateRow
from tests.support.rows.accounts import Installation, installed
from tests.support.rows.lab import answered

STEP = "/lab/steps/step-1"
MODEL = "all-MiniLM-L6-v2"
PREVIOUS = np.array([[1, 0, 0], [0.8, 0.2, 0], [0, 0.8, 0.2]], dtype=np.float32)
EVEN = np.full((3, 3), 1 / 3, dtype=np.float32)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, filled_file: Path) -> Iterator[Installation]:
    """The filled database, which requires a login."""
    home = tmp_path_factory.mktemp("lab-transformers")
    with installed(home, filled_file) as made:
        yield made


@pytest.fixture(scope="module")
def member(installation: Installation) -> TestClient:
    return installation.browser(Role.MEMBER)


def requested(installation: Installation) -> AttentionRequest:
    """What waits for a worker."""
    with installation.database.reading() as reading:
        waiting = select(EstimateRow).where(EstimateRow.kind == "lab", EstimateRow.status == "queued")
        request = reading.scalars(waiting).one().request
    assert isinstance(request, AttentionRequest)
    return request


def answer_with(installation: Installation, result: Attention) -> None:
    with installation.database.transaction() as session:
        answered(session, result)


def test_a_head_is_shown_before_and_after_a_run(installation: Installation, member: TestClient) -> None:
    page = member.get(STEP).text
    offered = [int(run) for run in re.findall(r'<option value="(\d+)"', page.partition('id="own-run"')[2])]
    assert offered[-1] == 0 and len(offered) > 2
    with installation.database.reading() as reading:
        full = next(run for run in offered if isinstance(runs.get(reading, run).spec.method, FullSpec))
    form = {"model": MODEL, "sentence": "  the\tbank\0 rose ", "run": str(full)}
    sent = member.post(f"{STEP}/compute", data=form)
    cleaned = urlencode({"model": MODEL, "sentence": "the bank rose", "run": full})
    assert sent.status_code == 303
    request = requested(installation)
    assert request.sentence == "the bank rose" and request.files["full_file"].endswith("model/model.safetensors")
    assert "A worker computes this" in member.get(f"{STEP}?{cleaned}").text
    maps = {"before": [[packed(EVEN), packed(PREVIOUS)]], "after": [[packed(EVEN), packed(EVEN)]]}
    answer_with(installation, Attention(tokens=["the", "bank", "<b>"], cut=True, **maps))
    page = member.get(f"{STEP}?{cleaned}").text
    assert "Layer 1, head 2" in page  # the one that moved
    assert f"after run {full}" in page and page.count('class="figure head-map"') == 2
    assert page.count("the → bank") == 2 and "<b>" not in page.partition('id="head"')[2].replace("<b>1", "")
    assert "moved 53.3\N{NO-BREAK SPACE}% of this head" in page and "only its first 3 tokens" in page
    assert ">80.0</td>" in page and ">33.3</td>" in page
    other = member.get(f"{STEP}?{cleaned}&layer=1&head=1").text
    assert "Layer 1, head 1" in other and "layer 1, head 2" in other and "moved 0.0" in other
    assert "Layer 1, head 2" in member.get(f"{STEP}?{cleaned}&layer=9&head=x").text
    spoken = member.get(f"{STEP}?{cleaned}", headers={"accept-language": "bg"}).text
    assert "преди обучението" in spoken and ">80,0</td>" in spoken


def test_sentences_are_bounded(installation: Installation, member: TestClient) -> None:
    long = {"model": MODEL, "sentence": "x" * 201, "run": "0"}
    assert "The sentence has 201 characters" in member.get(f"{STEP}?{urlencode(long)}").text
    assert member.post(f"{STEP}/compute", data=long).status_code == 422
    viewer = installation.browser(Role.VIEWER)
    own = viewer.post(f"{STEP}/compute", data=long | {"sentence": "a sentence of mine"})
    assert (own.status_code, "only for sentences that the page offers" in own.text) == (403, True)
    assert viewer.post(f"{STEP}/compute", data=long | {"sentence": SENTENCES[2]}).status_code == 303


def test_runs_whose_update_is_more_than_the_product_are_left_out(installation: Installation) -> None:
    with installation.database.reading() as reading:
        model = base_models.by_name(reading, MODEL)
        assert model is not None
        found = {run.id: run.spec.method for run in rows.newest_runs(reading, 20, model.id)}
        fields = lab_computations.trained(reading, found)
        assert fields and set(fields) < set(found)
        for run, values in fields.items():
            method = found[run]
            if method.facts.kind == "lora":
                assert values["lora_scale"] == pytest.approx(method.lora_alpha / method.r)  # type: ignore[union-attr]
                dora = method.model_copy(update={"use_dora": True})
                assert run not in lab_computations.trained(reading, {run: dora})
                root = method.model_copy(update={"use_rslora": True})
                scale = lab_computations.trained(reading, {run: root})[run]["lora_scale"]
                assert scale == pytest.approx(method.lora_alpha / method.r**0.5)  # type: ignore[union-attr]
