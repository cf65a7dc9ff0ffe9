"""`vezna.track` against a real server: what arrives, and what happens when server, script or scores fail."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vezna
from app.domain.comparison.statistics.clusters import Clusters
from app.domain.comparison.statistics.intervals import difference
from app.main import create_app
from app.settings import ROOT, Settings
from tests.support.rows.external import FULL, LORA, SPEC
from tests.support.servers.served import served
from vezna import Client, run
from vezna.errors import Unreachable
from vezna.sending import sender

ROWS = [{"text": f"item {n}", "label": n % 2} for n in range(60)]
TRAIN = [{"text": f"row {n}", "label": n % 2} for n in range(20)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, migrated_file: Path) -> Path:
    """Of a server with an empty database."""
    home = tmp_path_factory.mktemp("home")
    (home / "vezna.sqlite").write_bytes(migrated_file.read_bytes())
    return home


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[str]:
    """The address of a running server."""
    with served(create_app(Settings(home=home))) as address:
        yield address


@pytest.fixture
def study(server: str, request: pytest.FixtureRequest) -> int:
    """A declared study of its own for each test."""
    with Client(server) as client:
        return client.declare_study(SPEC | {"name": request.node.name[:120]}).id


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "INTERVAL_SECONDS", 0.05)


@pytest.fixture
def track(server: str, study: int, tmp_path: Path) -> Callable[..., vezna.Run]:
    """`vezna.track` for that study."""

    def tracked(arm: str = FULL, seed: int = 0, **changes: Any) -> vezna.Run:
        values = {"train": TRAIN, "test": ROWS, "metric_version": "right, 1", "url": server, "directory": tmp_path}
        return vezna.track(study, arm, seed=seed, **(values | changes))

    return tracked


def right(share: float) -> list[float]:
    """Scores of all items in order."""
    return [float(n < share * len(ROWS)) for n in range(len(ROWS))]


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Warnings and errors of the log."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def until(holds: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_groups_and_equal_inputs_of_the_test_set_widen_the_interval(
    track: Callable[..., vezna.Run], server: str, study: int
) -> None:
    rows = [{"text": f"item {n % 30}", "label": n % 2, "user": n // 2} for n in range(60)]
    for arm, share in ((FULL, 0.9), (LORA, 0.5)):
        with track(arm, 0, test=rows, group="user") as tracked:
            tracked.log_item_scores(right(share))
    with Client(server) as client:
        verdict = next(arm.verdict for arm in client.compare(collection=study).arms if arm.title == LORA)
    clusters = Clusters.of(n % 30 // 2 for n in range(60))
    own = difference(np.array([right(0.5)]), np.array([right(0.9)]), clusters=clusters)
    assert own.clusters == 15
    assert verdict is not None and (verdict.low, verdict.high) == pytest.approx((own.low, own.high))


def test_a_wrong_group_costs_only_the_groups(
    track: Callable[..., vezna.Run], server: str, study: int, caplog: pytest.LogCaptureFixture
) -> None:
    with track(FULL, 0, group="user") as tracked:
        tracked.log_item_scores(right(0.9))
    [line] = lines(caplog)
    assert "the groups of the test items are unknown (a row has no column 'user'" in line
    with Client(server) as client:
        assert [one.status for one in client.external_study(study).runs] == ["succeeded"]


def test_a_run_arrives_with_steps_evaluations_facts_and_a_verdict(
    track: Callable[..., vezna.Run], server: str, study: int, caplog: pytest.LogCaptureFixture
) -> None:
    for arm, share in ((FULL, 0.9), (LORA, 0.5)):
        for seed in (0, 1):
            with track(
                arm, seed, settings={"rank": 8 if arm == LORA else None, "seed": seed}, total_steps=4
            ) as tracked:
                for step in range(1, 5):
                    tracked.log_step(
                        step, loss=1 / step if step < 4 else float("nan"), learning_rate=1e-4, tokens=8 * step
                    )
                with tracked.clock("evaluate"):
                    tracked.log_evaluation(4, score=0.75, items=8)
                tracked.log_message("begun")
                tracked.log_item_scores(right(share))
    with Client(server) as client:
        known = client.external_study(study)
        assert [one.status for one in known.runs] == ["succeeded"] * 4
        reported = client.run(known.runs[2].id)
        comparison = client.compare(collection=study)
    facts = (reported.model_extra or {})["imported"]
    assert (reported.step, reported.validation_score, reported.score) == (4, 0.75, 0.5)
    assert (facts["settings"], facts["steps"], facts["items"]) == ({"rank": 8, "seed": 0}, 4, 60)
    assert set(facts["clocks"]) == {"train", "evaluate"} and facts["environment"]["python"]
    assert {one.knowledge for one in comparison.conditions if one.name in ("test_items", "splits", "metric")} == {
        "equal"
    }
    verdicts = {arm.title: arm.verdict for arm in comparison.arms}
    assert verdicts[LORA] is not None and verdicts[LORA].kind == "worse"
    assert lines(caplog) == []


SCRIPT = """
import sys, time
import vezna
from vezna.sending import sender
sender.INTERVAL_SECONDS = 0.05
first, last, directory, study, url = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5]
rows = [{"text": str(n)} for n in range(30)]
with vezna.track(study, "full", seed=0, test=rows, train=rows, metric_version="1", url=url, directory=directory) as run:
    for step in range(first, last + 1):
        run.log_step(step, loss=1 / step)
    print("trained", flush=True)
    if last < 40:
        time.sleep(60)
    run.log_item_scores([1.0] * 30)
