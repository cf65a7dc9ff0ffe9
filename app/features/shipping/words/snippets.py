"""Python that loads an export and uses it once, with transformers, PEFT or onnxruntime, to copy."""

import json
from collections.abc import Sequence
from typing import Literal, NamedTuple

from app.domain.methods import BottleneckAdapterSpec, PrefixSpec
from app.domain.methods.selection import Selection
from app.domain.models.exports import ExportFormat
from app.domain.runs.spec import RunSpec
from app.domain.tasks import TASKS, Format, TaskFacts

IMAGE = "image.png"
EXAMPLE, OTHER_EXAMPLE = "A text of yours.", "Another text."


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
    positions: int | None
    """Maximum number of tokens of the base model; None without a limit."""

    @property
    def task(self) -> TaskFacts:
        return TASKS[self.spec.task]

    @property
    def bare(self) -> bool:
        """The files are tensors of the base model, not an adapter of PEFT."""
        return not self.form.merged and isinstance(self.spec.method, Selection)

    @property
    def processor(self) -> tuple[str, str]:
        """The class that reads its inputs, and the name of the variable."""
        images = self.task.reads == "images"
        return ("AutoImageProcessor", "processor") if images else ("AutoTokenizer", "tokenizer")

    @property
    def prompt_tokens(self) -> int:
        """The maximum length of a prompt for generation, as for the run."""
        training = self.spec.training
        if self.positions is None:
            return training.max_length
        written = 0 if self.task.encoder_decoder else training.max_new_tokens
        return min(training.max_length, self.positions - self.spec.method.virtual_tokens - written)


def loading_code(export: Export) -> str:
    """The code; empty for adapter layers, which neither library loads, and for text after a prefix, where PEFT's
    `generate` writes other tokens than its forward pass predicts (PEFT 0.21 with transformers 5.24)."""
    method = export.spec.method
    if not export.form.merged and isinstance(method, BottleneckAdapterSpec):
        return ""
    if isinstance(method, PrefixSpec) and export.task.output == "text":
        return ""
    return "\n".join([*_imports(export), "", *_loaded(export), "", *_used(export), ""])


def quantized_code(export: Export, bits: Literal[4, 8]) -> str:
    """Code that quantizes a merged export with bitsandbytes while it is loaded; empty for other formats."""
    if not export.form.dtype:
        return ""
    options = 'load_in_4bit=True, bnb_4bit_quant_type="nf4"' if bits == 4 else "load_in_8bit=True"
    imports, loaded = _imports(export), _loaded(export)
    imports[-1] += ", BitsAndBytesConfig"
    model = f"model = {export.task.auto}.from_pretrained("
    place = _literal(export.folder)
    loaded[-1:] = [
        f"quantization = BitsAndBytesConfig({options})",
        f'{model}{place}, dtype="auto", quantization_config=quantization).eval()',
    ]
    return "\n".join([*imports, "", *loaded, "", *_used(export), ""])


def _imports(export: Export) -> list[str]:
    if export.form is ExportFormat.ONNX_INT8:
        return ["import onnxruntime", "from transformers import AutoConfig, AutoTokenizer"]
    torch = ["import torch"] if export.task.output == "embedding" else []
    imports = [f"from transformers import {', '.join(sorted([export.task.auto, export.processor[0]]))}"]
    if export.task.reads == "images":
        imports.insert(0, "from PIL import Image")
    if export.form.merged:
        return [*torch, *imports]
    library = "from safetensors.torch import load_file" if export.bare else "from peft import PeftModel"
    return [*torch, library, *imports]


