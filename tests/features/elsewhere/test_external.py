"""Runs that are trained elsewhere: declared, opened, reported, ended, compared; on SQLite and on PostgreSQL."""

import csv
import io
import json
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import httpx2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from app.domain.accounts.policy import Role, Scope
from app.domain.comparison.statistics.clusters import Clusters
from app.domain.comparison.statistics.intervals import score_interval
from app.domain.comparison.statistics.verdict import judge
from app.domain.imports.reports import SILENCE
from app.features.elsewhere.services import reports as external_reports
from app.main import create_app
from app.services.workers.sweep import sweep
from app.settings import ROOT, Settings
from app.store.database.session import Database
from app.store.tables import EvaluationRow, RunRow, StepChunkRow
from app.store.workers import clock
from app.store.workers.clock import renew_everything
from tests.support.fakes.fakes import SilentBell
from tests.support.rows.accounts import Installation
from tests.support.rows.external import FACTS, FULL, LORA, SPEC, Script, declare, item_scores
from tests.support.servers.served import served
from vezna import Client
from vezna.trackers.study import read_steps

STEPS = [{"step": n, "loss": 1 / n, "seconds": 0.1 * n} for n in range(1, 5)]


@pytest.fixture
def script(api: TestClient) -> Script:
    """A script of a declared study."""
    return declare(api)


def make_silent(db: Database, run_id: int) -> None:
    """Let a run's last report be longer ago than silence takes."""
    with db.transaction() as session:
        long_ago = clock.now(session) - SILENCE - timedelta(minutes=1)
        session.execute(update(RunRow).where(RunRow.id == run_id).values(heard_at=long_ago))


def test_a_study_is_declared_once_and_found(api: TestClient, script: Script) -> None:
    study = api.get(f"/external-studies/{script.study}").json()
    assert (study["name"], study["reference"], study["runs"]) == (SPEC["name"], FULL, [])
    assert [listed["id"] for listed in api.get("/external-studies").json()] == [script.study]
    again = api.post("/external-studies", json=SPEC)
    assert again.status_code == 422
    assert again.json()["errors"][0]["path"] == "name"
    into = {"collection": SPEC["name"], "results": [{"label": "x", "method": "lora", "score": 0.5, "seed": 0,
                                                     "source": "y"}]}  # fmt: skip
    assert "is a study whose runs report" in api.post("/imports", json=into).text


@pytest.mark.parametrize(
    ("change", "path", "says"),
    [
        ({"seeds": [0, 0]}, "seeds.1", "A seed is given twice"),
        ({"reference": "IA3"}, "reference", "There is no arm"),
        ({"arms": [{"label": "a", "method": "lora"}] * 2}, "arms.1.label", "Two arms are named"),
        ({"arms": [{"label": "a", "method": "new"}] * 2}, "arms.0.method", "The method is unknown"),
        ({"seeds": list(range(60))}, "seeds", "too many"),
        ({"margin_points": 0}, "margin_points", "above 0"),
    ],
)
def test_a_wrong_study_is_refused_by_field(api: TestClient, change: dict[str, Any], path: str, says: str) -> None:
    answer = api.post("/external-studies", json=SPEC | change)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["path"] == path
    assert says in answer.json()["errors"][0]["message"]


def test_a_resumed_script_finds_its_run_and_goes_on_with_the_next_batch(script: Script) -> None:
    run = script.open(total_steps=8).json()
    assert (run["status"], run["attempt"], run["next_batch"]) == ("running", 1, 1)
    validation = {"step": 4, "split": "validation", "items": 8, "score": 0.5}
    answer = script.report(run, steps=STEPS, evaluations=[validation], message="begun")
    assert (answer.json()["next_batch"], answer.json()["step"]) == (2, 4)
    resumed = script.open().json()
    assert resumed == answer.json() | {"attempt": 2}
    # training resumes from a checkpoint at step 2
    more = [{"step": n, "loss": 9.0} for n in (3, 4, 5, 6)]
    assert script.report(resumed, 2, steps=more, evaluations=[validation | {"score": 0.9}]).json()["step"] == 6
    series = script.api.get(f"/runs/{run['run_id']}/steps", params={"columns": "loss"}).json()
    assert series["step"] == [1, 2, 3, 4, 5, 6]
    assert series["loss"] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4, 9, 9])
    shown = script.api.get(f"/runs/{run['run_id']}").json()
    assert (shown["validation_score"], shown["total_steps"], shown["no_news"]) == (0.5, 8, False)


