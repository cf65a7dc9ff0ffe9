"""Words for the audit log."""

from typing import Any

from app.domain.accounts.audit import Action
from app.words.i18n import gettext as _
from app.words.i18n import marked

TITLES: dict[Action, str] = {
    Action.LOG_IN: marked("Logged in"),
    Action.LOGIN_FAILED: marked("Login failed"),
    Action.LOG_OUT: marked("Logged out"),
    Action.END_SESSION: marked("Session ended"),
    Action.CHANGE_PASSWORD: marked("Password set"),
    Action.LINK_PASSWORD: marked("Password link made"),
    Action.CREATE_USER: marked("User created"),
    Action.CHANGE_ROLE: marked("Role changed"),
    Action.DISABLE_USER: marked("User disabled"),
    Action.ENABLE_USER: marked("User enabled"),
    Action.CHANGE_LIMITS: marked("Limits changed"),
    Action.REVOKE_ACCESS: marked("Sessions and tokens revoked"),
    Action.TURN_FACTOR_ON: marked("Second factor turned on"),
    Action.TURN_FACTOR_OFF: marked("Second factor turned off"),
    Action.RENEW_CODES: marked("Recovery codes replaced"),
    Action.USE_CODE: marked("Recovery code used"),
    Action.JOIN_IDENTITY: marked("Joined to an identity of single sign-on"),
    Action.REMOVE_IDENTITY: marked("Identity of single sign-on removed"),
    Action.CREATE_TOKEN: marked("Token created"),
    Action.REVOKE_TOKEN: marked("Token revoked"),
    Action.SET_HUB_TOKEN: marked("Hub token stored"),
    Action.REMOVE_HUB_TOKEN: marked("Hub token removed"),
    Action.SUBMIT_RUN: marked("Run submitted"),
    Action.OPEN_RUN: marked("Run elsewhere opened"),
    Action.END_RUN: marked("Run elsewhere ended"),
    Action.CANCEL_RUN: marked("Run cancelled"),
    Action.QUEUE_RUN: marked("Place of a run in the queue changed"),
    Action.ANNOTATE_RUN: marked("Notes of a run changed"),
    Action.ARCHIVE_RUN: marked("Run archived"),
    Action.UNARCHIVE_RUN: marked("Run unarchived"),
    Action.DELETE_RUN: marked("Run deleted"),
    Action.SUBMIT_STUDY: marked("Study submitted"),
    Action.ADD_SEEDS: marked("Seeds added"),
    Action.ADD_ARM: marked("Arm added"),
    Action.STOP_ARM: marked("Arm stopped"),
    Action.CANCEL_STUDY: marked("Study cancelled"),
    Action.QUEUE_STUDY: marked("Place of a study in the queue changed"),
    Action.ANNOTATE_STUDY: marked("Notes of a study changed"),
    Action.ARCHIVE_STUDY: marked("Study archived"),
    Action.UNARCHIVE_STUDY: marked("Study unarchived"),
    Action.DELETE_STUDY: marked("Study deleted"),
    Action.ADD_UPLOAD: marked("Data uploaded"),
    Action.READ_UPLOAD: marked("Upload read again"),
    Action.DELETE_UPLOAD: marked("Upload deleted"),
    Action.CREATE_DATASET: marked("Dataset created"),
    Action.DELETE_DATASET: marked("Dataset deleted"),
    Action.REGISTER_MODEL: marked("Model registered"),
    Action.DELETE_MODEL: marked("Model deleted"),
    Action.DECLARE_STUDY: marked("Study of runs elsewhere declared"),
    Action.IMPORT_RESULTS: marked("Results imported"),
    Action.DELETE_COLLECTION: marked("Collection deleted"),
    Action.SUBMIT_FINE_TUNING: marked("Fine-tuning job submitted"),
    Action.CANCEL_FINE_TUNING: marked("Fine-tuning job cancelled"),
    Action.SUBMIT_EXPORT: marked("Export submitted"),
    Action.CANCEL_EXPORT: marked("Export cancelled"),
    Action.PUSH_EXPORT: marked("Export pushed to the hub"),
    Action.CANCEL_PUSH: marked("Push to the hub cancelled"),
    Action.SUBMIT_PARITY_CHECK: marked("Parity check submitted"),
    Action.CANCEL_PARITY_CHECK: marked("Parity check cancelled"),
    Action.SUBMIT_JUDGEMENT: marked("Judgement submitted"),
    Action.CANCEL_JUDGEMENT: marked("Judgement cancelled"),
    Action.DELETE_EXPORT: marked("Export deleted"),
    Action.DOWNLOAD_EXPORT: marked("Export downloaded"),
    Action.DOWNLOAD_ARTIFACT: marked("Artifact downloaded"),
    Action.REGISTER_VERSION: marked("Model version registered"),
    Action.CHANGE_STAGE: marked("Stage of a model version changed"),
    Action.CHANGE_OWNERSHIP: marked("Owner or visibility changed"),
    Action.TRANSFER_ALL: marked("Everything of a user transferred"),
    Action.OPEN_PRIVATE: marked("Private object opened by an admin"),
    Action.CHANGE_SETTINGS: marked("Settings changed"),
    Action.ROTATE_KEY: marked("Encryption key replaced"),
    Action.CREATE_WEBHOOK: marked("Webhook added"),
    Action.TEST_WEBHOOK: marked("Webhook tested"),
    Action.ENABLE_WEBHOOK: marked("Webhook enabled"),
    Action.DELETE_WEBHOOK: marked("Webhook removed"),
    Action.CREATE_CLASS: marked("Class made"),
    Action.DELETE_CLASS: marked("Class deleted"),
    Action.JOIN_CLASS: marked("Joined a class"),
    Action.SHARE_WITH_CLASS: marked("Sharing with a class changed"),
    Action.LEAVE_CLASS: marked("Left a class"),
    Action.CHOOSE_CLASS_STUDY: marked("Study of a class chosen"),
    Action.EXPORT_AUDIT: marked("Audit log exported"),
}
VIAS = {
    "session": marked("browser"),
    "token": marked("API token"),
    "hub_token": marked("Hub token"),
    "visitor": marked("without login"),
    "single user": marked("single user"),
    "command line": marked("command line"),
    "server": marked("server"),
}
MOST_LISTED = 8


def action_title(action: str) -> str:
    """An action in words; one of a newer version stays as it is."""
    return _(TITLES[Action(action)]) if action in TITLES else action


def via_name(via: str) -> str:
    return _(VIAS[via]) if via in VIAS else via


def detail_lines(details: dict[str, Any]) -> list[str]:
    """Details of an entry, a line for each; of changed settings the names."""
    shown = {name: value for name, value in details.items() if name != "settings"}
    return [f"{name.replace('_', ' ')}: {_text(value)}" for name, value in shown.items()]


def _text(value: object) -> str:
    if isinstance(value, list):
        more = [_("%(number)s more", number=len(value) - MOST_LISTED)] if len(value) > MOST_LISTED else []
        return ", ".join([*map(str, value[:MOST_LISTED]), *more]) or "–"
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return str(value)


FILTERS = (action_title, via_name, detail_lines)
