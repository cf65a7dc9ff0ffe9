"""Every encrypted secret in the database, to encrypt it by another key."""

from app.domain.accounts.audit import Action
from app.services import audit
from app.services.vault import Vault
from app.store.queries import hub_tokens, idempotency, judgements, parity_checks, second_factors, webhooks
from app.store.session import Database
from app.store.tables import JudgementRow, ParityCheckRow, SecondFactorRow, WebhookRow


def rotate(db: Database, vault: Vault) -> int:
    """Encrypt every stored secret by the first key. Returns their number. Raises Unavailable, with nothing changed, if
    the key of one is missing."""
    with db.transaction() as session:
        hooks = webhooks.all_of_them(session)
        rows: list[SecondFactorRow | WebhookRow] = [*second_factors.everyone(session), *hooks]
        for row in rows:
            row.secret = vault.rotate(row.secret)
        for hook in hooks:
            hook.url = vault.rotate(hook.url)
        checks: list[ParityCheckRow | JudgementRow] = [*parity_checks.with_key(session), *judgements.with_key(session)]
        for check in checks:
            check.api_key = vault.rotate(check.api_key)
        held = hub_tokens.all_of_them(session)
        for token in held:
            token.token = vault.rotate(token.token)
        answers = idempotency.encrypted(session)
        for answer in answers:
            body = answer.body.removeprefix(idempotency.ENCRYPTED)
            answer.body = f"{idempotency.ENCRYPTED}{vault.rotate(body)}"
        number = len(rows) + len(checks) + len(held) + len(answers)
        audit.record(session, Action.ROTATE_KEY, secrets=number)
    return number