def test_what_a_script_does_not_state_of_its_steps_is_nowhere_a_zero(script: Script, settings: Settings) -> None:
    plain, whole = script.open().json(), script.open(key="2", arm=LORA).json()
    script.report(plain, steps=STEPS)
    stated = {"epoch": 0.5, "tokens": 100, "memory_bytes": 2**20}
    script.report(whole, steps=[step | stated | {"learning_rate": 0.1 * (4 - step["step"])} for step in STEPS])
    series = [script.api.get(f"/runs/{run['run_id']}/steps").json() for run in (plain, whole)]
    for name in (*stated, "learning_rate"):
        assert series[0][name] == [None] * 4, name
    assert series[1]["tokens"] == [100] * 4
    assert series[1]["learning_rate"][-1] == 0, "a rate may end at zero"
    with served(create_app(settings)) as address:
        table = httpx2.get(f"{address}/runs/{plain['run_id']}/charts/loss.csv").text
        points = [list(read_steps(Client(address), run["run_id"])) for run in (plain, whole)]
    assert {point.name for point in points[0]} == {"train/loss"}
    assert {point.name for point in points[1]} == {"train/loss", "train/learning_rate", *(f"train/{n}" for n in stated)}
    [first, *_others] = list(csv.DictReader(io.StringIO(table)))
    assert {name: value for name, value in first.items() if value} == {"step": "1", "loss": "1.0", "seconds": "0.1"}


def test_what_a_resumed_script_states_is_kept_and_never_contradicts_what_a_verdict_rests_on(
    script: Script, registered: Database
) -> None:
    run = script.open(facts={"splits": FACTS["splits"]}).json()
    other = FACTS["splits"] | {"train": "e" * 64}
    refused = script.open(facts={"splits": other})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["path"] == "facts.splits.train"
    assert script.open(facts={"device": "NVIDIA T4", "splits": FACTS["splits"]}).json()["attempt"] == 2
    with registered.reading() as session:
        known = session.get_one(RunRow, run["run_id"]).reported_run
    assert known is not None and (known.device, known.splits.train) == ("NVIDIA T4", "a" * 64)


def test_a_repeated_batch_counts_once_and_a_gap_names_the_batch_that_is_expected(script: Script) -> None:
    run = script.open().json()
    first = script.report(run, 1, steps=STEPS)
    again = script.report(run, 1, steps=STEPS)
    assert (first.status_code, again.json()) == (200, first.json())
    gap = script.report(run, 3)
    assert gap.status_code == 409
    assert "batch 2 is expected" in gap.json()["detail"]
    descending = script.report(run, 2, steps=STEPS[::-1])
    assert descending.json()["errors"][0]["path"] == "steps.1"
    test = script.report(run, 2, evaluations=[{"step": 4, "split": "test", "items": 8, "score": 0.5}])
    assert "once, at the end" in test.text


def test_of_two_scripts_of_a_run_the_one_that_opened_it_last_wins(script: Script) -> None:
    first, second = script.open().json(), script.open().json()
    assert (first["run_id"], first["attempt"], second["attempt"]) == (second["run_id"], 1, 2)
    assert script.report(second, 1, steps=STEPS).status_code == 200
    refused = script.report(first, 1, steps=STEPS)
    assert refused.status_code == 409
    assert "Another script has opened run" in refused.json()["detail"]
    assert script.end(first, item_scores(0.5, 0)).status_code == 409
    assert script.end(second, item_scores(0.5, 0)).status_code == 200


