"""Upload files to a repository of the Hugging Face hub, through huggingface_hub.

Each large file is uploaded by itself, and the hub skips one that it has already, so a push that was interrupted goes on
with the files that are missing. The repository changes only in the last step, a single commit.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import huggingface_hub.errors as errors
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants

from app.domain.errors import VeznaError
from app.domain.messages import Message, _

HTTPError: Any = errors.HTTPError  # type: ignore[attr-defined]
"""Errors of its HTTP client: whatever goes wrong on the way."""
COMMITTED = 0.95
"""Share of the work that is done when all files are uploaded."""
OF_THE_HUB = ".gitattributes"
"""The file with which the hub begins a repository."""


class PushFailed(VeznaError):
    """The hub does not take the files; the message says why, and what to do."""


class Pushed(NamedTuple):
    """Where the files are."""

    commit: str
    url: str


def upload(
    folder: Path,
    repository: str,
    token: str,
    title: str,
    report: Callable[[float], None],
    *,
    private: bool,
    replaced: frozenset[str] | None,
    own: bool = False,
) -> Pushed:
    """Create the repository if it is missing, and add all files of a folder in one commit, which deletes those of
    `replaced` that the folder lacks: a library would load an earlier export's weights. `replaced` is None for a
    repository that no earlier push made, which must be empty. `own`: the token is the user's. Raises `PushFailed`, and
    what `report` raises, before the commit."""
    # the protocol that is tested here; hf_xet would start threads of its own, which a forked process must not have
    constants.HF_HUB_DISABLE_XET = True
    if not token:
        text = _(
            "There is no token for the hub. Store yours on the page Account, or set VEZNA_HUB_TOKEN of the worker "
            "to one that may write."
        )
        raise PushFailed(text)
    api = HfApi(endpoint=constants.ENDPOINT, token=token)
    try:
        url = api.create_repo(repository, private=private, exist_ok=True)
        found = api.model_info(repository)
        if private and not found.private:
            text = _("%(name)s is public on the hub. Choose another name, or push it as public.", name=repository)
            raise PushFailed(text)
        present = {file.rfilename for file in found.siblings or []} - {OF_THE_HUB}
        if present and replaced is None:
            text = _(
                "%(name)s has files that Vezna did not push. Choose another name, or empty it on the hub.",
                name=repository,
            )
            raise PushFailed(text)
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        total, done = sum(path.stat().st_size for path in paths) or 1, 0
        additions = [CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in paths]
        old = sorted((present & (replaced or frozenset())) - {addition.path_in_repo for addition in additions})
        for path, addition in zip(paths, additions, strict=True):
            api.preupload_lfs_files(repository, [addition])
            done += path.stat().st_size
            report(COMMITTED * done / total)
        deletions = [CommitOperationDelete(name) for name in old]
        commit = api.create_commit(repository, [*additions, *deletions], commit_message=title)
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        raise PushFailed(_explained(error, repository, own=own)) from error
    return Pushed(str(commit.oid), str(url))


def _explained(error: Exception, repository: str, *, own: bool) -> Message:
    chain = _chain(error)
    if any(isinstance(cause, errors.OfflineModeIsEnabled) for cause in chain):
        return _("This worker is offline (HF_HUB_OFFLINE), so it pushes nothing.")
    statuses = [cause.response.status_code for cause in chain if isinstance(cause, errors.HfHubHTTPError)]
    if not statuses and any(isinstance(cause, ValueError) for cause in chain):
        return _("The hub's answer cannot be read. Check HF_ENDPOINT of the worker, or push again later.")
    if not statuses:
        return _(
            "The hub cannot be reached from this worker (%(error)s). Check its network, and push again: files that "
            "have arrived are not sent again.",
            error=type(error).__name__,
        )
    values = {"name": repository, "status": statuses[0]}
    if statuses[0] == 401 and own:
        return _("The hub does not accept your hub token (HTTP 401). Store a valid one on the page Account.")
    if statuses[0] == 401:
        return _("The hub does not accept the worker's token (HTTP 401). Set VEZNA_HUB_TOKEN to a valid one.")
    if statuses[0] in (403, 404):
        return _(
            "The hub's token may not write to %(name)s (HTTP %(status)s). Use a token with write access to it, or "
            "another name.",
            **values,
        )
    if statuses[0] in (400, 409, 413, 422):
        why = str(chain[-1]).strip().split("\n")[-1][:300].rstrip(".")
        return _("The hub refuses these files for %(name)s (HTTP %(status)s): %(why)s.", **values, why=why)
    return _(
        "The hub cannot take %(name)s at the moment (HTTP %(status)s). Push again later: files that have arrived are "
        "not sent again.",
        **values,
    )


def _chain(error: BaseException) -> list[BaseException]:
    found = [error]
    while (cause := found[-1].__cause__ or found[-1].__context__) is not None and cause not in found:
        found.append(cause)
    return found
