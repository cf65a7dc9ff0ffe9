"""A study whose answers a judge on this machine scores, for tests of judgements."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from app.domain.comparison.statistics.judged import JudgedArm
from app.domain.comparison.statistics.preference import Preferred
from app.features.judging.rules import NewJudgement
from app.features.judging.services import judgements
from app.features.judging.services.judgements import JUDGEMENTS
from app.features.judging.tables import BlindRatingRow, JudgementRow
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.tables import ArtifactRow, RunRow
from tests.support.fakes.fakes import SilentBell
from tests.support.fakes.openai_stub import Stub, stubbed
from tests.support.filled.filled import add_study
from tests.support.filled.language import register_language, studies, succeed
from worker.features.judging import node
from worker.nodes.context import Context

KEY = "sk-never-to-be-shown"
NO_PAUSE = (0.0, 0.0)
N = 60
ARMS = ("full", "LoRA r=16")


def quality(arm: int, seed: int, item: int) -> int:
    """The score from 1 to 5 that an answer deserves: LoRA's are worse by about one on two items of five."""
    return max(1, 4 + (item + seed) % 2 - (item % 5 < 2) * arm)


def answer_of(arm: int, seed: int, item: int) -> str:
    return f"headline {item} of quality {quality(arm, seed, item)}"


class Judge:
    """What a judge replies to an answer of a quality."""

    def __init__(self) -> None:
        self.of: Callable[[int, int], str] = lambda quality, _item: str(quality)

    def __getitem__(self, asked: str) -> str:
        given = json.loads(asked[asked.rindex("\n{") :])
        found = re.fullmatch(r"headline (\d+) of quality (\d)", given["answer"])
        assert found and given["reference"] == f"headline {found[1]}" and given["prompt"] == f"text {found[1]}"
        return self.of(int(found[2]), int(found[1]))


@dataclass
class Site:
    """A study whose first two arms have answered with two seeds each, and a worker that may reach the judge."""

    worker: Context
    stub: Stub
    judge: Judge
    study: int
    runs: list[list[int]]
    """By arm, those of its seeds."""

    def submit(self, **changes: Any) -> int:
        new = NewJudgement.model_validate({"url": self.stub.url, "model": "judge", **changes})
        with self.worker.database.transaction() as session:
            return judgements.submit(session, self.worker.bell, self.worker.settings, self.study, new).id

    def row(self, judgement_id: int) -> JudgementRow:
        with self.worker.database.reading() as session:
            return JUDGEMENTS.get(session, judgement_id)

    def run(self, **changes: Any) -> JudgementRow:
        """A judgement that has ended."""
        judgement_id = self.submit(**changes)
        node.judge(self.worker, judgement_id, NO_PAUSE)
        return self.row(judgement_id)

    def failure(self, **changes: Any) -> str:
        done = self.run(**changes)
        assert (done.status, done.result, done.api_key) == ("failed", None, "")
        return done.message

    def arms(self, row: JudgementRow) -> dict[str, JudgedArm]:
        with self.worker.database.reading() as session:
            return {arm.title: arm for arm in judgements.arms_of(session, row)}

    def lora(self, row: JudgementRow) -> JudgedArm:
        return self.arms(row)[ARMS[1]]

    def after(self, requests: int, act: Callable[[], object]) -> None:
        """Do something once, when the judge has got so many requests."""
        lock = Lock()

        def count(_request: dict[str, Any]) -> None:
            if len(self.stub.seen) >= requests and lock.acquire(blocking=False):
                act()

        self.stub.raw = count

    def rate(self, preferred: Callable[[int], Preferred], seed: int = 0) -> None:
        """A person's ratings of every item of two runs; the full run is the first."""
        first, second = (of_arm[seed] for of_arm in self.runs)
        assert first < second
        with self.worker.database.transaction() as session:
            session.add_all(
                BlindRatingRow(first_id=first, second_id=second, item=f"item-{n}", preferred=preferred(n).value)
                for n in range(N)
                if answer_of(0, seed, n) != answer_of(1, seed, n)
            )


@contextmanager
def judged_site(database: Database, settings: Settings, files: Files, bell: SilentBell, folder: Path) -> Iterator[Site]:
    """Such a study in a database, and a judge that runs."""
    settings.home.mkdir(parents=True, exist_ok=True)
    judge = Judge()
    with stubbed({"judge": judge}) as stub:  # type: ignore[dict-item]
        hosts = [stub.place, "127.0.0.1"]
        worker = Context(
            settings.model_copy(update={"worker_name": "w1", "outbound_hosts": hosts}), database, files, bell
        )
        with database.transaction() as session:
            register_language(session)
            rows = add_study(session, studies()[0], hours_ago=1.0)
            chosen = [[run for run in rows if run.arm == arm][:2] for arm in ARMS]
            assert [len(of_arm) for of_arm in chosen] == [2, 2]
            for arm, of_arm in enumerate(chosen):
                for seed, run in enumerate(of_arm):
                    succeed(session, run)
                    session.flush()
                    _store(worker, folder, session.query(ArtifactRow), run, arm, seed)
            assert rows[0].study_id is not None
            found = [[run.id for run in of_arm] for of_arm in chosen]
            study = rows[0].study_id
        yield Site(worker, stub, judge, study, found)


def _store(worker: Context, folder: Path, artifacts: Any, run: RunRow, arm: int, seed: int) -> None:
    path = folder / f"{run.id}.parquet"
    columns = {
        "item": [f"item-{n}" for n in range(N)],
        "prompt": [f"text {n}" for n in range(N)],
        "completion": [f" headline {n}" for n in range(N)],
        "prediction": [f" {answer_of(arm, seed, n)}\n" for n in range(N)],
        "base_prediction": [""] * N,
        "rouge_l": [0.5] * N,
    }
    pq.write_table(pa.table(columns), path)
    row = artifacts.filter(ArtifactRow.run_id == run.id, ArtifactRow.kind == "predictions").one()
    worker.files.put(path, row.file)
    row.sha256 = f"{run.id:064d}"
