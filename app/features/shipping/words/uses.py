"""Ways to use an export, to copy: Python that tests run, and commands of other programs, which they do not."""

from typing import NamedTuple

from app.domain.models import vllm
from app.domain.tasks import DECODERS
from app.features.shipping.words.snippets import Export, loading_code, quantized_code
from app.words.i18n import gettext as _


class Command(NamedTuple):
    """A way to use an export."""

    title: str
    code: str
    note: str
    """What it needs, or what was not checked."""


def ways_to_use(export: Export) -> list[Command]:
    """Those that suit the format, the method and the task; Python that tests have run comes first."""
    code = loading_code(export)
    return [*([Command(_("Python"), code, "")] if code else []), *_quantized(export), *_served(export)]


def _quantized(export: Export) -> list[Command]:
    note = _(
        "bitsandbytes quantizes the weights while they are loaded. The gate has not scored this, and the score may "
        "differ."
    )
    titles = {4: _("In 4 bits (bitsandbytes NF4)"), 8: _("In 8 bits (bitsandbytes int8)")}
    codes = {4: quantized_code(export, 4), 8: quantized_code(export, 8)}
    return [Command(titles[bits], codes[bits], note) for bits in (4, 8) if codes[bits]]


def _served(export: Export) -> list[Command]:
    if export.spec.task not in DECODERS:
        return []
    name = export.folder.removesuffix(f"-{export.form}")
    unchecked = _("Vezna has not run this command: the gate scores the export with transformers.")
    if export.form.gguf:
        file = f"model-{export.form.gguf}.gguf"
        llama = f"llama-server --model {export.folder}/{file} --alias {name}"
        ollama = f"echo 'FROM ./{export.folder}/{file}' > Modelfile\nollama create {name}\nollama run {name}"
        return [Command("llama.cpp", llama, unchecked), Command("Ollama", ollama, unchecked)]
    if export.form.dtype:
        return [Command("vLLM", f"vllm serve ./{export.folder} --served-model-name {name}", unchecked)]
    method = export.spec.method
    if not vllm.loads(method):
        return []
    serve = vllm.command(export.base, export.revision, vllm.saved_rank(method), {name: f"./{export.folder}"})
    lorax = (
        f'docker run --gpus all --shm-size 1g --publish 8080:80 --volume "$PWD:/data" \\\n'
        f"    ghcr.io/predibase/lorax:main --model-id {export.base}\n"
        'curl 127.0.0.1:8080/generate -H \'Content-Type: application/json\' -d \'{"inputs": "…", "parameters":\n'
        f'    {{"adapter_id": "/data/{export.folder}", "adapter_source": "local"}}}}\''
    )
    return [Command("vLLM", serve, unchecked), Command("LoRAX", lorax, unchecked)]