def test_of_batches_sent_at_once_one_is_written(script: Script, registered: Database) -> None:
    run, both = script.open().json(), Barrier(4)

    def send(_place: int) -> int:
        both.wait(20)
        return int(script.report(run, 1, steps=STEPS).status_code)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(send, range(4))) == [200] * 4
    with registered.reading() as session:
        assert session.scalar(select(func.count()).select_from(StepChunkRow)) == 1


def test_of_scripts_that_open_an_arm_and_seed_at_once_with_other_keys_one_gets_it(script: Script) -> None:
    both = Barrier(3)

    def send(place: int) -> int:
        both.wait(20)
        return int(script.open(key=f"key {place}").status_code)

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(send, range(3))) == [200, 409, 409]


def test_an_arm_and_seed_have_one_run_and_a_key_names_one_run(script: Script) -> None:
    run = script.open().json()
    taken = script.open(key="another")
    assert taken.status_code == 409
    assert f"has run {run['run_id']} for the seed 0" in taken.json()["detail"]
    other = script.open(seed=1, key=f"{FULL}-0")
    assert "This key is that of run" in other.json()["detail"]
    assert script.end(run, None, outcome="failed", message="CUDA error").json()["status"] == "failed"
    assert script.open(key="another").status_code == 200  # a failed run may be repeated
    failure = script.api.get(f"/runs/{run['run_id']}").json()["failure"]
    assert (failure["code"], failure["message"]) == ("elsewhere", "CUDA error")
    unknown = script.open(arm="DoRA")
    assert (unknown.status_code, unknown.json()["errors"][0]["path"]) == (422, "arm")
    assert script.open(seed=7).json()["errors"][0]["path"] == "seed"


def test_an_end_is_repeated_without_effect_and_never_changed(script: Script, registered: Database) -> None:
    run, scores = script.open().json(), item_scores(0.75, 0)
    ended = script.end(run, scores)
    taken = script.open(key="another")
    assert (taken.status_code, taken.json()["detail"]) == (
        409,
        f"Run {run['run_id']} is the result of arm 'full' for the seed 0. Delete it first if another run replaces it.",
    )
    assert ended.json()["status"] == "succeeded"
    assert script.end(run, dict(reversed(scores.items()))).json() == ended.json()
    other = script.end(run, scores | {next(iter(scores)): 0.5})
    assert (other.status_code, "has already ended" in other.text) == (409, True)
    late = script.report(run, 1, steps=STEPS)
    assert (late.status_code, "has already ended: it is succeeded" in late.text) == (409, True)
    assert script.open().json()["status"] == "succeeded"
    with registered.reading() as session:
        assert session.scalar(select(func.count()).select_from(EvaluationRow)) == 1
        row = session.get_one(RunRow, run["run_id"])
        assert (row.score, row.peak_bytes, row.device_name, row.imported_json["items"]) == (
            0.75, 150 * 2**20, "NVIDIA L4", 60
        )  # fmt: skip


def test_a_run_without_item_scores_or_on_other_items_is_refused_with_the_remedy(script: Script) -> None:
    script.train(FULL, 0, 0.75)
    run = script.open(seed=1).json()
    without = script.end(run, None)
    assert without.json()["errors"][0]["path"] == "item_scores"
    assert "Send item_scores" in without.json()["errors"][0]["remedy"]
    changed = script.end(run, item_scores(0.75, 1, n=59))
    assert changed.status_code == 422
    assert "The 59 test items are not the 60 of run" in changed.json()["errors"][0]["message"]
    assert "Score the same items" in changed.json()["errors"][0]["remedy"]
    other = script.end(run, item_scores(0.75, 1), metric="macro_f1")
    assert other.json()["errors"][0]["path"] == "metric"
    assert script.end(run, item_scores(0.75, 1)).status_code == 200  # the run was still open


