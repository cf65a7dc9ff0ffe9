"""The Lab's steps: their pages, a learner's progress, and what they start."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete, select, update

from app.domain.accounts.policy import Role
from app.domain.comparison.learning.learning import Learning
from app.features.lab.computations import Equality, LabAnswer, MatricesRequest
from app.features.lab.queries import learner as rows
from app.features.lab.rules.questions import Topic
from app.features.lab.services import computations as lab_computations
from app.features.lab.services import learner as lab
from app.features.lab.services import lessons
from app.samples import samples as sample
from app.services.data import samples
from app.services.resources import estimates
from app.settings import Settings
from app.store.database import migrate
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.runs import queries as runs
from app.store.tables import EstimateRow, RunRow, now
from app.words.i18n import LANGUAGES
from tests.conftest import TINY_FACTS
from tests.support.rows.accounts import Installation, installed
from tests.support.rows.lab import MATRICES, answered
from worker.estimation.host import Estimator, NoAnswer

STEP = "/lab/steps/step-5"


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, filled_file: Path) -> Iterator[Installation]:
    """The filled database, which requires a login."""
    home = tmp_path_factory.mktemp("lab-steps")
    with installed(home, filled_file) as made:
        yield made


@pytest.fixture(scope="module")
def viewer(installation: Installation) -> TestClient:
    return installation.browser(Role.VIEWER)


def places(question: str, *, right: bool) -> dict[str, str]:
    """The form of an answer to a question with several right choices."""
    asked = lab.question(question)
    chosen = asked.right() if right else {0}  # type: ignore[union-attr]
    return {f"choice-{place}": str(place) for place in chosen}


@pytest.mark.by_day
@pytest.mark.parametrize("topic", list(lessons.library()))
@pytest.mark.parametrize("language", list(LANGUAGES))
def test_every_page_is_there_in_both_languages(viewer: TestClient, topic: Topic, language: str) -> None:
    answer = viewer.get(lessons.address(topic), headers={"accept-language": language})
    lesson = lessons.library()[topic]
    assert answer.status_code == 200
    for text in (lesson.title, lesson.lead):
        assert text.spoken(language) in answer.text.replace("&#39;", "'")


@pytest.mark.slow
def test_the_answered_question_finishes_a_step_for_this_learner(installation: Installation, viewer: TestClient) -> None:
    assert "0 of 5 steps" in viewer.get("/lab").text
    question = lessons.library()[Topic.STEP_5].question
    refused = viewer.post(STEP, data={})
    assert (refused.status_code, "Nothing is chosen" in refused.text) == (422, True)
    assert "0 of 5 steps" in viewer.get("/lab").text
    for right, verdict in ((False, "Not right"), (True, "That is right")):
        sent = viewer.post(STEP, data=places(question, right=right))
        assert (sent.status_code, sent.headers["location"].startswith(f"{STEP}?answer=")) == (303, True)
        page = viewer.get(sent.headers["location"]).text
        assert verdict in page and ("Answer again" in page) is not right
        assert ("1 of 5 steps" in viewer.get("/lab").text) is right, "a wrong answer finishes no step"
    assert "1 of 5 steps" in viewer.get("/lab").text
    assert "0 of 5 steps" in installation.browser(Role.MEMBER).get("/lab").text
    with installation.database.reading() as reading:
        learner = f"user {installation.ids[Role.VIEWER]}"
        assert rows.finished(reading, learner) == ["step-5"]
        assert rows.cards(reading, learner)[question].reviews == 2


@pytest.mark.slow
def test_the_calculator_counts_exactly(viewer: TestClient) -> None:
    def shown(*fields: tuple[str, str]) -> str:
        page = viewer.get(f"{STEP}?{urlencode(fields)}").text
        return page[page.index('id="calculator"') : page.index('id="study"')]

    assert ">884,736<" in shown() and "72 × 8 × (768 + 768)" in shown()
    chosen = [("ticked", "1"), ("model", "known:T5-base"), ("method", "lora"), ("r", "16")]
    assert ">884,736<" in shown(*chosen, ("target", "q"))
    assert ">1,769,472<" in shown(*chosen, ("target", "q"), ("target", "v"))
    assert "Choose at least one" in shown(*chosen)
    assert "r: " in shown(*chosen[:-1], ("r", "none"), ("target", "q"))
    assert ">222,903,552<" in shown(*chosen[:2], ("method", "full"))
    assert 'value="known:T5-base" selected' in shown(("model", "no such model"), ("method", "no such method"))


def test_a_study_that_goes_on_or_learned_nothing_is_not_explained(
    installation: Installation, viewer: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 'href="/studies/1"' in viewer.get(STEP).text
    assert 'href="/studies/2"' not in viewer.get(f"{STEP}?study=2").text, "it goes on"
    with installation.database.transaction() as session:
        session.execute(update(RunRow).where(RunRow.status.in_(("queued", "running"))).values(status="cancelled"))
    assert 'href="/studies/2"' in viewer.get(f"{STEP}?study=2").text
    monkeypatch.setattr(Learning, "nothing", property(lambda _self: True))
    for page, says in ((STEP, "Your own study comes here"), ("/lab/steps/step-2", "See your own ΔW here")):
        assert says in viewer.get(page).text, page


@pytest.mark.slow
def test_a_member_starts_a_small_study_on_the_sample_and_a_viewer_does_not(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, login="required", database_url=f"sqlite:///{tmp_path / 'vezna.sqlite'}")
    migrate.upgrade(Database(settings.database))
    installed = Installation(settings)
    member, viewer = installed.browser(Role.MEMBER), installed.browser(Role.VIEWER)
    start = "/lab/studies/full-or-lora"
    assert viewer.post("/lab/sample", data={"step": "step-5"}).status_code == 403
    assert viewer.post(start).status_code == 403
    assert "Your role may read only" in viewer.get(STEP).text
    assert "Prepare the sample" in member.get(STEP).text
    assert member.post(start).status_code == 409
    for _twice in range(2):
        prepared = member.post("/lab/sample", data={"step": "step-5"})
        assert (prepared.status_code, prepared.headers["location"]) == (303, f"{STEP}#run")
    assert "Run the sample" in member.get("/studies").text
    assert "Run the sample" not in viewer.get("/studies").text
    assert member.post("/lab/sample").headers["location"] == "/studies/new"
    assert member.get("/studies/new").status_code == 200
    assert 'hx-trigger="every 2s"' in member.get(STEP).text
    with installed.database.transaction() as session:
        found = samples.registered(session)
        assert found.model and found.dataset and found.dataset.name == sample.of_task("sequence-classification").dataset
        found.model.status, found.model.facts_json = "ready", TINY_FACTS.model_dump(mode="json")
    assert "Start the study, 4 runs" in member.get(STEP).text
    assert member.post("/lab/studies/unknown").status_code == 404
    assert member.post("/lab/studies/techniques").status_code == 422
    offered = re.findall(r'name="method-([^"]+)"', member.get("/lab/steps/step-4").text)
    assert "lora" in offered and "full" not in offered
    compared = member.post("/lab/studies/techniques", data={f"method-{kind}": "1" for kind in offered})
    assert compared.status_code == 303
    begun = member.post(start)
    assert begun.status_code == 303
    study = int(begun.headers["location"].rpartition("/")[2])
    with installed.database.reading() as reading:
        queued = runs.of_study(reading, study)
        assert [run.spec.method.facts.kind for run in queued] == ["full", "lora"] * 2
    installed.database.dispose()


def store_answer(installation: Installation, result: LabAnswer) -> None:
    with installation.database.transaction() as session:
        answered(session, result)


def test_a_learner_has_the_equality_check_computed_once(installation: Installation, viewer: TestClient) -> None:
    step = "/lab/steps/step-3"
    assert "One adapted layer of T5-base" in viewer.get(step).text
    fields = "ticked=1&model=all-MiniLM-L6-v2&method=lora&r=16&alpha=16&target=query"
    before = viewer.get(f"{step}?{fields}").text
    assert "r=16, α=16" in before and "[b, n, 16]" in before and "Run the check" in before
    for _twice in range(2):
        sent = viewer.post(f"{step}/compute", data={"query": fields})
        assert (sent.status_code, sent.headers["location"]) == (303, f"{step}?{fields}#run")
    assert 'hx-trigger="every 1s"' in viewer.get(f"{step}?{fields}").text
    equal = Equality(inputs=(16, 24, 384), steps=20, start=0, trained=0, merged=4.8e-6, learned=2.71, largest=8.9)
    store_answer(installation, equal)
    page = viewer.get(f"{step}?{fields}").text
    assert "not equal" not in page
    assert "4.8\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}10⁻⁶" in page and ">2.7<" in page and "rounding" in page
    assert "16 × 24 × 384" in page and "Run the check" not in page
    with installation.database.reading() as reading:
        row = reading.scalars(select(EstimateRow.id).where(EstimateRow.kind == "lab")).one()
    assert viewer.get(f"/api/v1/estimates/{row}").status_code == 404


def test_what_a_viewer_has_computed_is_bounded(
    installation: Installation, viewer: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = "/lab/steps/step-3"

    def sent(client: TestClient, rank: int, alpha: int) -> tuple[int, str]:
        fields = f"ticked=1&model=all-MiniLM-L6-v2&method=lora&r={rank}&alpha={alpha}&target=value"
        page = client.get(f"{step}?{fields}").text
        answer = client.post(f"{step}/compute", data={"query": fields})
        assert ("Run the check" in page) is (answer.status_code != 403 and answer.status_code != 422)
        return answer.status_code, answer.text + page

    member = installation.browser(Role.MEMBER)
    for rank, alpha in ((8, 33), (3, 16)):
        status, text = sent(viewer, rank, alpha)
        assert status == 403 and text.count("only for powers of two: r up to 256, alpha up to 1024") == 2
    assert sent(member, 385, 16)[0] == 422  # the method itself is refused on this model
    for client in (viewer, member):
        wide = "model=known:T5-base&target=q&r=512&alpha=512"  # the check is of the sample's layer
        assert "512 is more than the narrower side of bert.encoder.layer.2" in client.get(f"{step}?{wide}").text
        refused = client.post(f"{step}/compute", data={"query": wide})
        assert (refused.status_code, "Choose at most 384" in refused.text) == (422, True)
    monkeypatch.setattr(lab_computations, "MOST_WAITING", 1)
    assert sent(member, 3, 33)[0] == 303
    status, text = sent(member, 5, 33)
    assert status == 429 and "Too many computations of the Lab wait" in text
    assert member.post(f"{step}/compute", data={"query": "r=many"}).status_code == 422
    assert "r: " in member.get(f"{step}?r=many").text.partition('id="run"')[2]
    with installation.database.transaction() as session:
        session.execute(delete(EstimateRow).where(EstimateRow.kind == "lab", EstimateRow.status == "queued"))


def test_a_failed_computation_says_when_it_can_be_tried_again(installation: Installation, viewer: TestClient) -> None:
    step, fields = "/lab/steps/step-3", "ticked=1&model=all-MiniLM-L6-v2&method=lora&r=32&alpha=64&target=key"

    def change(**values: object) -> None:
        with installation.database.transaction() as session:
            newest = select(EstimateRow).where(EstimateRow.kind == "lab").order_by(EstimateRow.id.desc()).limit(1)
            row = session.scalars(newest).one()
            for name, value in values.items():
                setattr(row, name, value)

    viewer.post(f"{step}/compute", data={"query": fields})
    failure = "The base model could not be loaded (no such file)."
    change(status="failed", message=failure, seen_at=now() - estimates.AGAIN / 2)
    page = viewer.get(f"{step}?{fields}").text
    assert failure in page and "Run the check" not in page
    assert re.search(r"It can be tried again in [45]\s(min|мин)", page)
    assert "Базовият модел" in viewer.get(f"{step}?{fields}", headers={"accept-language": "bg"}).text
    change(seen_at=now() - estimates.AGAIN)
    assert "Run the check" in viewer.get(f"{step}?{fields}").text
    viewer.post(f"{step}/compute", data={"query": fields})
    assert "A worker computes this" in viewer.get(f"{step}?{fields}").text
    change(status="ready", result_json=None)


def test_the_matrices_of_a_layer_are_decomposed_by_a_worker(installation: Installation, viewer: TestClient) -> None:
    step, fields = "/lab/steps/step-2", "layer=bert.encoder.layer.1.attention.self.value"
    assert "Rank 8 keeps" in viewer.get(step).text  # medians of the runs' own analyses
    assert viewer.post(f"{step}/compute", data={"query": fields}).headers["location"] == f"{step}?{fields}#run"
    with installation.database.reading() as reading:
        waiting = select(EstimateRow).where(EstimateRow.kind == "lab", EstimateRow.status == "queued")
        request = reading.scalars(waiting).one().request
        assert isinstance(request, MatricesRequest) and request.layer.endswith("1.attention.self.value")
        assert request.files["full_file"].endswith("model/model.safetensors")
    store_answer(installation, MATRICES)
    page = viewer.get(f"{step}?{fields}", headers={"accept-language": "bg"}).text
    assert ">14,0\N{NO-BREAK SPACE}%</td>" in page and ">6144</td>" in page and "ΔW, пълна настройка" in page
    data = json.loads(page.partition("data-low-rank='")[2].partition("'")[0])
    assert (data["language"], data["ranks"], data["of"]["full"]["energy"][1]) == ("bg", [1, 8, 384], 0.7)
    assert data["words"]["rank"] == "Ранг r"


def test_the_weights_of_runs_reach_the_worker_as_local_files(tmp_path: Path) -> None:
    store = Files(f"file://{tmp_path / 'store'}")
    (tmp_path / "weights").write_bytes(b"weights")
    store.put(tmp_path / "weights", "runs/1/model.safetensors")
    child = tmp_path / "child.py"
    child.write_text(
        "import json, sys\n"
        f"answer = json.loads({MATRICES.model_dump_json()!r})\n"
        "for line in sys.stdin:\n"
        "    asked = json.loads(line)\n"
        "    read = {field: open(path).read() for field, path in asked['files'].items()}\n"
        "    right = read == {'full_file': 'weights'}\n"
        "    print(json.dumps({'computation': answer} if right else {'error': str(read)}), flush=True)\n"
    )
    estimator = Estimator((sys.executable, str(child)), estimate_seconds=0, start_seconds=0)  # not its deadline
    request = MatricesRequest(location="/model", layer="layer", full_file="runs/1/model.safetensors")
    assert estimator.estimate(request, store) == MATRICES
    with pytest.raises(NoAnswer, match="The weights of a run cannot be read"):
        estimator.estimate(request.model_copy(update={"lora_file": "runs/2/gone.safetensors"}), store)
    estimator.end()
