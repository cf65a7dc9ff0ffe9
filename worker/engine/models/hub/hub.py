"""Base models from the Hugging Face Hub, through huggingface_hub's cache on this machine (`HF_HOME`).

A model is resolved once, when it is inspected: its branch or tag becomes a commit, and the files that a run needs are
selected: configuration, tokenizer, safetensors weights. Nothing else is ever downloaded, neither pickles nor Python.
From then on the model is a folder of the cache, and a run with complete files makes no request. A model that the hub
gives only to a user's token is in a cache of that user (`worker.engine.models.hub.access`).
"""

import glob
import re
import shutil
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import HfApi, constants, hf_hub_url, snapshot_download, try_to_load_from_cache
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    get_session,
    hf_raise_for_status,
)

from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import _
from app.domain.models.base_model import ModelFile
from app.domain.resources.devices import size
from app.domain.runs.job import TrainJob
from app.domain.runs.status import Phase
from worker.engine.loop.progress import Instruments
from worker.engine.models.hub.access import Place, first_allowed, places
from worker.engine.models.hub.errors import Unreachable, errors_explained
from worker.engine.models.hub.headers import WeightFile, check_headers, on_disk
from worker.engine.models.weights import chosen_weights, fingerprint, refuse_unusable

COMMIT = re.compile(r"[0-9a-f]{40}")
_SECONDS = 20.0
"""Timeout of a request to the hub."""
_LOOK_SECONDS = 0.5
"""Seconds between two progress reports of a download."""
_TEXTS = {".json", ".txt", ".model", ".jinja", ".vocab", ".codes"}
"""File endings of configurations and tokenizers."""
_TEMPLATES = "additional_chat_templates/"
_LARGEST_TEXT, _MOST_TEXT = 64 << 20, 512 << 20
"""A tokenizer has about 30 MiB at most; larger files are not downloaded."""

ReportDownload = Callable[[int, int], None]
"""Receives the downloaded and the total bytes. May raise, to stop the download."""


class CachedModel(NamedTuple):
    """A model in the cache: configuration and tokenizer, perhaps without its weights."""

    folder: Path
    commit: str
    files: list[ModelFile]
    """The files that a run needs, downloaded or not."""
    restricted: bool = False
    """The hub gave it to the user's token only."""


def resolve(location: str, revision: str) -> CachedModel:
    """Resolve a revision to a commit, download configuration and tokenizer, and list the files that a run needs.

    If the hub is unreachable, the cache is used. Raises `RunFailed(model_unavailable)`, or `Unreachable` where the
    cache does not have the answer.
    """
    return first_allowed(
        lambda place: _resolved(location, revision, place), lambda place: _from_cache(location, revision, place)
    )


def _resolved(location: str, revision: str, place: Place) -> CachedModel:
    try:
        with errors_explained(location, revision, own=place.own):
            api = HfApi(token=place.token)
            info = api.model_info(location, revision=revision or None, files_metadata=True, timeout=_SECONDS)
    except Unreachable as error:
        if (found := _from_cache(location, revision, place)) is None:
            raise error
        return found
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    refuse_unusable(location, sizes)
    texts = _describing(sizes)
    folder = _fetched(location, str(info.sha), texts, place)
    return _listed(folder, texts, chosen_weights(location, folder, sizes), sizes, place)


def _from_cache(location: str, revision: str, place: Place) -> CachedModel | None:
    """The model in the cache, if it is complete. A user's cache has only what the hub refused without the token."""
    folder = _cached(location, revision, place)
    if folder is None:
        return None
    sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    try:
        weights = chosen_weights(location, folder, sizes)
    except RunFailed:
        return None
    return _listed(folder, _describing(sizes), weights, sizes, place)


def _listed(
    folder: Path, texts: Sequence[str], weights: Sequence[str], sizes: Mapping[str, int], place: Place
) -> CachedModel:
    files = [ModelFile(name=name, bytes=sizes[name]) for name in (*texts, *weights)]
    return CachedModel(folder, folder.name, files, place.own)


