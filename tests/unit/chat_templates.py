"""Short chat templates that write messages, calls and results as those of well-known models do."""

# ruff: noqa: RUF001
from __future__ import annotations

from dataclasses import dataclass

_SYSTEM_FIRST = "{%- set system = messages[0].content if messages[0].role == 'system' else '' %}"


@dataclass(frozen=True)
class Fixture:
    """A template, and what is to be found out about it."""

    source: str
    native: bool
    call: str = ""
    """What a call of ``f`` with the argument ``x`` = 1 looks like."""
    calls: str = ""
    """Two of them; "" where the template takes one only."""
    eos: str = "</s>"


CHATML = Fixture(
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    native=False,
    eos="<|im_end|>",
)

_QWEN = """\
{%- if tools %}{{- '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
{{- '# Tools\\n<tools>' }}{%- for tool in tools %}{{- '\\n' + (tool | tojson) }}{%- endfor %}
{{- '\\n</tools>\\nCall with <tool_call>\\n{"name": <name>, "arguments": <object>}\\n</tool_call><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for m in messages %}
{%- if m.role == 'user' or (m.role == 'system' and not loop.first) %}
{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}
{%- elif m.role == 'assistant' %}
{{- '<|im_start|>assistant\\n' }}THINKING{{- m.content or '' }}
{%- for c in m.tool_calls or [] %}
{%- if not loop.first or m.content %}{{- '\\n' }}{%- endif %}
{{- '<tool_call>\\n{"name": "' + c.function.name + '", "arguments": ' }}
{{- c.function.arguments if c.function.arguments is string else c.function.arguments | tojson }}
{{- '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- elif m.role == 'tool' %}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
{{- '\\n<tool_response>\\n' + m.content + '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}PROMPT{%- endif %}"""
_HERMES_CALL = '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'
_HERMES_CALLS = f"{_HERMES_CALL}\n{_HERMES_CALL}"

QWEN25 = Fixture(
    _QWEN.replace("THINKING", "").replace("PROMPT", ""), True, _HERMES_CALL, _HERMES_CALLS, eos="<|im_end|>"
)
QWEN3 = Fixture(
    _QWEN.replace("THINKING", "{%- if loop.last %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}").replace(
        "PROMPT",
        "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}"
        "{%- endif %}",
    ),
    True,
    _HERMES_CALL,
    _HERMES_CALLS,
    eos="<|im_end|>",
)
QWEN3_THINKING = Fixture(
    _QWEN.replace("THINKING", "").replace("PROMPT", "{{- '<think>\\n' }}"),
    True,
    _HERMES_CALL,
    _HERMES_CALLS,
    eos="<|im_end|>",
)

LLAMA31 = Fixture(
    """\
{{- bos_token }}{%- set system = '' %}
{%- if messages[0].role == 'system' %}{%- set system = messages[0].content | trim %}
{%- set messages = messages[1:] %}{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' + system + '<|eot_id|>' }}
{%- if tools %}
{%- if messages | length == 0 %}{{ raise_exception('no first user message') }}{%- endif %}
{{- '<|start_header_id|>user<|end_header_id|>\\n\\nRespond with {"name": ..., "parameters": ...}.\\n\\n' }}
{%- for t in tools %}{{- t | tojson(indent=4) + '\\n\\n' }}{%- endfor %}
{{- messages[0].content | trim + '<|eot_id|>' }}{%- set messages = messages[1:] %}
{%- endif %}
{%- for m in messages %}
{%- if not (m.role == 'tool' or 'tool_calls' in m) %}
{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content | trim + '<|eot_id|>' }}
{%- elif 'tool_calls' in m %}
{%- if not m.tool_calls | length == 1 %}{{ raise_exception('This model only supports single tool-calls at once!') }}
{%- endif %}
{%- set c = m.tool_calls[0].function %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{{- '{"name": "' + c.name + '", ' }}{{- '"parameters": ' }}{{- c.arguments | tojson }}{{- '}' }}{{- '<|eot_id|>' }}
{%- elif m.role == 'tool' %}
{{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' }}{{- m.content | tojson }}{{- '<|eot_id|>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}""",
    True,
    '{"name": "f", "parameters": {"x": 1}}',
    eos="<|eot_id|>",
)

