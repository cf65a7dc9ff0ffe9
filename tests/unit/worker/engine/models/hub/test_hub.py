"""Models of the hub, against a small hub on this machine that speaks huggingface_hub's endpoints."""

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants

from app.domain.failures import FailureCode, RunFailed
from app.domain.models.base_model import ModelFacts, ModelFile
from app.domain.models.hub_access import HubAccess
from app.domain.runs.job import TrainJob
from app.domain.runs.status import Phase
from app.settings import ROOT
from tests.support.fakes import hub as small_hub
from tests.support.tiny import texts as tiny
from tests.unit.worker.engine.models.test_inspect import CONTRADICTIONS
from worker.engine.loop.attempt import Attempt
from worker.engine.loop.progress import Stopped
from worker.engine.models.hub import hub
from worker.engine.models.hub.access import acting_for, user_cache
from worker.engine.models.hub.hub import fetch_model
from worker.engine.models.inspect import inspect

BERT = "someone/bert"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A base model as a repository has it: with much that no run needs, and a program."""
    folder = tiny.save_model(tmp_path / "model")
    (folder / "pytorch_model.bin").write_bytes(b"pickled")
    (folder / "evil.py").write_text("raise SystemExit('executed')")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "config.json").write_text("{}")
    return folder


@pytest.fixture
def served(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[small_hub.Hub]:
    """The hub that has it, and an empty cache on this machine."""
    with small_hub.serving(bert=model) as found:
        monkeypatch.setattr(constants, "ENDPOINT", found.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", found.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield found


@pytest.mark.parametrize("revision", ["", "main", "v1", small_hub.COMMIT])
def test_an_inspection_resolves_a_commit_and_fetches_no_weights(served: small_hub.Hub, revision: str) -> None:
    facts = inspect(BERT, revision)
    assert facts.revision == small_hub.COMMIT
    assert [file.name for file in facts.files if file.holds_weights] == ["model.safetensors"]
    assert facts.weights_bytes == served.models[BERT].joinpath("model.safetensors").stat().st_size
    assert facts.tokenizer and facts.tokenizer.special["pad_token"] == "[PAD]"
    sent = {path.rpartition("/")[2] for method, path in served.asked if method == "GET" and "/resolve/" in path}
    assert sent == {"config.json", "tokenizer.json", "tokenizer_config.json"}


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("why", ["of tensor 'e' does not fit", "its header has", "overlap others"])
def test_weights_that_contradict_are_refused(served: small_hub.Hub, model: Path, why: str, cached: bool) -> None:
    (model / "model.safetensors").write_bytes(CONTRADICTIONS[why])
    if cached:
        found = hub.resolve(BERT, "")
        hub.download(BERT, found.commit, found.files, lambda _done, _total: None)
    with pytest.raises(RunFailed, match="no valid safetensors file") as caught:
        inspect(BERT)
    assert why in caught.value.message
    assert served.sent("model.safetensors") == int(cached)


def test_what_was_inspected_is_described_without_asking_anybody(served: small_hub.Hub) -> None:
    inspect(BERT)
    served.asked.clear()
    folder = hub.description_folder(BERT, small_hub.COMMIT)
    assert (folder / "config.json").exists()
    assert served.asked == []


@pytest.mark.nightly
def test_a_download_fetches_what_is_missing_once_and_says_how_far_it_is(served: small_hub.Hub, model: Path) -> None:
    (model / "more.safetensors").write_bytes(bytes(24 << 20))  # huggingface_hub writes 10 MiB at a time
    facts = inspect(BERT)
    files = [*facts.files, ModelFile(name="more.safetensors", bytes=24 << 20)]
    total = facts.weights_bytes + (24 << 20)
    served.seconds_a_chunk = 0.002
    told: list[tuple[int, int]] = []
    folder = hub.download(BERT, facts.revision, files, lambda done, of: told.append((done, of)))
    assert told[0] == (0, total) and told[-1] == (total, total)
    assert len({done for done, _of in told}) > 2, "it came in parts"
    assert sorted(told) == told
    assert hub.missing(BERT, facts.revision, files) == []
    assert not list(folder.glob("*.bin")) and not list(folder.glob("*.py"))
    served.asked.clear()
    assert hub.download(BERT, facts.revision, files, lambda *_: None) == folder
    assert served.sent("model.safetensors") == served.sent("more.safetensors") == 0


FETCH = """
import sys
from worker.engine.models import hub
model = hub.resolve("someone/bert", "main")
hub.download("someone/bert", model.commit, model.files, lambda *_: None)
print(hub.missing("someone/bert", model.commit, model.files))
"""


@pytest.mark.nightly
def test_two_processes_that_need_a_model_at_once_fetch_it_once(served: small_hub.Hub, tmp_path: Path) -> None:
    served.seconds_a_chunk = 0.2
    environment = {
        "HF_ENDPOINT": served.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0", "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_XET": "1",
    }  # fmt: skip
    children = [
        subprocess.Popen([sys.executable, "-c", FETCH], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [child.communicate()[0].strip() for child in children] == ["[]", "[]"]
    assert served.sent("model.safetensors") == 1


@pytest.mark.slow
def test_a_download_that_is_told_to_stop_stops_at_once(served: small_hub.Hub) -> None:
    facts = inspect(BERT)
    served.seconds_a_chunk = 0.5

    class Stopped(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        hub.download(BERT, facts.revision, facts.files, stop)
    for thread in threading.enumerate():
        if thread.name == "download":
            thread.join()


@pytest.mark.slow
def test_a_disk_without_room_is_said_before_fetching(served: small_hub.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = inspect(BERT)
    files = [ModelFile(name=file.name, bytes=file.bytes + (5 << 30) * file.holds_weights) for file in facts.files]
    served.asked.clear()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3 << 29))
    with pytest.raises(RunFailed, match=r"needs 5\.0 GiB, and the worker has 1\.5 GiB free.*HF_HOME") as failed:
        hub.download(BERT, facts.revision, files, lambda *_: None)
    assert failed.value.code is FailureCode.DISK_FULL
    assert served.asked == []


def _only(*names: str) -> object:
    def change(folder: Path) -> None:
        for path in list(folder.iterdir()):
            if path.is_file() and path.name not in names:
                path.unlink()

    return change


def _adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/etc"}))


def _gguf(folder: Path) -> None:
    _only()(folder)  # type: ignore[operator]
    (folder / "model.gguf").write_bytes(b"GGUF")


def _index(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../../other.safetensors"}}))


def _remote(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    changed = config | {"model_type": "mystery", "auto_map": {"AutoConfig": "evil.Config"}}
    (folder / "config.json").write_text(json.dumps(changed))


BAD = {
    "pickled": (
        _only("config.json", "tokenizer.json", "pytorch_model.bin"),
        r"only pickled weights \(pytorch_model\.bin\), which can run code",
    ),
    "no weights": (_only("config.json"), "contains no weights"),
    "empty": (_only(), r"has no config\.json"),
    "adapter": (_adapter, "contains an adapter. Register its base model instead"),
    "gguf": (_gguf, "GGUF files, which cannot be trained"),
    "index that leads out": (_index, r"names '\.\./\.\./other\.safetensors', which does not exist"),
    "remote code": (_remote, "Python code from its repository, which Vezna never runs"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("source", ["hub", "directory"])
def test_what_is_no_base_model_is_refused(served: small_hub.Hub, model: Path, name: str, source: str) -> None:
    change, words = BAD[name]
    change(model)  # type: ignore[operator]
    if name == "empty" and source == "directory":
        words = "could not be read|has no config"
    with pytest.raises(RunFailed, match=words) as failed:
        inspect(BERT if source == "hub" else str(model))
    assert failed.value.code is FailureCode.MODEL_UNAVAILABLE
    assert str(model.parent) not in failed.value.message


@pytest.mark.slow
def test_shards_are_those_of_the_index(served: small_hub.Hub, model: Path) -> None:
    (model / "model.safetensors").rename(model / "model-00001-of-00001.safetensors")
    (model / "consolidated.safetensors").write_bytes(b"the same again")
    (model / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model-00001-of-00001.safetensors"}})
    )
    for found in (inspect(BERT), inspect(str(model))):
        assert [f.name for f in found.files if f.holds_weights] == ["model-00001-of-00001.safetensors"]


@pytest.mark.parametrize(
    ("location", "revision", "words"),
    [
        ("someone/none", "", "The hub has no model someone/none.*Check the id, or store your hub token"),
        (BERT, "v9", r"has no revision 'v9' on the hub\. Name a branch, a tag or a commit"),
        ("a--b", "", "is not the id of a model on the hub"),
    ],
)
def test_what_the_hub_does_not_have_is_said(served: small_hub.Hub, location: str, revision: str, words: str) -> None:
    with pytest.raises(RunFailed, match=words):
        hub.resolve(location, revision)


def test_a_gated_model_wants_a_token_never_said(served: small_hub.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    served.gated[BERT] = "hf_opens"
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(RunFailed, match=r"is gated on the hub, and the workers have no token\. .* set HF_TOKEN"):
        hub.resolve(BERT, "")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(RunFailed, match="the workers' token has no access") as failed:
        hub.resolve(BERT, "")
    assert "hf_wrong" not in failed.value.message
    monkeypatch.setenv("HF_TOKEN", "hf_opens")
    assert hub.resolve(BERT, "").commit == small_hub.COMMIT
    assert "hf_opens" in served.tokens


@pytest.mark.slow
def test_a_token_serves_its_user_alone(served: small_hub.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cache too: what Ada has downloaded is neither Bob's nor anyone's."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    served.gated[BERT] = "hf_ada"
    ada, bob = HubAccess(user_id=1, token="hf_ada"), HubAccess(user_id=2, token="hf_bob")
    with acting_for(ada):
        facts = inspect(BERT)
        job = Attempt(_job(tmp_path / "run", facts), tiny.Recorder())
        folder = Path(fetch_model(job.job, job.instruments).model_location)
        served.asked.clear()
        assert fetch_model(job.job, job.instruments).model_location == str(folder) and served.asked == []
    assert facts.restricted and folder.is_relative_to(user_cache(ada)) and (folder / "model.safetensors").exists()
    assert served.tokens == {"", "hf_ada"}
    served.tokens.clear()
    for access, words in ((bob, "hub token of the owner has no access"), (None, "the workers have no token")):
        with acting_for(access):
            for attempt in (
                lambda: hub.description_folder(BERT, small_hub.COMMIT),
                lambda: fetch_model(job.job, job.instruments),
                lambda: inspect(BERT),
            ):
                with pytest.raises(RunFailed, match=words) as failed:
                    attempt()
                assert "hf_" not in failed.value.message
    assert served.tokens == {"", "hf_bob"}
    assert not list(user_cache(bob).rglob("*.safetensors"))


def test_an_open_model_is_fetched_without_a_users_token(served: small_hub.Hub) -> None:
    ada = HubAccess(user_id=1, token="hf_ada")
    with acting_for(ada):
        facts = inspect(BERT)
        folder = hub.download(BERT, facts.revision, facts.files, lambda *_: None)
    assert not facts.restricted and not folder.is_relative_to(user_cache(ada))
    assert "hf_ada" not in served.tokens


@pytest.mark.parametrize("status", [429, 503])
def test_a_hub_in_trouble_gets_no_users_token_and_restricts_no_model(served: small_hub.Hub, status: int) -> None:
    """Its silence says nothing about access."""
    with acting_for(HubAccess(user_id=1, token="hf_ada")):
        served.broken = status
        with pytest.raises(hub.Unreachable):
            inspect(BERT)
        assert served.tokens and "hf_ada" not in served.tokens
        served.broken = 0
        assert not inspect(BERT).restricted
        assert "hf_ada" not in served.tokens


def test_downloads_serve_their_token_offline(served: small_hub.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    served.gated[BERT] = "hf_ada"
    with acting_for(HubAccess(user_id=1, token="hf_ada")):
        facts = inspect(BERT)
        folder = hub.download(BERT, facts.revision, facts.files, lambda *_: None)
        served.broken = 503
        monkeypatch.setattr(time, "sleep", lambda _seconds: None)  # between the library's repetitions
        served.tokens.clear()
        assert inspect(BERT, facts.revision).restricted
        assert hub.download(BERT, facts.revision, facts.files, lambda *_: None) == folder
        assert "hf_ada" not in served.tokens
    with acting_for(HubAccess(user_id=1, token="x" * 20)), pytest.raises(hub.Unreachable):
        hub.description_folder(BERT, facts.revision)


@pytest.mark.parametrize(("status", "words"), [(503, "cannot serve .* Try again later"), (401, "Check HF_TOKEN")])
def test_a_hub_in_trouble_is_said(served: small_hub.Hub, status: int, words: str) -> None:
    served.broken = status
    with pytest.raises(RunFailed, match=words):
        hub.resolve(BERT, "")


def test_offline_the_cache_serves_or_says_no(served: small_hub.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = inspect(BERT)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        hub.Unreachable, match=r"offline \(HF_HUB_OFFLINE\), and someone/bert is not completely in its cache"
    ):
        inspect(BERT, facts.revision)
    with pytest.raises(hub.Unreachable, match="offline"):
        hub.download(BERT, facts.revision, facts.files, lambda *_: None)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.download(BERT, facts.revision, facts.files, lambda *_: None)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert inspect(BERT, facts.revision).weights_bytes == facts.weights_bytes


def test_a_network_that_leads_nowhere_is_said(served: small_hub.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(hub.Unreachable, match=r"cannot be reached from this worker .* Check the worker's network"):
        hub.resolve(BERT, "")


def _job(directory: Path, facts: ModelFacts, **changes: object) -> TrainJob:
    job = tiny.job(directory, Path("/nowhere"), tiny.METHODS[1])
    of_hub = {"model_location": BERT, "model_revision": facts.revision, "model_files": facts.files}
    return job.model_copy(update=of_hub | {"model_fingerprint": facts.revision} | changes)


@pytest.mark.slow
def test_a_run_downloads_its_model_once_in_a_phase_of_its_own(served: small_hub.Hub, tmp_path: Path) -> None:
    facts, first, second = inspect(BERT), tiny.Recorder(), tiny.Recorder()
    result = Attempt(_job(tmp_path / "first", facts), first).run()
    assert first.phases[:2] == [Phase.DOWNLOAD, Phase.LOAD]
    assert first.downloads[-1] == (facts.weights_bytes, facts.weights_bytes)
    assert result.clocks.download > 0
    assert result.clocks.wall == pytest.approx(result.clocks.accounted, rel=0.01), "the download is in neither"
    kept = json.loads((tmp_path / "first" / "output" / "adapter" / "adapter_config.json").read_text())
    assert kept["base_model_name_or_path"] == "tiny"
    served.asked.clear()
    again = Attempt(_job(tmp_path / "second", facts), second).run()
    assert second.phases[0] is Phase.LOAD and second.downloads == []
    assert again.clocks.download == 0
    assert served.asked == [], "whose files are there asks nobody"


def test_a_run_of_an_older_inspection_looks_for_files_itself(served: small_hub.Hub, tmp_path: Path) -> None:
    facts, recorder = inspect(BERT), tiny.Recorder()
    attempt = Attempt(_job(tmp_path / "run", facts, model_files=[]), recorder)
    assert Path(fetch_model(attempt.job, attempt.instruments).model_location, "model.safetensors").exists()
    assert recorder.phases == [Phase.DOWNLOAD]


def test_a_run_that_is_cancelled_while_it_downloads_stops(served: small_hub.Hub, tmp_path: Path) -> None:
    class Cancelled(tiny.Recorder):
        def raise_if_stopped(self) -> None:
            raise Stopped

    attempt = Attempt(_job(tmp_path / "run", inspect(BERT)), Cancelled())
    with pytest.raises(Stopped):
        attempt.run()


def test_a_directory_that_has_changed_since_it_was_inspected_is_refused(model: Path, tmp_path: Path) -> None:
    facts = inspect(str(model))
    same = {"model_location": str(model), "model_revision": ""}
    attempt = Attempt(_job(tmp_path / "run", facts, **same), tiny.Recorder())
    assert fetch_model(attempt.job, attempt.instruments).model_location == str(model)
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    with pytest.raises(RunFailed, match=r"have changed since it was inspected.*under another name"):
        attempt.run()
