"""Python that loads an export and uses it once, with transformers and PEFT, to copy."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from app.domain.methods import BottleneckAdapterSpec, PrefixSpec
from app.domain.models.exports import ExportFormat
from app.domain.runs.spec import RunSpec
from app.domain.tasks import Format, Task

AUTO: dict[Task, str] = {
    "sequence-classification": "AutoModelForSequenceClassification",
    "causal-lm": "AutoModelForCausalLM",
    "seq2seq-lm": "AutoModelForSeq2SeqLM",
}
EXAMPLE = "A text of yours."


class Export(NamedTuple):
    """What a snippet depends on."""

    form: ExportFormat
    spec: RunSpec
    folder: str
    """The unpacked archive."""
    base: str
    """The base model: an id on the hub, or a directory."""
    revision: str
    """Its commit on the hub; empty for a directory."""
    labels: Sequence[str]
    data: Format


def loading_code(export: Export) -> str:
    """The code; empty for adapter layers, which neither library loads, and for text after a prefix, where PEFT's
    `generate` writes other tokens than its forward pass predicts (PEFT 0.21 with transformers 5.24)."""
    method = export.spec.method
    if not export.form.merged and isinstance(method, BottleneckAdapterSpec):
        return ""
    if isinstance(method, PrefixSpec) and export.spec.task != "sequence-classification":
        return ""
    return "\n".join([*_imports(export), "", *_loaded(export), "", *_used(export), ""])


def _imports(export: Export) -> list[str]:
    imports = [f"from transformers import {AUTO[export.spec.task]}, AutoTokenizer"]
    return imports if export.form.merged else ["from peft import PeftModel", *imports]


def _loaded(export: Export) -> list[str]:
    auto, folder = AUTO[export.spec.task], _literal(export.folder)
    if export.form.merged:
        return [
            f"tokenizer = AutoTokenizer.from_pretrained({folder})",
            f'model = {auto}.from_pretrained({folder}, dtype="auto").eval()',
        ]
    place = _literal(export.base) + (f", revision={_literal(export.revision)}" if export.revision else "")
    # the head is in the adapter's files, and has a row for each label
    head = f", num_labels={len(export.labels)}" if export.labels else ""
    return [
        f"tokenizer = AutoTokenizer.from_pretrained({place})",
        f'base = {auto}.from_pretrained({place}{head}, dtype="auto")',
        f"model = PeftModel.from_pretrained(base, {folder}).eval()",
    ]


def _used(export: Export) -> list[str]:
    cut = f"truncation=True, max_length={export.spec.training.max_length}"
    if export.spec.task == "sequence-classification":
        labels = "model.config.id2label" if export.form.merged else "labels"
        known = [] if export.form.merged else [f"labels = {_literal(list(export.labels))}"]
        return [
            *known,
            f'inputs = tokenizer({_literal(EXAMPLE)}, {cut}, return_tensors="pt")',
            f"print({labels}[model(**inputs).logits.argmax().item()])",
        ]
    if export.data == "messages":
        inputs = [
            f'messages = [{{"role": "user", "content": {_literal(EXAMPLE)}}}]',
            "inputs = tokenizer.apply_chat_template(",
            '    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"',
            ")",
        ]
    else:
        inputs = [f'inputs = tokenizer({_literal(EXAMPLE)}, {cut}, return_tensors="pt")']
    new = "output[0]" if export.spec.task == "seq2seq-lm" else 'output[0, inputs["input_ids"].shape[1] :]'
    options = f"max_new_tokens={export.spec.training.max_new_tokens}, do_sample=False"
    if export.spec.method.virtual_tokens:
        options += ", use_cache=False"  # with a cache PEFT prepends the virtual tokens before every new token again
    return [
        *inputs,
        f"output = model.generate(**inputs, {options})",
        f"print(tokenizer.decode({new}, skip_special_tokens=True))",
    ]


def _literal(value: str | list[str]) -> str:
    """In double quotes, as formatters write it."""
    return json.dumps(value, ensure_ascii=False)
