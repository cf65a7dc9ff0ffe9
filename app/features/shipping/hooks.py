"""What services call of exports, pushes and parity checks."""

from app.features.shipping.queries import exports, registry
from app.features.shipping.services.exports import strays
from app.features.shipping.services.work import CHECKS, EXPORTS, PUSHES
from app.services.hooks import Hooks

HOOKS = Hooks(
    work=(EXPORTS, PUSHES, CHECKS),
    secrets=CHECKS.secrets,
    keeps_runs=registry.why_in_use,
    keeps_visible=registry.why_visible,
    strays=strays,
    stored_bytes=exports.stored_bytes,
    expected_bytes=exports.expected_bytes,
)