"""


def test_a_script_that_is_killed_and_started_again_continues_its_run(server: str, study: int, tmp_path: Path) -> None:
    def start(first: int, last: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SCRIPT, str(first), str(last), str(tmp_path), str(study), server]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})

    killed = start(1, 20)
    assert killed.stdout is not None and killed.stdout.readline() == "trained\n"
    with Client(server) as client:
        until(lambda: [one.step for one in client.external_study(study).runs] == [20])
        killed.send_signal(signal.SIGKILL)
        killed.wait(30)
        assert start(15, 40).wait(60) == 0  # from a checkpoint
        [known] = client.external_study(study).runs
        reported = client.run(known.id)
    assert (known.status, known.step, reported.attempt) == ("succeeded", 40, 2)


def test_a_training_goes_on_while_the_server_is_away_and_its_reports_arrive_later(
    home: Path,
    server: str,
    study: int,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "CLOSE_SECONDS", 0.2)
    values: dict[str, Any] = {"train": TRAIN, "test": ROWS, "metric_version": "1", "directory": tmp_path}
    with vezna.track(study, FULL, seed=0, url="http://127.0.0.1:9", **values) as tracked:
        for step in range(1, 4):
            tracked.log_step(step, loss=1.0)
        tracked.log_item_scores(right(0.5))
    [away, kept] = lines(caplog)
    assert "http://127.0.0.1:9 does not answer" in away and "training continues" in away
    assert f"python -m vezna.sending.send {tmp_path}" in kept
    command = [sys.executable, "-m", "vezna.sending.send", str(tmp_path), "--url", server]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    with Client(server) as client:
        [known] = client.external_study(study).runs
        assert (known.status, known.step) == ("succeeded", 3)
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 0  # nothing is left to send


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        ([1.0] * 59, "59 scores were given for 60 test items"),
        ({"x": 1.0}, "60 are missing, such as"),
        ([1.5] * 60, "is 1.5. Give each test item a score from 0 to 1"),
        (None, "has no score for each test item"),
    ],
)
def test_wrong_scores_are_named_and_the_run_stays_open(
    track: Callable[..., vezna.Run], server: str, study: int, caplog: pytest.LogCaptureFixture, scores: Any, says: str
) -> None:
    with track() as tracked:
        if scores is not None:
            tracked.log_item_scores(scores)
    assert says in " ".join(lines(caplog))
    with track() as tracked:  # the script, corrected
        tracked.log_item_scores(right(0.5))
    with Client(server) as client:
        assert [one.status for one in client.external_study(study).runs] == ["succeeded"]


def test_test_items_that_changed_between_runs_are_refused_by_name(
    track: Callable[..., vezna.Run], server: str, study: int, caplog: pytest.LogCaptureFixture
) -> None:
    with track() as tracked:
        tracked.log_item_scores(right(0.5))
    changed = [*ROWS[:-1], {"text": "another", "label": 0}]
    with track(seed=1, test=changed) as tracked:
        tracked.log_item_scores(right(0.5))
    [refused] = lines(caplog)
    assert "refused the run: item_scores: The 60 test items are not the 60 of run" in refused
    assert "Score the same items" in refused
    with Client(server) as client:
        assert [one.status for one in client.external_study(study).runs] == ["succeeded", "running"]


def test_an_error_of_the_script_is_its_failure_and_the_next_try_is_a_run_of_its_own(
    track: Callable[..., vezna.Run], server: str, study: int
) -> None:
    with pytest.raises(RuntimeError, match="CUDA"), track():
        raise RuntimeError("CUDA out of memory")
    with pytest.raises(KeyboardInterrupt), track():
        raise KeyboardInterrupt
    with track() as tracked:  # continues the run that Ctrl+C left
        tracked.log_item_scores(right(0.5))
    with Client(server) as client:
        first, second = client.external_study(study).runs
        assert (first.status, second.status) == ("failed", "succeeded")
        failed = client.run(first.id)
    assert failed.failure is not None and failed.failure.message == "RuntimeError: CUDA out of memory"


def test_a_run_that_has_succeeded_is_not_reported_twice(
    track: Callable[..., vezna.Run], server: str, study: int, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        with track(key="mine") as tracked:
            tracked.log_item_scores(right(0.5))
    [said] = lines(caplog)
    assert "has already succeeded, so this training is not reported. Delete the run to train it again" in said
    with track() as tracked:  # without the key it is another run, which the arm and seed have already
        tracked.log_item_scores(right(0.5))
    assert "is the result of arm 'full' for the seed 0. Delete it first" in lines(caplog)[-1]
    with Client(server) as client:
        assert len(client.external_study(study).runs) == 1


def test_a_cancel_reaches_the_script(track: Callable[..., vezna.Run], server: str, study: int) -> None:
    with Client(server) as client, track() as tracked:
        until(lambda: tracked.run_id is not None)
        assert tracked.run_id is not None and not tracked.cancel_requested
        client.cancel_run(tracked.run_id)
        step = 0
        while not tracked.cancel_requested:
            step += 1
            tracked.log_step(step, loss=1.0)
            time.sleep(0.02)
            assert step < 1000
        tracked.cancel()
    with Client(server) as client:
        assert [one.status for one in client.external_study(study).runs] == ["cancelled"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"arm": "DoRA"}, "arm: The study has no arm 'DoRA'. Choose from: LoRA r=8, full."),
        ({"seed": 7}, "seed: The study does not declare the seed 7. Choose from: 0, 1."),
        ({"url": "nonsense"}, "nonsense is not an address. Write it as http://host:8000"),
        ({"test": [{"x": object()}]}, "a row has a value of type object, which cannot be hashed"),
        ({"directory": "/proc/nothing"}, "/proc/nothing: No such file or directory. Give another directory"),
    ],
)
def test_what_cannot_be_reported_is_one_line_and_no_exception(
    track: Callable[..., vezna.Run], caplog: pytest.LogCaptureFixture, changes: dict[str, Any], says: str
) -> None:
    with track(**changes) as tracked:
        tracked.log_step(1, loss=0.5)
    assert says in " ".join(lines(caplog))
    assert len([line for line in lines(caplog) if "stays open" not in line]) == 1


HOLDER = """
import sys, time
from pathlib import Path
from vezna.sending.buffer import Buffer
buffer = Buffer(Path(sys.argv[1]))
print("open", flush=True)
time.sleep(60)
"""


def test_a_study_is_found_by_its_name_and_two_scripts_of_one_run_are_told(
    server: str, study: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Client(server) as client:
        name = client.external_study(study).name
    values: dict[str, Any] = {"seed": 0, "metric_version": "1", "url": server, "directory": tmp_path, "test": ROWS}
    vezna.track(name, FULL, **values).leave()
    [file] = tmp_path.glob("*.jsonl")
    other = subprocess.Popen([sys.executable, "-c", HOLDER, str(file)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "open\n"
    vezna.track(name, FULL, **values).log_step(1)
    assert "another process reports this run" in lines(caplog)[-1]
    with file.open("a") as ended:  # it has ended and is being sent: the next run has a file of its own
        ended.write('{"kind":"end","outcome":"failed"}\n')
    vezna.track(name, FULL, **values).leave()
    assert ["another process" in line for line in lines(caplog)] in ([True], [True, False])
    assert len(list(tmp_path.glob("*.jsonl"))) == 2
    other.kill()
    other.wait(30)
    with vezna.track(name, FULL, **values) as tracked:
        tracked.log_item_scores(right(0.5))
    with vezna.track("nothing", FULL, **values) as tracked:
        until(lambda: "no declared study named 'nothing'" in " ".join(lines(caplog)))
    with Client(server) as client:
        assert "succeeded" in [one.status for one in client.external_study(study).runs]


def test_a_notebook_that_opens_its_run_again_continues_it(
    track: Callable[..., vezna.Run], server: str, study: int, caplog: pytest.LogCaptureFixture
) -> None:
    first = track()
    first.log_step(1, loss=1.0)  # then the cell fails, and is run again
    with track() as tracked:
        first.log_step(2, loss=1.0)
        tracked.log_item_scores(right(0.5))
    assert lines(caplog) == []
    with Client(server) as client:
        assert [(one.status, one.step) for one in client.external_study(study).runs] == [("succeeded", 1)]


def test_arms_whose_labels_differ_in_their_letters_only_have_files_of_their_own(
    server: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arms = [{"label": label, "method": "lora"} for label in ("слаб", "силен")]
    with Client(server) as client:
        study = client.declare_study(SPEC | {"name": "letters", "arms": arms, "reference": "слаб"}).id
        for arm in ("слаб", "силен"):
            values: dict[str, Any] = {"metric_version": "1", "url": server, "directory": tmp_path, "test": ROWS}
            tracked = vezna.track(study, arm, seed=0, **values)
            until(lambda tracked=tracked: tracked.run_id is not None)  # type: ignore[misc]
            tracked.leave()
        assert len(client.external_study(study).runs) == 2
    assert lines(caplog) == [] and len(list(tmp_path.glob("*.jsonl"))) == 2


@pytest.mark.slow
def test_the_time_of_training_is_that_of_all_processes_and_ends_before_the_evaluation(
    track: Callable[..., vezna.Run], server: str, study: int, tmp_path: Path
) -> None:
    def seconds() -> float:
        [end] = [
            line
            for file in tmp_path.glob("*.jsonl")
            for line in map(json.loads, file.read_text().splitlines())
            if line["kind"] == "end"
        ]
        return float(end["facts"]["train_seconds"])

    tracked = track()
    time.sleep(0.5)
    tracked.log_step(10, loss=1.0)
    tracked.log_step(20, loss=1.0)
    tracked.leave()
    with track() as tracked:  # from a checkpoint after step 10
        tracked.log_step(11, loss=1.0)
        time.sleep(0.2)
        tracked.end_training()
        time.sleep(0.6)
        tracked.log_item_scores(right(0.5))
    assert 0.7 <= seconds() < 1.3


def test_the_time_before_a_checkpoint_of_another_directory_is_not_made_up(
    track: Callable[..., vezna.Run], tmp_path: Path
) -> None:
    with track() as tracked:
        tracked.continue_from(10)
        tracked.log_step(11, loss=1.0)
        tracked.log_item_scores(right(0.5))
    [file] = tmp_path.glob("*.jsonl")
    [end] = [line for line in map(json.loads, file.read_text().splitlines()) if line["kind"] == "end"]
    assert "train_seconds" not in end["facts"] and end["facts"]["clocks"] == {}


def test_of_processes_that_train_together_one_reports(
    track: Callable[..., vezna.Run], server: str, study: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    with track() as tracked:
        tracked.log_step(1, loss=0.5)
        tracked.log_item_scores(right(0.5))
    with Client(server) as client:
        assert client.external_study(study).runs == []


def test_what_an_earlier_script_could_not_send_goes_first(
    track: Callable[..., vezna.Run], server: str, study: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "CLOSE_SECONDS", 0.0)
    monkeypatch.setattr(sender.Sender, "start", lambda self: None)
    monkeypatch.setattr(sender.Sender, "finish", lambda self, seconds: False)
    with pytest.raises(RuntimeError), track():
        raise RuntimeError("no memory")
    monkeypatch.undo()
    with track() as tracked:
        tracked.log_item_scores(right(0.5))
    with Client(server) as client:
        assert [one.status for one in client.external_study(study).runs] == ["failed", "succeeded"]
    [kept, _other] = sorted(tmp_path.glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
    assert json.loads(kept.read_text().splitlines()[-1])["kind"] == "closed"


def test_reports_logged_while_an_answer_was_lost_arrive_too(
    track: Callable[..., vezna.Run], server: str, study: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, lost = Client.report, []

    def lose_first_answer(self: Client, run_id: int, batch: Any) -> Any:
        answer = report(self, run_id, batch)
        if not lost:
            lost.append(answer)
            tracked.log_step(2, loss=1.0)
            tracked.log_step(3, loss=1.0)
            raise Unreachable(server, "cut off", connected=True)
        return answer

    monkeypatch.setattr(Client, "report", lose_first_answer)
    with track() as tracked:
        tracked.log_step(1, loss=1.0)
        until(lambda: bool(lost))
        tracked.log_item_scores(right(0.5))
    with Client(server) as client:
        assert [one.step for one in client.external_study(study).runs] == [3]


def test_a_wrong_value_costs_its_report_alone(
    track: Callable[..., vezna.Run], server: str, study: int, caplog: pytest.LogCaptureFixture
) -> None:
    with track(stated={"tokens": np.int64(4)}) as tracked:
        tracked.log_step(0, loss=1.0)
        tracked.log_step(1, loss=np.float32(1.0), tokens=np.int64(4))  # type: ignore[arg-type]
        tracked.log_evaluation(1, score=float("nan"), items=8)
        tracked.log_evaluation(1, score=50.0, items=8)
        tracked.log_evaluation(1, score=0.5, items=8)
        tracked.log_facts(tokens=np.int64(5), peak_bytes=float("nan"))
        tracked.log_item_scores(["right"] * len(ROWS))  # type: ignore[list-item]
        tracked.log_item_scores(right(0.5))
    said = lines(caplog)
    assert [line.split(":")[1].strip() for line in said[:4]] == [
        "a step is left out", "an evaluation is left out", "an evaluation is left out",
        "the fact peak_bytes is left out",
    ]  # fmt: skip
    assert "a score is no number" in said[4] and len(said) == 5
    with Client(server) as client:
        [known] = client.external_study(study).runs
        reported = client.run(known.id)
    assert (known.status, known.step, reported.validation_score) == ("succeeded", 1, 0.5)
    assert (reported.model_extra or {})["imported"]["tokens"] == 5
