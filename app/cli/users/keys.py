"""`vezna rotate-key`: encrypt stored secrets by the first key of this installation."""

from app.cli.shared import say
from app.services.ownership import stored_secrets
from app.services.ownership.vault import Vault
from app.services.users import audit
from app.settings import load
from app.store.database import migrate
from app.store.database.session import Database
from app.words.i18n import ngettext


def rotate_key() -> None:
    """Encrypt every stored secret by the first key of VEZNA_ENCRYPTION_KEY_FILE, or of secrets.key in VEZNA_HOME. Then
    the other keys in the file can be removed."""
    settings = load()
    database = Database(settings.database)
    migrate.require_current(database)
    audit.act_as_command()
    number = stored_secrets.rotate(database, Vault(settings))
    say(ngettext("Encrypted %(num)s secret by the first key.", "Encrypted %(num)s secrets by the first key.", number))
