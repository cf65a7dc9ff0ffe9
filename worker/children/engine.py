"""The import of the engine by a child process."""

from types import ModuleType

from app.imports import import_large


def import_engine(name: str) -> ModuleType:
    """Import a module that brings PEFT, after bitsandbytes without torch's compiler."""
    import_large("worker.engine.models.quantized.kernels")
    return import_large(name)
