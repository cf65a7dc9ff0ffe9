"""Chat templates like those of today's models, and a tokenizer for them."""

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

_SPECIAL = ["<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|begin|>"]

_QWEN_TOOLS = (
    "{%- if tools %}{{- '<|im_start|>system\\n' }}"
    "{%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}"
    "{{- '# Tools\\n<tools>' }}{%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}"
    "{{- '\\n</tools><|im_end|>\\n' }}"
    "{%- elif messages[0].role == 'system' %}{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}"
    "{%- endif %}"
)
_QWEN_CALLS = (
    "{%- for call in message.tool_calls or [] %}"
    "{%- if (loop.first and message.content) or not loop.first %}{{- '\\n' }}{%- endif %}"
    "{%- if call.function %}{%- set call = call.function %}{%- endif %}"
    '{{- \'<tool_call>\\n{"name": "\' + call.name + \'", "arguments": \' }}{{- call.arguments | tojson }}'
    "{{- '}\\n</tool_call>' }}{%- endfor %}"
)
_QWEN_RESULT = (
    "{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}"
    "{{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}"
    "{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}"
)
_USER = "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
_ASKS = "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
CHATML_TOOLS = (
    _QWEN_TOOLS + "{%- for message in messages %}"
    "{%- if message.role == 'assistant' %}{{- '<|im_start|>assistant\\n' + message.content }}" + _QWEN_CALLS + ""
    "{{- '<|im_end|>\\n' }}"
    "{%- elif message.role == 'tool' %}" + _QWEN_RESULT + ""
    "{%- elif message.role != 'system' %}" + _USER + "{%- endif %}{%- endfor %}" + _ASKS
)
"""As Qwen2.5 and Hermes: calls in <tool_call>, results as the user's turns."""
FORGETTING = (
    _QWEN_TOOLS + "{%- set ns = namespace(last=0) %}"
    "{%- for message in messages %}{%- if message.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}"
    "{%- endfor %}"
    "{%- for message in messages %}"
    "{%- if message.role == 'assistant' %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if loop.index0 > ns.last and (loop.last or message.reasoning_content) %}"
    "{{- '<think>\\n' + (message.reasoning_content or '') + '\\n</think>\\n\\n' }}{%- endif %}"
    "{{- message.content }}" + _QWEN_CALLS + "{{- '<|im_end|>\\n' }}"
    "{%- elif message.role == 'tool' %}" + _QWEN_RESULT + ""
    "{%- elif message.role != 'system' %}" + _USER + "{%- endif %}{%- endfor %}" + _ASKS
)
"""As Qwen3: the reasoning of turns before the last question is left out."""
MARKED = (
    _QWEN_TOOLS + "{%- for message in messages %}"
    "{%- if message.role == 'assistant' %}{{- '<|im_start|>assistant\\n' }}{% generation %}"
    "{%- if message.reasoning_content %}{{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n' }}{%- endif %}"
    "{{- message.content }}" + _QWEN_CALLS + "{{- '<|im_end|>' }}{% endgeneration %}{{- '\\n' }}"
    "{%- elif message.role == 'tool' %}" + _QWEN_RESULT + ""
    "{%- elif message.role != 'system' %}" + _USER + "{%- endif %}{%- endfor %}" + _ASKS
)
"""With {% generation %}."""
_HEADER = "<|start_header_id|>' + {role} + '<|end_header_id|>\\n\\n"
LLAMA = (
    "{{- '<|begin|>' }}{%- for message in messages %}"
    "{%- if message.role == 'tool' %}"
    "{{- '" + _HEADER.format(role="'ipython'") + "' }}{{- {'output': message.content} | tojson }}{{- '<|eot_id|>' }}"
    "{%- elif message.tool_calls %}{%- if message.tool_calls | length != 1 %}{{- raise_exception('one call only') }}"
    "{%- endif %}{%- set call = message.tool_calls[0].function %}"
    "{{- '" + _HEADER.format(role="'assistant'") + "' }}"
    "{{- '{\"name\": \"' + call.name + '\", \"parameters\": ' }}{{- call.arguments | tojson }}{{- '}<|eot_id|>' }}"
    "{%- else %}{{- '" + _HEADER.format(role="message.role") + "' }}"
    "{%- if loop.index0 == 0 and tools %}{%- for tool in tools %}{{- tool | tojson(indent=4) + '\\n\\n' }}{%- endfor %}"
    "{%- endif %}{{- message.content | trim + '<|eot_id|>' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '" + _HEADER.format(role="'assistant'") + "' }}{%- endif %}"
)
"""As Llama 3.1: results by the role ipython, and a turn with a call loses its text."""
PLAIN = "{%- for message in messages %}" + _USER + "{%- endfor %}" + _ASKS
"""ChatML without tools."""


def tokenizer(template: str) -> PreTrainedTokenizerFast:
    """Bytes and special tokens."""
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator([], BpeTrainer(vocab_size=300, special_tokens=_SPECIAL, initial_alphabet=alphabet))
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in _SPECIAL])
    end = "<|eot_id|>" if template is LLAMA else "<|im_end|>"
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=end, chat_template=template)