def test_items_of_a_group_are_one_cluster_of_the_verdict(script: Script) -> None:
    names = sorted(item_scores(0.9, 0))
    groups = {name: f"user {place // 5}" for place, name in enumerate(names[:50])}
    for arm, accuracy in ((FULL, 0.9), (LORA, 0.7)):
        for seed in SPEC["seeds"]:
            script.train(arm, seed, accuracy, item_groups=groups)
    answer = script.api.get("/compare", params={"collection": script.study}).json()
    found = next(arm["verdict"] for arm in answer["arms"] if arm["title"] == LORA)
    scores = [
        np.stack([[item_scores(accuracy, seed)[name] for name in names] for seed in SPEC["seeds"]])
        for accuracy in (0.9, 0.7)
    ]
    clusters = Clusters.of([groups.get(name, name) for name in names])
    assert clusters is not None and len(clusters) == 20
    own = judge({FULL: scores[0], LORA: scores[1]}, FULL, 0.02, clusters=clusters)[LORA].difference
    alone = judge({FULL: scores[0], LORA: scores[1]}, FULL, 0.02)[LORA].difference
    assert own is not None and alone is not None
    assert (found["low"], found["high"]) == pytest.approx((own.low, own.high))
    assert found["low"] != pytest.approx(alone.low)
    assert answer["clusters"] == 20
    assert answer["lead"] == (
        "Accuracy, paired over the same 60 test items in 20 groups. With fewer than 30 groups the intervals rest on "
        "little evidence."
    )
    single = score_interval(scores[0][:1], clusters=clusters)
    page = script.api.get(str(script.api.base_url.copy_with(path="/runs/1"))).text.replace("\N{NO-BREAK SPACE}", " ")
    assert f"95 % interval {100 * single.low:.1f} to {100 * single.high:.1f} %" in page


def test_groups_that_contradict_another_run_or_name_no_item_are_refused(script: Script) -> None:
    names = sorted(item_scores(0.5, 0))
    script.train(FULL, 0, 0.5, item_groups=dict.fromkeys(names[:3], "a"))
    run = script.open(LORA).json()
    other = script.end(run, item_scores(0.5, 0), item_groups=dict.fromkeys(names[:4], "a"))
    assert (other.status_code, other.json()["errors"][0]["path"]) == (422, "item_groups")
    assert "Give the same item_groups" in other.json()["errors"][0]["remedy"]
    stray = script.end(run, item_scores(0.5, 0), item_groups={"nobody": "a"})
    assert "item_groups names 'nobody', which has no score" in stray.json()["errors"][0]["message"]
    same = script.end(run, item_scores(0.5, 0), item_groups=dict.fromkeys(names[:3], "another word"))
    assert same.status_code == 200


def test_groups_are_compared_with_the_first_run_that_has_some(script: Script) -> None:
    names = sorted(item_scores(0.5, 0))
    script.train(FULL, 0, 0.5)
    script.train(FULL, 1, 0.5, item_groups=dict.fromkeys(names[:3], "a"))
    run = script.open(LORA).json()
    other = script.end(run, item_scores(0.5, 0), item_groups=dict.fromkeys(names[:4], "a"))
    assert (other.status_code, other.json()["errors"][0]["path"]) == (422, "item_groups")
    assert "not those of run 2" in other.json()["errors"][0]["message"]
    assert script.end(run, item_scores(0.5, 0)).status_code == 200


def test_an_end_with_other_groups_is_not_the_same_end(script: Script) -> None:
    names = sorted(item_scores(0.5, 0))
    run = script.open(FULL).json()
    for groups, status in ((None, 200), (dict.fromkeys(names[:3], "a"), 409), (None, 200)):
        assert script.end(run, item_scores(0.5, 0), item_groups=groups).status_code == status
    run = script.open(LORA).json()
    for groups, status in ((dict.fromkeys(names[:3], "a"), 200), (None, 409), (dict.fromkeys(names[:3], "b"), 200)):
        assert script.end(run, item_scores(0.5, 0), item_groups=groups).status_code == status