_MISTRAL = """\
{{- bos_token }}{%- set system = '' %}
{%- if messages[0].role == 'system' %}{%- set system = messages[0].content + '\\n\\n' %}
{%- set messages = messages[1:] %}{%- endif %}
{%- set users = messages | selectattr('role', 'equalto', 'user') | list %}
{%- set ns = namespace(index=0) %}
{%- for m in messages %}
{%- if m.role in ('user', 'assistant') and not m.tool_calls %}
{%- if (m.role == 'user') != (ns.index % 2 == 0) %}{{- raise_exception('roles must alternate') }}{%- endif %}
{%- set ns.index = ns.index + 1 %}
{%- endif %}
{%- endfor %}
{%- for m in messages %}
{%- if m.role == 'user' %}
{%- if tools and m == users[-1] %}{{- '[AVAILABLE_TOOLS] ' + (tools | tojson) + '[/AVAILABLE_TOOLS]' }}{%- endif %}
{{- '[INST] ' + (system if loop.last else '') + m.content + '[/INST]' }}
{%- elif m.tool_calls %}
CALLS
{%- elif m.role == 'assistant' %}{{- ' ' + m.content + eos_token }}
{%- elif m.role == 'tool' %}
{%- if m.tool_call_id | length != 9 %}{{- raise_exception('ids have 9 characters') }}{%- endif %}
{{- '[TOOL_RESULTS] {"content": ' + m.content + ', "call_id": "' + m.tool_call_id + '"}[/TOOL_RESULTS]' }}
{%- else %}{{- raise_exception('Only user and assistant roles are supported') }}
{%- endif %}
{%- endfor %}"""
MISTRAL_V3 = Fixture(
    _MISTRAL.replace(
        "CALLS",
        """{{- '[TOOL_CALLS] [' }}{%- for c in m.tool_calls %}
{%- if c.id | length != 9 %}{{- raise_exception('ids have 9 characters') }}{%- endif %}
{{- (c.function | tojson)[:-1] + ', "id": "' + c.id + '"}' }}{{- ', ' if not loop.last else ']' + eos_token }}
{%- endfor %}""",
    ),
    True,
    '[TOOL_CALLS] [{"name": "f", "arguments": {"x": 1}, "id": "call00000"}]',
    '[TOOL_CALLS] [{"name": "f", "arguments": {"x": 1}, "id": "call00000"}, '
    '{"name": "f", "arguments": {"x": 1}, "id": "call00001"}]',
)
MISTRAL_V11 = Fixture(
    _MISTRAL.replace(
        "CALLS",
        """{{- m.content or '' }}{%- for c in m.tool_calls %}
{{- '[TOOL_CALLS]' + c.function.name + '[ARGS]' }}
{{- c.function.arguments if c.function.arguments is string else c.function.arguments | tojson }}{%- endfor %}
{{- eos_token }}""",
    ),
    True,
    '[TOOL_CALLS]f[ARGS]{"x": 1}',
    '[TOOL_CALLS]f[ARGS]{"x": 1}[TOOL_CALLS]f[ARGS]{"x": 1}',
)

PHI3 = Fixture(
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}",
    native=False,
    eos="<|endoftext|>",
)
PHI4_MINI = Fixture(
    "{% for m in messages %}{% if m.role == 'system' and tools %}"
    "<|system|>{{ m.content }}<|tool|>{{ tools | tojson }}<|/tool|><|end|>"
    "{% else %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% else %}{{ eos_token }}{% endif %}",
    native=False,
    eos="<|endoftext|>",
)

GEMMA = Fixture(
    """\
{{ bos_token }}
{%- if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{%- endif %}
{%- for m in messages %}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{%- endif %}
{{- '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' + m.content | trim }}
{{- '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{%- endif %}""",
    native=False,
    eos="<end_of_turn>",
)

