"""huggingface_hub's exceptions as sentences for the person who registered a model or dataset, or submitted a run."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from huggingface_hub import errors, get_token

from app.domain.failures import FailureCode, RunFailed

Kind = Literal["model", "dataset"]
_SUCH_AS: dict[Kind, str] = {"model": "google-t5/t5-small", "dataset": "fancyzhx/ag_news"}


class Unreachable(RunFailed):
    """The hub does not answer, or this worker is offline."""


@contextmanager
def said(location: str, revision: str, kind: Kind = "model") -> Iterator[None]:
    """Raise `RunFailed(model_unavailable)` for an error of the hub, `Unreachable` if it did not answer. Other errors,
    such as a full disk, pass through."""
    try:
        yield
    except Exception as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        failed = None if full else _sentence(error, location, revision, kind)
        if failed is None:
            raise
        raise failed from error


def _sentence(error: Exception, name: str, revision: str, kind: Kind) -> RunFailed | None:
    causes = _causes(error)
    for cause in causes:
        match cause:
            case errors.GatedRepoError():
                what = "the workers' token has no access" if get_token() else "the workers have no token"
                return _refused(
                    f"{name} is gated on the hub, and {what}. Accept its conditions "
                    "there, and set HF_TOKEN of the workers to a token of that account."
                )
            case errors.RevisionNotFoundError():
                return _refused(
                    f"{name} has no revision {revision!r} on the hub. Name a branch, a tag or a commit, or leave it "
                    "empty for the newest."
                )
            case errors.RepositoryNotFoundError() | errors.DisabledRepoError():
                also = "" if get_token() else ", or set HF_TOKEN of the workers if it is private"
                return _refused(f"The hub has no {kind} {name}, or hides it. Check the id{also}.")
            case errors.OfflineModeIsEnabled():
                return _away(
                    f"This worker is offline (HF_HUB_OFFLINE), and {name} is not completely in its cache. Download it "
                    "into HF_HOME of the workers from a machine with a network, or register a directory."
                )
            case errors.HfHubHTTPError():
                status = cause.response.status_code
                if status in (401, 403):
                    return _refused(f"The hub refuses the workers' token for {name} (HTTP {status}). Check HF_TOKEN.")
                return _away(f"The hub cannot serve {name} at the moment (HTTP {status}). Try again later.")
            case errors.HFValidationError():
                return _refused(f"{name!r} is not the id of a {kind} on the hub. Write an id such as {_SUCH_AS[kind]}.")
    # huggingface_hub re-exports its HTTP client's error under this name
    if any(isinstance(cause, errors.HTTPError | ConnectionError | TimeoutError) for cause in causes):  # type: ignore[attr-defined]
        return _away(
            f"The hub cannot be reached from this worker ({type(error).__name__}), and {name} is not completely in "
            "its cache. Check the worker's network (HTTPS_PROXY, HF_ENDPOINT), or register a directory."
        )
    return None


def _refused(sentence: str) -> RunFailed:
    return RunFailed(FailureCode.MODEL_UNAVAILABLE, sentence)


def _away(sentence: str) -> Unreachable:
    return Unreachable(FailureCode.MODEL_UNAVAILABLE, sentence)


def _causes(error: BaseException | None) -> list[BaseException]:
    """An exception and its causes."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
