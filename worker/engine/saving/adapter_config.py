"""`adapter_config.json`, the same bytes for the same adapter."""

import json
from pathlib import Path


def sort_adapter_config(folder: Path) -> None:
    """Write it with sorted module names: PEFT keeps them in sets, whose order differs from process to process."""
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    for name, value in config.items():
        if name.endswith(("modules", "to_save")) and isinstance(value, list):
            config[name] = sorted(value)
    path.write_text(json.dumps(config, indent=2, sort_keys=True))