def description_folder(location: str, revision: str) -> Path:
    """The folder with configuration and tokenizer: the directory itself, or a hub model's folder in the cache. Raises
    as `resolve` does."""
    if Path(location).is_absolute():
        return Path(location)
    for place in places() if COMMIT.fullmatch(revision) else ():
        folder = _cached(location, revision, place)
        if folder and any(name.name.startswith(("tokenizer", "preprocessor_config")) for name in folder.iterdir()):
            return folder
    return resolve(location, revision).folder


def missing(location: str, commit: str, files: Sequence[ModelFile], place: Place | None = None) -> list[ModelFile]:
    """The files that a cache lacks; without a `place` the shared one."""
    look = partial(try_to_load_from_cache, location, cache_dir=place.cache if place else None, revision=commit)
    return [file for file in files if not isinstance(look(filename=file.name), str)]


def check_weights(location: str, commit: str, files: Sequence[ModelFile]) -> None:
    """`check_headers` of a model's weights: of files that a cache has, else of ranges that the hub sends. While the hub
    does not answer, files that no cache has stay unchecked until they are loaded. Raises as `resolve` does."""
    weights = [file for file in files if file.holds_weights]

    def check(place: Place) -> None:
        lacking = missing(location, commit, weights, place)
        folder = _cached(location, commit, place) or Path()
        check_headers(
            WeightFile(file.name, file.bytes, partial(_range, location, commit, file.name, place))
            if file in lacking
            else on_disk(folder / file.name)
            for file in weights
        )

    with suppress(Unreachable):
        first_allowed(check)


def _range(location: str, commit: str, name: str, place: Place, start: int, length: int) -> bytes:
    """A part of a file on the hub. No more is received, also where a server ignores the range."""
    wanted = {"Range": f"bytes={start}-{start + length - 1}", "Accept-Encoding": "identity"}
    with errors_explained(location, commit, own=place.own):
        headers = build_hf_headers(token=place.token) | wanted
        url = hf_hub_url(location, name, revision=commit)
        with get_session().stream("GET", url, headers=headers, timeout=_SECONDS) as answer:
            if answer.is_error:
                answer.read()
            hf_raise_for_status(answer)
            skipped = 0 if answer.status_code == HTTPStatus.PARTIAL_CONTENT else start
            received = bytearray()
            for part in answer.iter_bytes():
                received += part
                if len(received) >= skipped + length:
                    break
    return bytes(received[skipped : skipped + length])


def download(location: str, commit: str, files: Sequence[ModelFile], report: ReportDownload) -> Path:
    """Download files into the cache and return their folder. huggingface_hub locks each file, so concurrent
    downloads of the same model run once, and both report progress.

    Raises `RunFailed` with `disk_full` before the download starts, or `model_unavailable`; and what `report` raises.
    """

    def on_disk(place: Place) -> Path | None:
        return None if missing(location, commit, files, place) else _cached(location, commit, place)

    return first_allowed(lambda place: _downloaded(location, commit, files, report, place), on_disk)


def _downloaded(location: str, commit: str, files: Sequence[ModelFile], report: ReportDownload, place: Place) -> Path:
    lacking, cache = missing(location, commit, files, place), _Cache(location, place.cache)
    total = sum(file.bytes for file in lacking)
    _refuse_full_disk(total - cache.begun_bytes)
    ended: list[Path | Exception] = []

    def fetch() -> None:
        try:
            ended.append(_fetched(location, commit, [file.name for file in files], place))
        except Exception as error:  # raised in the thread that waits for it
            ended.append(error)

    # A daemon: a stopped trainer exits, and partial files stay for the next download to continue.
    thread = threading.Thread(target=fetch, daemon=True, name="download")
    thread.start()
    done_bytes = 0
    while thread.is_alive():
        still = sum(file.bytes for file in missing(location, commit, lacking, place))
        # max: while a file is moved, it is in neither folder
        done_bytes = max(done_bytes, total - still + min(still, cache.begun_bytes))
        report(done_bytes, total)
        thread.join(_LOOK_SECONDS)
    if isinstance(ended[0], Exception):
        raise ended[0]
    report(total, total)
    return ended[0]