def test_the_verdict_is_that_of_a_study_on_the_same_scores(script: Script) -> None:
    accuracies = {FULL: 0.9, LORA: 0.5}
    for arm, accuracy in accuracies.items():
        for seed in SPEC["seeds"]:
            script.train(arm, seed, accuracy)
    answer = script.api.get("/compare", params={"collection": script.study}).json()
    scores = {
        arm: np.stack([[v for _k, v in sorted(item_scores(a, seed).items())] for seed in SPEC["seeds"]])
        for arm, a in accuracies.items()
    }
    own = judge(scores, FULL, 0.02)[LORA]
    arms = {arm["title"]: arm for arm in answer["arms"]}
    verdict = arms[LORA]["verdict"]
    assert own.difference is not None
    assert (arms[FULL]["reference"], answer["margin"], verdict["kind"]) == (True, 0.02, own.kind.value)
    assert (verdict["low"], verdict["high"]) == pytest.approx((own.difference.low, own.difference.high))
    assert own.kind.value == "worse"
    assert {c["kind"] for c in answer["confounders"]} == {"elsewhere"}
    conditions = {c["name"]: c["knowledge"] for c in answer["conditions"]}
    assert [conditions[name] for name in ("metric", "splits", "test_items", "base_model")] == ["equal"] * 4
    assert conditions["peft"] == "unknown"


@pytest.mark.parametrize(
    ("changes", "confounder"),
    [
        ({"splits": FACTS["splits"] | {"train": "e" * 64}}, "splits"),
        ({"splits": {}}, "splits"),
        ({"metric_version": ""}, "metric_unproven"),
        ({"metric_version": "another"}, "metric_version"),
    ],
)
def test_without_proof_there_is_no_verdict_and_the_reason_is_named(
    script: Script, changes: dict[str, Any], confounder: str
) -> None:
    script.train(FULL, 0, 0.9)
    script.train(LORA, 0, 0.5, facts=FACTS | changes)
    answer = script.api.get("/compare", params={"collection": script.study}).json()
    verdict = next(arm["verdict"] for arm in answer["arms"] if arm["title"] == LORA)
    assert (verdict["kind"], verdict["confounder"]) == ("none", confounder)
    kinds = {c["kind"]: c["effect"] for c in answer["confounders"]}
    assert kinds[confounder] == "verdict"
    assert "missing_seeds" in kinds


def test_settings_that_differ_between_seeds_of_an_arm_are_named(script: Script) -> None:
    for seed, rank in ((0, 8), (1, 16)):
        script.train(LORA, seed, 0.5, facts=FACTS | {"settings": {"r": rank, "seed": seed}})
        script.train(FULL, seed, 0.9, facts=FACTS | {"settings": {"lr": 1e-4, "seed": seed}})
    answer = script.api.get("/compare", params={"collection": script.study}).json()
    mixed = next(c for c in answer["confounders"] if c["kind"] == "mixed_settings")
    assert mixed["values"] == {"": [LORA]}


def compared(script: Script) -> dict[str, Any]:
    """The comparison of a study."""
    answer = script.api.get("/compare", params={"collection": script.study})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def kinds(comparison: dict[str, Any]) -> dict[str, list[str]]:
    """The arms that each confounder names."""
    return {one["kind"]: [arm for arms in one["values"].values() for arm in arms] for one in comparison["confounders"]}


