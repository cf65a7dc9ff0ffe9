"""What a client raises. Each message says what is wrong, why, and what to do.

ClientError
├── WrongAddress   the address of the server cannot be read
├── Unreachable    no answer: the server is away, or the connection broke
├── NotVezna       something else answers at the address
    ├── UnknownAnswer  the answer is of another version of Vezna
├── Refused        the server answered with a problem (RFC 9457), which names fields and remedies
└── TrackerError   an experiment tracker to which a study is exported
    ├── WrongTracker         its address names no tracker
    ├── TrackerMissing       its client is not installed
    ├── TrackerUnreachable   it gives no answer
    ├── NotImported          a run in it cannot be imported
    ├── TrackioElsewhere     a variable makes Trackio write to another machine
    └── TrackerRefused       it refused a request
"""

from dataclasses import dataclass

BROKE_OFF = "the stream broke off"
TRACKERS = "Write http://host:5000 for an MLflow server, or tensorboard:DIR, trackio:PROJECT or wandb:PROJECT."


class ClientError(Exception):
    """Base of the tree."""


class WrongAddress(ClientError):
    """The address of the server cannot be read."""

    def __init__(self, address: str) -> None:
        super().__init__(f"{address} is not an address. Write it as http://host:8000, with url=… or VEZNA_URL.")
        self.address = address


class Unreachable(ClientError):
    """The server gave no answer."""

    def __init__(
        self, address: str, why: str, *, connected: bool = False, stream: bool = False, status: int | None = None
    ) -> None:
        says = "no longer answers" if stream or status else "does not answer"
        super().__init__(f"The server at {address} {says} ({why}). Check that it runs, or name another with VEZNA_URL.")
        self.address = address
        self.why = why
        self.connected = connected
        """The request may have arrived: the connection broke before its answer."""
        self.stream = stream
        """A stream of events broke, and the server stayed away."""
        self.status = status
        """What a server answered that has the stream no longer, or a proxy in its place."""


class NotVezna(ClientError):
    """Something answers that is not Vezna."""

    def __init__(self, address: str, status: int | None = None) -> None:
        what = f"answered {status}, but not as Vezna does" if status else "is not Vezna"
        super().__init__(f"The server at {address} {what}. Check the address.")
        self.address = address
        self.status = status


class UnknownAnswer(ClientError):
    """The server's answer is not what this client reads."""

    def __init__(self, template: str, what: str) -> None:
        super().__init__(f"The answer to {template} is of another version ({what}). Use the client of that version.")


@dataclass(frozen=True)
class WrongField:
    """A field of a request that the server refused."""

    path: str
    """As in the request body: `arms.1.method.r`."""
    message: str
    remedy: str


class Refused(ClientError):
    """The server refused a request."""

    def __init__(
        self, status: int, detail: str, fields: tuple[WrongField, ...] = (), *, retry_seconds: float | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        """Of HTTP: 401, 403, 404, 409, 422, 429, 503, …"""
        self.detail = detail
        self.fields = fields
        self.retry_seconds = retry_seconds
        """After which the server would answer otherwise, if it says so."""

    @property
    def in_progress(self) -> bool:
        """The same request is being answered; sent again later, it gets that answer."""
        return self.status == 409 and self.retry_seconds is not None


class TrackerError(ClientError):
    """A study could not be exported to an experiment tracker. The study is unchanged, and may be exported again."""


class WrongTracker(TrackerError):
    """The address names no tracker."""

    def __init__(self, address: str, *, credentials: bool = False) -> None:
        what = "contains a password or user name" if credentials else "is not the address of a tracker"
        do = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead." if credentials else TRACKERS
        super().__init__(f"{address} {what}. {do}")
        self.address = address
        self.credentials = credentials
        """It contains a user name or a password, which would be shown."""


class StudyIsPrivate(TrackerError):
    """The study was made private while the installation exported it."""

    def __init__(self) -> None:
        super().__init__("The study is private now. It is exported again once the team sees it.")


class NotImported(TrackerError):
    """A run cannot be imported from a tracker. Nothing of the import was written."""

    def __init__(self, source: str, what: str, remedy: str, **values: object) -> None:
        """`what` and `remedy` are templates, which the command line translates: `it has no metric %(metric)s`."""
        super().__init__(f"{source} cannot be imported: {what % values}. {remedy % values}.")
        self.source = source
        self.what = what
        self.remedy = remedy
        self.values = values


class TrackerMissing(TrackerError):
    """The tracker's client is not installed."""

    def __init__(self, package: str) -> None:
        super().__init__(f"The package {package} is not installed here. Run: pip install {package}")
        self.package = package


class TrackerUnreachable(TrackerError):
    """The tracker gives no answer."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(f"The tracker at {address} does not answer ({why}). Check that it runs, then try again.")
        self.address = address
        self.why = why


class TrackerRefused(TrackerError):
    """The tracker refused a request."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(
            f"The tracker at {address} refused ({why}). Check its address and your permissions there, then try again."
        )
        self.address = address
        self.why = why


class TrackioElsewhere(TrackerError):
    """A variable makes Trackio write to another machine, where an earlier export could not be found."""

    def __init__(self, variable: str, project: str) -> None:
        super().__init__(
            f"{variable} is set, so Trackio would write to another machine, where an export cannot find what an "
            "earlier one wrote and would write it twice, perhaps in public. Unset it, export, and publish the project "
            f"with: trackio sync --project {project}"
        )
        self.variable = variable
        self.project = project
