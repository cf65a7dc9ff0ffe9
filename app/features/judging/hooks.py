"""What services call of judgements."""

from app.features.judging.services.judgements import JUDGEMENTS
from app.services.hooks import Hooks

HOOKS = Hooks(work=(JUDGEMENTS,), secrets=JUDGEMENTS.secrets)
