"""What services call of the Lab."""

from app.features.lab.services import class_pool
from app.services.hooks import Hooks

HOOKS = Hooks(sweep=class_pool.take_verdicts)
