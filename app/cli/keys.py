"""`vezna rotate-key`: encrypt stored secrets by the first key of this installation."""

from app.cli.shared import say
from app.services import audit, stored_secrets
from app.services.vault import Vault
from app.settings import load
from app.store import migrate
from app.store.session import Database
from app.web.i18n import ngettext


def rotate_key() -> None:
    """Encrypt every stored secret by the first key of VEZNA_ENCRYPTION_KEY_FILE, or of secrets.key in VEZNA_HOME. Then
    the other keys in the file can be removed."""
    settings = load()
    database = Database(settings.database)
    migrate.require_current(database)
    audit.act_as_command()
    number = stored_secrets.rotate(database, Vault(settings))
    say(ngettext("Encrypted %(num)s secret by the first key.", "Encrypted %(num)s secrets by the first key.", number))
