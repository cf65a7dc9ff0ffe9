"""Make `recipes/peft-method-comparison.json` from result files of PEFT's method comparison at several commits.

    python -m benchmarks.peft_history FOLDER > recipes/peft-method-comparison.json

FOLDER has a folder `DATE-COMMIT` for each commit of huggingface/peft, with the files of
`method_comparison/MetaMathQA/results` as they stood there.
"""

import json
import sys
from pathlib import Path
from typing import Any

from app.features.elsewhere.peft import GSM8K_TEST_ITEMS, imported_result_of


def result(file: Path) -> dict[str, Any]:
    """A configuration: its name, its correct answers, when and with what it was trained."""
    document = json.loads(file.read_text(encoding="utf-8"))
    imported = imported_result_of(document)
    assert imported["items"] == GSM8K_TEST_ITEMS and imported["seed"] == 0
    return {
        "label": file.stem.replace("--llama-3.2-3B-", " "),
        "right": round(imported["score"] * imported["items"]),
        "trained": document["run_info"]["created_at"][:10],
        "versions": imported["versions"],
    }


def main(folder: Path) -> None:
    """Print the history as JSON, a configuration per line."""
    snapshots = [
        {
            "commit": commit.name[11:],
            "committed": commit.name[:10],
            "results": [result(file) for file in sorted(commit.glob("*.json"))],
        }
        for commit in sorted(path for path in folder.iterdir() if path.is_dir())
    ]
    history = {
        "title": "PEFT method comparison, MetaMathQA",
        "url": "https://github.com/huggingface/peft/tree/main/method_comparison/MetaMathQA/results",
        "license": "Apache-2.0",
        "setting": "Llama-3.2-3B trained on MetaMathQA, tested on GSM8K",
        "items": GSM8K_TEST_ITEMS,
        "seed": 0,
        "snapshots": snapshots,
    }
    text = json.dumps(history, indent=1)
    for _ in range(2):
        text = text.replace('{\n     "label"', '{"label"')
    print(text)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