_DEEPSEEK_CALL = '<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{"x": 1}\n```<｜tool▁call▁end｜>'
DEEPSEEK_R1 = Fixture(
    """\
{%- set ns = namespace(first=true, out=false, system='') %}
{%- for m in messages %}{%- if m.role == 'system' %}{%- set ns.system = m.content %}{%- endif %}{%- endfor %}
{{- bos_token + ns.system }}
{%- for m in messages %}
{%- if m.role == 'user' %}{%- set ns.out = false %}{{- '<｜User｜>' + m.content }}{%- endif %}
{%- if m.role == 'assistant' and m.content is none %}
{%- for c in m.tool_calls %}
{%- if loop.first %}{{- '<｜Assistant｜><｜tool▁calls▁begin｜>' }}{%- else %}{{- '\\n' }}{%- endif %}
{{- '<｜tool▁call▁begin｜>' + c.type + '<｜tool▁sep｜>' + c.function.name + '\\n```json\\n' }}
{{- c.function.arguments + '\\n```<｜tool▁call▁end｜>' }}
{%- endfor %}
{{- '<｜tool▁calls▁end｜><｜end▁of▁sentence｜>' }}
{%- elif m.role == 'assistant' %}
{{- ('<｜tool▁outputs▁end｜>' if ns.out else '<｜Assistant｜>') + m.content.split('</think>')[-1] }}
{{- '<｜end▁of▁sentence｜>' }}{%- set ns.out = false %}
{%- elif m.role == 'tool' %}
{{- '<｜tool▁outputs▁begin｜>' if not ns.out else '\\n' }}{%- set ns.out = true %}
{{- '<｜tool▁output▁begin｜>' + m.content + '<｜tool▁output▁end｜>' }}
{%- endif %}
{%- endfor %}
{%- if ns.out %}{{- '<｜tool▁outputs▁end｜>' }}
{%- elif add_generation_prompt %}{{- '<｜Assistant｜><think>\\n' }}{%- endif %}
{%- if tools is defined and tools and false %}{{- tools | tojson }}{%- endif %}""",
    native=False,  # it writes calls, but never says which tools there are
    eos="<｜end▁of▁sentence｜>",
)
DEEPSEEK_V3 = Fixture(
    DEEPSEEK_R1.source.replace("{{- bos_token + ns.system }}", "{{- bos_token + ns.system }}{{- tools | tojson }}"),
    True,
    f"<｜tool▁calls▁begin｜>{_DEEPSEEK_CALL}<｜tool▁calls▁end｜>",
    f"<｜tool▁calls▁begin｜>{_DEEPSEEK_CALL}\n{_DEEPSEEK_CALL}<｜tool▁calls▁end｜>",
    eos="<｜end▁of▁sentence｜>",
)

COMMAND_R7B = Fixture(
    """\
{{ bos_token }}{%- set ns = namespace(index=0) %}
{{- '<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>Preamble. <|START_THINKING|> may come first.' }}
{%- for t in tools or [] %}{{- '\\n' + (t.function | tojson) }}{%- endfor %}
{%- if messages[0].role == 'system' %}{{- '\\n' + messages[0].content }}{%- endif %}{{- '<|END_OF_TURN_TOKEN|>' }}
{%- for m in messages %}
{%- if m.role == 'user' %}{{- '<|START_OF_TURN_TOKEN|><|USER_TOKEN|>' + m.content + '<|END_OF_TURN_TOKEN|>' }}
{%- elif m.role == 'assistant' %}
{{- '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}
{%- if m.tool_calls %}
{{- '<|START_THINKING|>' ~ m.reasoning_content ~ '<|END_THINKING|><|START_ACTION|>[\\n' }}
{%- for c in m.tool_calls %}
{{- '    {"tool_call_id": "' ~ ns.index ~ '", "tool_name": "' + c.function.name + '", "parameters": ' }}
{{- c.function.arguments | tojson + '}' }}{{- ',' if not loop.last }}{{- '\\n' }}{%- set ns.index = ns.index + 1 %}
{%- endfor %}
{{- ']<|END_ACTION|><|END_OF_TURN_TOKEN|>' }}
{%- else %}{{- '<|START_RESPONSE|>' + m.content + '<|END_RESPONSE|><|END_OF_TURN_TOKEN|>' }}{%- endif %}
{%- elif m.role == 'tool' %}
{{- '<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|><|START_TOOL_RESULT|>' + m.content | tojson + '<|END_TOOL_RESULT|>' }}
{{- '<|END_OF_TURN_TOKEN|>' }}
{%- endif %}
{%- endfor %}
{{- '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}""",
    True,
    '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "f", "parameters": {"x": 1}}\n]<|END_ACTION|>',
    '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "f", "parameters": {"x": 1}},\n'
    '    {"tool_call_id": "1", "tool_name": "f", "parameters": {"x": 1}}\n]<|END_ACTION|>',
    eos="<|END_OF_TURN_TOKEN|>",
)