@pytest.mark.slow
def test_seeds_that_failed_and_were_tried_again_split_no_arm_and_break_no_page(script: Script) -> None:
    for attempt in range(101):  # as many rows as one comparison takes, and more
        run = script.open(key=f"try {attempt}").json()
        assert script.end(run, None, outcome="failed", message="CUDA error").status_code == 200
    for arm, accuracy in ((FULL, 0.9), (LORA, 0.5)):
        for seed in (0, 1):
            script.train(arm, seed, accuracy)
    comparison = compared(script)
    assert [(arm["title"], arm["seeds"]) for arm in comparison["arms"]] == [(FULL, 2), (LORA, 2)]
    page = script.api.get(f"http://127.0.0.1/external-studies/{script.study}")
    assert (page.status_code, "points worse than" in page.text) == (200, True)


def test_an_arm_whose_runs_were_given_up_and_trained_again_is_named(script: Script) -> None:
    """Else a script could end runs with bad scores as failed until one is good."""
    for arm in (FULL, LORA):
        for seed in (0, 1):
            script.train(arm, seed, 0.7)
    address = f"/compare?collection={script.study}"
    assert "tried_again" not in [one["kind"] for one in script.api.get(address).json()["confounders"]]
    last = script.api.get(f"/external-studies/{script.study}").json()["runs"][-1]["id"]
    script.api.delete(f"/runs/{last}")
    for outcome in ("failed", "cancelled"):
        script.end(script.open(LORA, 1, key=outcome).json(), None, outcome=outcome)
    script.end(script.open(LORA, 1, key="good").json(), item_scores(0.9, 1))
    [found] = [one for one in script.api.get(address).json()["confounders"] if one["kind"] == "tried_again"]
    assert found["effect"] == "doubt" and LORA in found["sentence"] and FULL not in found["sentence"]


def test_an_arm_that_was_never_opened_is_named(script: Script) -> None:
    for seed in (0, 1):
        script.train(FULL, seed, 0.9)
    comparison = compared(script)
    assert kinds(comparison)["missing_seeds"] == [LORA]
    assert next(one["sentence"] for one in comparison["confounders"] if one["kind"] == "missing_seeds").endswith(
        f"({LORA})"
    )


def test_what_is_not_stated_is_not_zero(script: Script) -> None:
    run = script.open().json()
    script.report(run, 1, steps=[{"step": 1, "loss": 0.5}])
    facts = {name: value for name, value in FACTS.items() if name not in ("train_seconds", "peak_bytes")}
    script.end(run, item_scores(0.5, 0), facts=facts)
    shown = script.api.get(f"/runs/{run['run_id']}").json()
    assert shown["memory_bytes"] is None
    [arm] = compared(script)["arms"]
    assert (arm["costs"]["train_seconds"], arm["costs"]["peak_bytes"]) == (None, None)


def test_peaks_whose_measure_is_not_stated_are_not_compared(script: Script) -> None:
    unsaid = {name: value for name, value in FACTS.items() if name != "memory_measure"}
    for arm, accuracy in ((FULL, 0.9), (LORA, 0.5)):
        script.train(arm, 0, accuracy, facts=unsaid)
    assert not compared(script)["memory_comparable"]


def test_reports_beyond_what_is_stored_are_refused_and_the_end_is_not(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external_reports, "MOST_RUN_STEPS", 4)
    monkeypatch.setattr(external_reports, "MOST_RUN_EVALUATIONS", 1)
    monkeypatch.setattr(external_reports, "MOST_RUN_MESSAGES", 1)
    run = script.open().json()
    first = {"step": 4, "split": "validation", "items": 8, "score": 0.5}
    assert script.report(run, 1, steps=STEPS, evaluations=[first], message="begun").status_code == 200
    for field, more in (("steps", [{"step": 5}]), ("evaluations", [first | {"step": 5}]), ("message", "more")):
        refused = script.report(run, 2, **{field: more})
        assert (refused.status_code, refused.json()["errors"][0]["path"]) == (422, field)
        assert "at most" in refused.json()["errors"][0]["message"]
    assert script.report(run, 2).json()["next_batch"] == 3
    assert script.end(run, item_scores(0.5, 0)).status_code == 200