def _loaded(export: Export) -> list[str]:
    auto, folder = export.task.auto, export.folder
    place = _literal(folder)
    if export.form is ExportFormat.ONNX_INT8:
        return [
            f"tokenizer = AutoTokenizer.from_pretrained({place})",
            f"labels = AutoConfig.from_pretrained({place}).id2label",
            f"session = onnxruntime.InferenceSession({_literal(f'{folder}/model.onnx')})",
        ]
    if export.form.gguf:
        place += f", gguf_file={_literal(f'model-{export.form.gguf}.gguf')}"
    if not export.form.merged:
        place = _literal(export.base) + (f", revision={_literal(export.revision)}" if export.revision else "")
    # A run truncates a prompt from its start, and a text to classify from its end.
    side = "" if export.task.output != "text" else ', truncation_side="left"'
    auto_processor, name = export.processor
    tokenizer = f"{name} = {auto_processor}.from_pretrained({place}{side})"
    if export.form.merged:
        return [tokenizer, f'model = {auto}.from_pretrained({place}, dtype="auto").eval()']
    # The head is in the run's files, with a row for each label; one that the base model has is replaced.
    head = f", num_labels={len(export.labels)}, ignore_mismatched_sizes=True" if export.labels else ""
    base = f'{auto}.from_pretrained({place}{head}, dtype="auto")'
    if export.bare:
        file = _literal(f"{folder}/selection.safetensors")
        return [tokenizer, f"model = {base}.eval()", f"model.load_state_dict(load_file({file}), strict=False)"]
    return [tokenizer, f"base = {base}", f"model = PeftModel.from_pretrained(base, {_literal(folder)}).eval()"]


def _used(export: Export) -> list[str]:
    training, text = export.spec.training, _literal(EXAMPLE)
    if export.form is ExportFormat.ONNX_INT8:
        return [
            f'inputs = tokenizer({text}, truncation=True, max_length={training.max_length}, return_tensors="np")',
            'inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}',
            "print(labels[int(session.run(None, inputs)[0].argmax())])",
        ]
    if export.task.labels_texts or export.task.output == "tags":
        labels = "model.config.id2label" if export.form.merged else "labels"
        known = [] if export.form.merged else [f"labels = {_literal(list(export.labels))}"]
        known += [f'inputs = tokenizer({text}, truncation=True, max_length={training.max_length}, return_tensors="pt")']
        if export.task.output == "tags":
            return [
                *known,
                'ids = inputs["input_ids"][0]',
                "logits = model(**inputs).logits[0, -len(ids) :]  # a word's tag is that of its first token",
                "for token, tag in zip(tokenizer.convert_ids_to_tokens(ids), logits.argmax(1).tolist()):",
                f"    print(token, {labels}[tag])",
            ]
        return [
            *known,
            f"print({labels}[model(**inputs).logits.argmax().item()])",
        ]
    if export.task.output == "label" and export.task.reads == "images":
        labels = "model.config.id2label" if export.form.merged else "labels"
        known = [] if export.form.merged else [f"labels = {_literal(list(export.labels))}"]
        return [
            *known,
            f'image = Image.open({_literal(IMAGE)}).convert("RGB")',
            'inputs = processor(image, return_tensors="pt")',
            f"print({labels}[model(**inputs).logits.argmax().item()])",
        ]
    if export.task.output == "embedding":
        behind = f"[:, {export.spec.method.virtual_tokens} :]" if export.spec.method.virtual_tokens else ""
        return [
            f"texts = [{text}, {_literal(OTHER_EXAMPLE)}]",
            f"length = {training.max_length}",
            'inputs = tokenizer(texts, padding=True, truncation=True, max_length=length, return_tensors="pt")',
            f"hidden = model(**inputs).last_hidden_state{behind}",
            'mask = inputs["attention_mask"].unsqueeze(-1)',
            "embeddings = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)",
            "print(float(embeddings[0] @ embeddings[1]))",
        ]
    cut = f"truncation=True, max_length={export.prompt_tokens}"
    if export.data in ("messages", "preference-messages"):
        inputs = [
            f'messages = [{{"role": "user", "content": {text}}}]',
            "inputs = tokenizer.apply_chat_template(",
            f'    messages, add_generation_prompt=True, {cut}, return_dict=True, return_tensors="pt"',
            ")",
        ]
    else:
        inputs = [f'inputs = tokenizer({text}, {cut}, return_tensors="pt")']
    new = "output[0]" if export.task.encoder_decoder else 'output[0, inputs["input_ids"].shape[1] :]'
    options = f"max_new_tokens={training.max_new_tokens}, do_sample=False"
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