NEMOTRON = Fixture(
    """\
{{- '<SPECIAL_10>System\\n' + (messages[0].content if messages[0].role == 'system' else '') }}
{%- if tools %}{{- '\\n<AVAILABLE_TOOLS>' + (tools | tojson) + '</AVAILABLE_TOOLS>' }}{%- endif %}
{%- for m in messages %}
{%- if m.role == 'user' %}{{- '\\n<SPECIAL_11>User\\n' + m.content }}
{%- elif m.role == 'tool' %}{{- '\\n<SPECIAL_11>User\\n<TOOL_RESPONSE>[' + m.content + ']</TOOL_RESPONSE>' }}
{%- elif m.role == 'assistant' %}
{{- '\\n<SPECIAL_11>Assistant\\n' }}{%- if loop.last and not m.tool_calls %}{{- '<think>\\n\\n' }}{%- endif %}
{{- m.content.split('</think>')[-1] }}
{%- if m.tool_calls %}
{{- '<TOOLCALL>[' }}{%- for c in m.tool_calls %}
{{- '{"name": "' + c.function.name + '", "arguments": ' + (c.function.arguments | tojson) + '}' }}
{{- ', ' if not loop.last }}{%- endfor %}{{- ']</TOOLCALL>' }}
{%- endif %}
{{- '\\n<SPECIAL_12>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '\\n<SPECIAL_11>Assistant\\n<think>\\n' }}{%- endif %}""",
    True,
    '<TOOLCALL>[{"name": "f", "arguments": {"x": 1}}]</TOOLCALL>',
    '<TOOLCALL>[{"name": "f", "arguments": {"x": 1}}, {"name": "f", "arguments": {"x": 1}}]</TOOLCALL>',
    eos="<SPECIAL_12>",
)

FUNCTION_TAGS = Fixture(
    QWEN25.source.replace(
        '\'<tool_call>\\n{"name": "\' + c.function.name + \'", "arguments": \'', "'<function=' + c.function.name + '>'"
    ).replace("'}\\n</tool_call>'", "'</function>'"),
    True,
    '<function=f>{"x": 1}</function>',
    '<function=f>{"x": 1}</function>\n<function=f>{"x": 1}</function>',
    eos="<|im_end|>",
)

QWEN3_CODER = Fixture(
    """\
{%- if tools %}{{- '<|im_start|>system\\n<tools>' + (tools | tojson) + '</tools><|im_end|>\\n' }}{%- endif %}
{%- for m in messages %}
{{- '<|im_start|>' + ('user' if m.role == 'tool' else m.role) + '\\n' + (m.content or '') }}
{%- for c in m.tool_calls or [] %}
{{- '<tool_call>\\n<function=' + c.function.name + '>\\n' }}
{%- for name, value in c.function.arguments.items() %}
{{- '<parameter=' + name + '>\\n' ~ value ~ '\\n</parameter>\\n' }}
{%- endfor %}
{{- '</function>\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}""",
    native=False,  # arguments that are not JSON
    eos="<|im_end|>",
)

GPT_OSS = Fixture(
    """\
{{- '<|start|>system<|message|>Reasoning: low' }}
{%- for t in tools or [] %}{{- '\\n' + (t.function | tojson) }}{%- endfor %}{{- '<|end|>' }}
{%- for m in messages %}
{%- if m.role == 'system' %}{{- '<|start|>developer<|message|>' + m.content + '<|end|>' }}
{%- elif m.role == 'user' %}{{- '<|start|>user<|message|>' + m.content + '<|end|>' }}
{%- elif m.tool_calls %}
{{- '<|start|>assistant to=functions.' + m.tool_calls[0].function.name + '<|channel|>commentary json<|message|>' }}
{{- m.tool_calls[0].function.arguments | tojson + '<|call|>' }}
{%- elif m.role == 'assistant' %}{{- '<|start|>assistant<|channel|>final<|message|>' + m.content + '<|end|>' }}
{%- if false %}{{- '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}{%- endif %}
{%- elif m.role == 'tool' %}{{- '<|start|>functions to=assistant<|channel|>commentary<|message|>' + m.content }}
{{- '<|end|>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant' }}{%- endif %}""",
    native=False,
    eos="<|return|>",
)

ALL = {name.lower(): value for name, value in sorted(globals().items()) if isinstance(value, Fixture)}