class _Cache(NamedTuple):
    """A model's own folder in the cache."""

    location: str
    root: Path

    @property
    def begun_bytes(self) -> int:
        """Bytes of partly downloaded files."""
        blobs = self.root / repo_folder_name(repo_id=self.location, repo_type="model") / "blobs"
        total = 0
        for path in blobs.glob("*.incomplete"):
            try:
                total += path.stat().st_size
            except OSError:
                continue  # it was just completed and renamed
        return total


def _cached(location: str, revision: str, place: Place) -> Path | None:
    """The folder of a revision in a cache, if it holds a configuration."""
    path = try_to_load_from_cache(location, "config.json", cache_dir=place.cache, revision=revision or None)
    return Path(path).parent if isinstance(path, str) else None


def _describing(sizes: Mapping[str, int]) -> list[str]:
    """Configuration and tokenizer files. An adapter's configuration does not belong to the base model."""
    names = [
        name
        for name, bytes_ in sizes.items()
        if bytes_ <= _LARGEST_TEXT
        and Path(name).suffix in _TEXTS
        and ("/" not in name or name.startswith(_TEMPLATES))
        and name != "adapter_config.json"
    ]
    if sum(sizes[name] for name in names) > _MOST_TEXT:
        text = _(
            "The files beside the model's weights take more than %(limit)s. Choose another base model.",
            limit=size(_MOST_TEXT),
        )
        raise RunFailed(FailureCode.MODEL_UNAVAILABLE, text)
    return sorted(names)


def _fetched(location: str, commit: str, names: Collection[str], place: Place) -> Path:
    """The folder of a commit with these files."""
    with errors_explained(location, commit, own=place.own):
        patterns = [glob.escape(name) for name in names]
        fetch = partial(snapshot_download, location, revision=commit, allow_patterns=patterns)
        folder = Path(fetch(cache_dir=place.cache, token=place.token))
    if lacking := [name for name in names if not (folder / name).exists()]:
        raise Unreachable(
            FailureCode.MODEL_UNAVAILABLE,
            _("The base model was not downloaded completely: %(name)s is missing. Try again.", name=lacking[0]),
        )
    return folder


def _refuse_full_disk(needed: int) -> None:
    place = Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(next(p for p in (place, *place.parents) if p.exists())).free
    if needed > free:
        text = _(
            "The base model's download needs %(needed)s, and the worker has %(free)s free for models of the hub "
            "(HF_HOME). Free some space there, then try again.",
            needed=size(needed),
            free=size(free),
        )
        raise RunFailed(FailureCode.DISK_FULL, text)


def fetch_model(job: TrainJob, instruments: Instruments) -> TrainJob:
    """The job with a local directory for its model. Missing files of a hub model are downloaded, in a phase of their
    own.

    Raises `RunFailed` with `model_unavailable`, also for a directory that has changed since it was inspected, because
    its runs would be compared with runs on other weights; with `disk_full` before a download without room; and
    `Stopped`.
    """
    location = job.model_location
    if Path(location).is_absolute():
        _refuse_changed(Path(location), job.model_fingerprint)
        return job
    commit, files = job.model_revision, job.model_files
    if not files:
        found = resolve(location, commit)
        commit, files = found.commit, found.files
    complete = (place for place in places() if not missing(location, commit, files, place))
    folder = next((_cached(location, commit, place) for place in complete), None)
    if folder is None:
        instruments.enter(Phase.DOWNLOAD)

        def report(done_bytes: int, total_bytes: int) -> None:
            instruments.sink.download(done_bytes, total_bytes)
            instruments.sink.raise_if_stopped()

        folder = download(location, commit, files, report)
    return job.model_copy(update={"model_location": str(folder), "model_revision": ""})


def _refuse_changed(directory: Path, inspected: str) -> None:
    if inspected and directory.is_dir() and fingerprint(directory) != inspected:
        text = _(
            "The files in the base model's directory have changed since it was inspected, and runs on other weights "
            "cannot be compared. Restore the former files, or register the directory under another name."
        )
        raise RunFailed(FailureCode.MODEL_UNAVAILABLE, text)
