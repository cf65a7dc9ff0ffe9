"""Imports every module alone: `python -m tests.imported_alone` prints the errors of those that fail.

The process imports the third-party libraries once, and forks a child for each module, which imports it first of its
layer. The layers below are imported by then, each after its own modules have been tested: they import nothing of the
layers above (`make check`), so they cannot hide an import circle, and a child takes a twentieth of a second.
"""

import ast
import gc
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path

PACKAGES = ("vezna", "app", "worker")
LAYERS = ("vezna.", "app.domain.", "app.store.", "app.services.", "app.web.text.", "app.web.figures.", "app.web.", "")


def every_module() -> dict[str, Path]:
    """Every module with its file, but programs (`__main__`), which run when they are imported."""
    files = [path for package in PACKAGES for path in sorted(Path(package).rglob("*.py")) if path.stem != "__main__"]
    return {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def import_libraries(files: Iterable[Path]) -> None:
    """Import what the files import of others."""
    names = set()
    for file in files:
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
    for name in sorted(name for name in names if name.split(".")[0] not in PACKAGES):
        import_module(name)


def failing(modules: Sequence[str]) -> list[str]:
    """Those that cannot be imported in a child of their own."""
    gc.collect()
    gc.freeze()  # or every child's collection copies the parent's memory
    failed, together = [], os.cpu_count() or 1
    for start in range(0, len(modules), together):
        children = {_child(module): module for module in modules[start : start + together]}
        failed += [module for child, module in children.items() if os.waitpid(child, 0)[1]]
    return failed


def _child(module: str) -> int:
    if child := os.fork():
        return child
    try:
        import_module(module)
    except BaseException:
        print(f"{module} alone:\n{traceback.format_exc()}", flush=True)
        os._exit(1)
    os._exit(0)


def main() -> None:
    """Exit with 1 if a module fails."""
    files = every_module()
    import_libraries(files.values())
    rest, failed = list(files), []
    for layer in LAYERS:
        modules = [module for module in rest if f"{module}.".startswith(layer)]
        failed += failing(modules)
        if failed:
            sys.exit(f"These cannot be imported alone: {', '.join(failed)}")
        for module in modules:
            import_module(module)
        rest = [module for module in rest if module not in modules]


if __name__ == "__main__":
    main()
