"""What services call of quotas."""

from app.features.quotas.services import quotas, storage
from app.services.hooks import Hooks

HOOKS = Hooks(
    accepting=quotas.require_device_time,
    queued=storage.require_room,
    storing=storage.require_storage,
    giving=quotas.given_to,
    concurrent_runs=quotas.concurrent_runs,
)
