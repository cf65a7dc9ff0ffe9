"""huggingface_hub's exceptions as sentences for the person who registered a model or dataset, or submitted a run."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from huggingface_hub import errors, get_token

from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import NOTHING, Message, _

Kind = Literal["model", "dataset"]
_KINDS: dict[Kind, Message] = {"model": _("model"), "dataset": _("dataset")}
_EXAMPLES: dict[Kind, str] = {"model": "google-t5/t5-small", "dataset": "fancyzhx/ag_news"}


class Unreachable(RunFailed):
    """The hub does not answer, or this worker is offline."""


class Refused(RunFailed):
    """The hub does not show it to the token, or has it not."""


@contextmanager
def errors_explained(location: str, revision: str, kind: Kind = "model", *, own: bool = False) -> Iterator[None]:
    """Raise `RunFailed(model_unavailable)` for an error of the hub: `Refused`, `Unreachable` if it did not answer.
    Other errors, such as a full disk, pass through. `own`: the token is a user's, not the workers'."""
    try:
        yield
    except Exception as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        failed = None if full else _sentence(error, location, revision, kind, own=own)
        if failed is None:
            raise
        raise failed from error


def _sentence(error: Exception, name: str, revision: str, kind: Kind, *, own: bool) -> RunFailed | None:
    causes = _causes(error)
    for cause in causes:
        match cause:
            case errors.GatedRepoError() if own:
                text = _(
                    "%(name)s is gated on the hub, and the hub token of the owner has no access. Accept its "
                    "conditions there with the account of the token.",
                    name=name,
                )
                return _refused(text)
            case errors.GatedRepoError():
                why = _("the workers' token has no access") if get_token() else _("the workers have no token")
                text = _(
                    "%(name)s is gated on the hub, and %(why)s. Accept its conditions there, then store a token of "
                    "that account on the page Account, or set HF_TOKEN of the workers to it.",
                    name=name,
                    why=why,
                )
                return _refused(text)
            case errors.RevisionNotFoundError():
                text = _(
                    "%(name)s has no revision %(revision)r on the hub. Name a branch, a tag or a commit, or leave it "
                    "empty for the newest.",
                    name=name,
                    revision=revision,
                )
                return _refused(text)
            case errors.RepositoryNotFoundError() | errors.DisabledRepoError():
                also = NOTHING if own else _(", or store your hub token on the page Account if it is private")
                text = _(
                    "The hub has no %(kind)s %(name)s, or hides it. Check the id%(also)s.",
                    kind=_KINDS[kind],
                    name=name,
                    also=also,
                )
                return _refused(text)
            case errors.OfflineModeIsEnabled():
                text = _(
                    "This worker is offline (HF_HUB_OFFLINE), and %(name)s is not completely in its cache. Download it "
                    "into HF_HOME of the workers from a machine with a network, or register a directory.",
                    name=name,
                )
                return _unreachable(text)
            case errors.HfHubHTTPError():
                status = cause.response.status_code
                if status in (401, 403) and own:
                    text = _(
                        "The hub refuses the hub token of the owner for %(name)s (HTTP %(status)s). Store a valid "
                        "one on the page Account.",
                        name=name,
                        status=status,
                    )
                    return _refused(text)
                if status in (401, 403):
                    text = _(
                        "The hub refuses the workers' token for %(name)s (HTTP %(status)s). Check HF_TOKEN.",
                        name=name,
                        status=status,
                    )
                    return _refused(text)
                text = _(
                    "The hub cannot serve %(name)s at the moment (HTTP %(status)s). Try again later.",
                    name=name,
                    status=status,
                )
                return _unreachable(text)
            case errors.HFValidationError():
                text = _(
                    "%(name)r is not the id of a %(kind)s on the hub. Write an id such as %(example)s.",
                    name=name,
                    kind=_KINDS[kind],
                    example=_EXAMPLES[kind],
                )
                return _refused(text)
    # huggingface_hub re-exports its HTTP client's error under this name
    if any(isinstance(cause, errors.HTTPError | ConnectionError | TimeoutError) for cause in causes):  # type: ignore[attr-defined]
        text = _(
            "The hub cannot be reached from this worker (%(error)s), and %(name)s is not completely in its cache. "
            "Check the worker's network (HTTPS_PROXY, HF_ENDPOINT), or register a directory.",
            error=type(error).__name__,
            name=name,
        )
        return _unreachable(text)
    return None


def _refused(text: Message) -> Refused:
    return Refused(FailureCode.MODEL_UNAVAILABLE, text)


def _unreachable(text: Message) -> Unreachable:
    return Unreachable(FailureCode.MODEL_UNAVAILABLE, text)


def _causes(error: BaseException | None) -> list[BaseException]:
    causes: list[BaseException] = []
    while error is not None and error not in causes:
        causes.append(error)
        error = error.__cause__ or error.__context__
    return causes
