"""The files by which sentence-transformers loads an exported encoder: its modules, their settings, the longest text.

    model.safetensors, config.json, …    the encoder
    1_Pooling                            the mean over a text's tokens
    2_Normalize                          L2 norm 1; it has no settings, hence no files

The types are sentence-transformers' names since its first versions, which newer ones still read.
"""

import json
from pathlib import Path
from typing import Any

MODULES = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))


def write(folder: Path, width: int, max_length: int) -> None:
    """Add the files to a merged export of a model with embeddings of `width`, whose texts have at most `max_length`
    tokens."""
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (path, kind) in enumerate(MODULES)
    ]
    _write(folder / "modules.json", modules)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
    pooling = {"word_embedding_dimension": width, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling").mkdir(exist_ok=True)
    _write(folder / "1_Pooling" / "config.json", pooling)


def _write(file: Path, values: Any) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
