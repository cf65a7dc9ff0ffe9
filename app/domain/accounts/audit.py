"""What the audit log records: acts, with their users and origins."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

LEAST_DAYS = 30
"""Days for which the database itself refuses to delete an entry (`app.store.users.tables`)."""

Via = Literal["session", "token", "visitor", "single user", "command line", "server"]
"""How an act came: by a browser's session, an API token, without login, on a server without login, by a command of the
server's machine, by the server itself."""


class Action(StrEnum):
    """An act, as `noun.verb`. The noun is what its subject is."""

    LOG_IN = "session.login"
    LOGIN_FAILED = "session.login_failed"
    LOG_OUT = "session.logout"
    END_SESSION = "session.end"
    CHANGE_PASSWORD = "user.password"  # noqa: S105
    LINK_PASSWORD = "user.password_link"  # noqa: S105
    CREATE_USER = "user.create"
    CHANGE_ROLE = "user.role"
    DISABLE_USER = "user.disable"
    ENABLE_USER = "user.enable"
    CHANGE_LIMITS = "quota.change"
    REVOKE_ACCESS = "user.revoke_access"
    TURN_FACTOR_ON = "factor.on"
    TURN_FACTOR_OFF = "factor.off"
    RENEW_CODES = "factor.renew_codes"
    USE_CODE = "factor.recovery_code"
    JOIN_IDENTITY = "user.join_identity"
    REMOVE_IDENTITY = "user.remove_identity"
    CREATE_TOKEN = "token.create"  # noqa: S105
    REVOKE_TOKEN = "token.revoke"  # noqa: S105
    SET_HUB_TOKEN = "hub_token.set"  # noqa: S105
    REMOVE_HUB_TOKEN = "hub_token.remove"  # noqa: S105
    SUBMIT_RUN = "run.submit"
    CANCEL_RUN = "run.cancel"
    QUEUE_RUN = "run.queue"
    ANNOTATE_RUN = "run.annotate"
    OPEN_RUN = "run.open"
    END_RUN = "run.end"
    ARCHIVE_RUN = "run.archive"
    UNARCHIVE_RUN = "run.unarchive"
    DELETE_RUN = "run.delete"
    SUBMIT_STUDY = "study.submit"
    ADD_SEEDS = "study.add_seeds"
    ADD_ARM = "study.add_arm"
    STOP_ARM = "study.stop_arm"
    CANCEL_STUDY = "study.cancel"
    QUEUE_STUDY = "study.queue"
    ANNOTATE_STUDY = "study.annotate"
    ARCHIVE_STUDY = "study.archive"
    UNARCHIVE_STUDY = "study.unarchive"
    DELETE_STUDY = "study.delete"
    ADD_UPLOAD = "upload.add"
    READ_UPLOAD = "upload.read"
    DELETE_UPLOAD = "upload.delete"
    CREATE_DATASET = "dataset.create"
    DELETE_DATASET = "dataset.delete"
    REGISTER_MODEL = "model.register"
    DELETE_MODEL = "model.delete"
    IMPORT_RESULTS = "collection.import"
    DECLARE_STUDY = "collection.declare"
    DELETE_COLLECTION = "collection.delete"
    SUBMIT_FINE_TUNING = "fine_tuning.submit"
    CANCEL_FINE_TUNING = "fine_tuning.cancel"
    SUBMIT_EXPORT = "export.submit"
    CANCEL_EXPORT = "export.cancel"
    PUSH_EXPORT = "export.push"
    CANCEL_PUSH = "push.cancel"
    SUBMIT_PARITY_CHECK = "parity_check.submit"
    CANCEL_PARITY_CHECK = "parity_check.cancel"
    SUBMIT_JUDGEMENT = "judgement.submit"
    CANCEL_JUDGEMENT = "judgement.cancel"
    DELETE_EXPORT = "export.delete"
    DOWNLOAD_EXPORT = "export.download"
    DOWNLOAD_ARTIFACT = "artifact.download"
    REGISTER_VERSION = "registry.register"
    CHANGE_STAGE = "registry.stage"
    CHANGE_OWNERSHIP = "ownership.change"
    TRANSFER_ALL = "ownership.transfer_all"
    OPEN_PRIVATE = "ownership.open"
    CHANGE_SETTINGS = "settings.change"
    ROTATE_KEY = "settings.rotate_key"
    CREATE_WEBHOOK = "webhook.create"
    TEST_WEBHOOK = "webhook.test"
    ENABLE_WEBHOOK = "webhook.enable"
    DELETE_WEBHOOK = "webhook.delete"
    CREATE_CLASS = "class.create"
    DELETE_CLASS = "class.delete"
    JOIN_CLASS = "class.join"
    SHARE_WITH_CLASS = "class.share"
    LEAVE_CLASS = "class.leave"
    CHOOSE_CLASS_STUDY = "class.study"
    EXPORT_AUDIT = "audit.export"

    @property
    def noun(self) -> str:
        """What its subject is: `run`."""
        return self.value.partition(".")[0]


@dataclass(frozen=True)
class Actor:
    """The user of an act, and its origin."""

    via: Via
    user_id: int | None = None
    name: str = ""
    """E-mail address of the user; of a command, the operating system's name of the user."""
    credential_id: int | None = None
    """Id of the session or the token."""
    address: str = ""
    user_agent: str = ""


SERVER = Actor("server")


@dataclass(frozen=True)
class AuditFilter:
    """Which entries are read; empty fields select all."""

    action: str = ""
    """An action (`run.submit`), or the noun of several (`run`)."""
    name: str = ""
    """E-mail address of the user."""
    subject: str = ""
    """A number or a name, of what the action's noun says."""
    since: datetime | None = None
    until: datetime | None = None
    """Entries before it."""