def test_only_arms_that_are_compared_without_proof_are_named(api: TestClient) -> None:
    arms = [*SPEC["arms"], {"label": "DoRA", "method": "lora"}]
    script = declare(api, arms=arms)
    script.train(FULL, 0, 0.9)
    script.train(LORA, 0, 0.5)
    script.train("DoRA", 0, 0.5, facts=FACTS | {"splits": {}, "metric_version": ""})
    named = kinds(compared(script))
    assert (named["splits"], named["metric_unproven"]) == ([FULL, "DoRA"], ["DoRA"])


def test_a_second_study_of_the_same_runs_is_an_interim_look(api: TestClient) -> None:
    studies = [declare(api, name=f"study {n}", seeds=[0, 1, 2][: n + 2]) for n in range(2)]
    for script in studies:
        for arm, accuracy in ((FULL, 0.9), (LORA, 0.5)):
            for seed in (0, 1):
                script.train(arm, seed, accuracy)
    assert [compared(script)["confidence"] for script in studies] == pytest.approx([0.95, 0.99])
    other = declare(api, name="other runs")
    for arm in (FULL, LORA):
        other.train(arm, 0, 0.7)
    assert compared(other)["confidence"] == pytest.approx(0.95)


def test_silence_is_shown_and_never_ended_by_the_sweep(
    script: Script, registered: Database, settings: Settings, bell: SilentBell
) -> None:
    run = script.open().json()
    make_silent(registered, run["run_id"])
    with registered.transaction() as session:  # as after a jump of the clock, which renews leases
        renew_everything(session, clock.now(session) - timedelta(days=2), timedelta(seconds=1))
        swept = sweep(session, bell, settings)
    assert (swept.requeued, swept.ended) == (0, 0)
    shown = script.api.get(f"/runs/{run['run_id']}").json()
    assert (shown["status"], shown["no_news"]) == ("running", True)
    assert script.api.get(f"/external-studies/{script.study}").json()["runs"][0]["no_news"]
    assert script.report(run, 1, steps=STEPS).status_code == 200
    assert not script.api.get(f"/runs/{run['run_id']}").json()["no_news"]


def test_a_cancel_is_told_with_the_next_answer_and_silent_runs_are_cancelled_at_once(
    script: Script, registered: Database
) -> None:
    run = script.open().json()
    assert script.api.post(f"/runs/{run['run_id']}/cancel").json()["cancel_requested"]
    told = script.report(run, 1, steps=STEPS).json()
    assert (told["cancel"], told["status"]) == (True, "running")
    assert script.end(run, None, outcome="cancelled").json()["status"] == "cancelled"
    silent = script.open(seed=1).json()
    make_silent(registered, silent["run_id"])
    assert script.api.post(f"/runs/{silent['run_id']}/cancel").json()["status"] == "cancelled"
    assert script.report(silent, 1).status_code == 409


def test_a_cancel_during_a_report_is_told_then_or_with_the_next(script: Script) -> None:
    run, both = script.open().json(), Barrier(2)

    def report() -> bool:
        both.wait(20)
        return bool(script.report(run, 1, steps=STEPS).json()["cancel"])

    def cancel() -> int:
        both.wait(20)
        return int(script.api.post(f"/runs/{run['run_id']}/cancel").status_code)

    with ThreadPoolExecutor(2) as pool:
        reported, cancelled = pool.submit(report), pool.submit(cancel)
        assert cancelled.result() == 202
        assert reported.result() in (True, False)
    assert script.report(run, 2).json()["cancel"]


@pytest.mark.parametrize("what", ["run", "study"])
def test_what_is_deleted_during_reports_is_gone_with_its_rows(script: Script, registered: Database, what: str) -> None:
    run, both = script.open().json(), Barrier(2)
    path = f"/runs/{run['run_id']}" if what == "run" else f"/collections/{script.study}"

    def report() -> set[int]:
        both.wait(20)
        return {script.report(run, n, steps=[{"step": n}]).status_code for n in range(1, 8)}

    def delete() -> int:
        both.wait(20)
        return int(script.api.delete(path).status_code)

    with ThreadPoolExecutor(2) as pool:
        reported, deleted = pool.submit(report), pool.submit(delete)
        assert deleted.result() == 204
        assert reported.result() <= {200, 404}
    gone = script.report(run, 8)
    assert (gone.status_code, script.end(run, item_scores(0.5, 0)).status_code) == (404, 404)
    with registered.reading() as session:
        assert session.scalar(select(func.count()).select_from(RunRow)) == 0
        assert session.scalar(select(func.count()).select_from(StepChunkRow)) == 0


def test_runs_from_elsewhere_take_no_place_in_the_queue_and_no_run_of_ours_takes_reports(
    script: Script, api: TestClient
) -> None:
    script.open()
    method = {"base_model": "tiny", "dataset": "small", "method": {"kind": "full"}}
    ours = api.post("/runs", json=method).json()
    refused = script.report({"run_id": ours["id"], "attempt": 1})
    assert (refused.status_code, "takes no reports" in refused.text) == (409, True)
    [listed] = [run for run in api.get("/runs").json()["items"] if run["imported"]]
    assert (listed["status"], listed["arm"], listed["task"]) == ("running", FULL, "")


def test_a_body_above_the_limit_is_refused(script: Script) -> None:
    run = script.open().json()
    answer = script.report(run, 1, message="x" * (2 << 20))
    assert answer.status_code == 413
    assert script.report(run, 1, steps=[{"step": n} for n in range(1, 2002)]).status_code == 422


def test_only_the_owner_reports_and_a_token_needs_the_scope_to_run(tmp_path: Path, migrated_file: Path) -> None:
    (tmp_path / "vezna.sqlite").write_bytes(migrated_file.read_bytes())
    installation = Installation(Settings(home=tmp_path, login="required"))
    member, viewer = installation.program(Role.MEMBER), installation.program(Role.VIEWER)
    reader, admin = installation.program(Role.MEMBER, Scope.READ), installation.program(Role.ADMIN)
    for client in (member, viewer, reader, admin):
        client.base_url = "http://127.0.0.1/api/v1"  # type: ignore[assignment]
    script = declare(member)
    run = script.open().json()
    shown = admin.get(f"/runs/{run['run_id']}").json()
    assert shown["owner_id"] == installation.ids[Role.MEMBER]
    for client in (viewer, reader):
        theirs = Script(client, script.study)
        assert theirs.open(seed=1).status_code == 403
        assert theirs.report(run).status_code == 403
    assert Script(admin, script.study).open(seed=1).json()["status"] == "running"
    # an admin may; the run is still the study's owner's
    assert {r["id"] for r in member.get("/external-studies").json()[0]["runs"]} == {run["run_id"], run["run_id"] + 1}
    installation.database.dispose()


def test_the_examples_of_the_documentation_run(registered: Database, settings: Settings) -> None:
    examples = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "elsewhere.md").read_text(), re.DOTALL)
    answers = []
    with served(create_app(settings)) as address:
        for example in examples:
            done = subprocess.run(
                ["/usr/bin/env", "bash", "-euc", example],
                env={**os.environ, "ADDRESS": address},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            answers.append(json.loads(done.stdout))
    study, run, reported, ended, compared = answers
    assert (study["id"], run["run_id"], reported["next_batch"], ended["status"]) == (1, 1, 2, "succeeded")
    assert compared["arms"][0]["score"]["mean"] == 0.75
    assert {c["name"] for c in compared["conditions"] if c["knowledge"] == "unknown"} == {
        "dataset", "steps", "tokens", "peft"
    }  # fmt: skip
