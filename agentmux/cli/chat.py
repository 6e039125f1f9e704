"""``agentmux chat``: talk with a model, at a terminal or with one question."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass

import click

from agentmux.cli.conversation import Conversation, conversation
from agentmux.cli.lines import LineReader
from agentmux.cli.opening import DEVICE, open_runtime
from agentmux.cli.options import Size
from agentmux.cli.output import Output
from agentmux.cli.signals import Steps, Stopped, run_to_end
from agentmux.cli.summary import size_text
from agentmux.config import ModelSpec
from agentmux.errors import AgentmuxError, ContextOverflow, EngineError
from agentmux.messages import TurnNumbers
from agentmux.models import named
from agentmux.paths import home
from agentmux.runtime import Runtime
from agentmux.sampling import SamplingParams

HELP = "/reset begins anew, /stats says what the last answer took, /quit or Ctrl-D ends; Ctrl-C stops an answer"


@dataclass(frozen=True, slots=True)
class Setting:
    """Whom to talk with, and how."""

    name: str
    spec: ModelSpec
    vram: int | None
    device: str | None
    threads: int | None
    system: str
    sampling: SamplingParams
    max_tokens: int

    def runtime(self) -> Runtime:
        """A runtime with the model, not yet entered."""
        return open_runtime({self.name: self.spec}, vram=self.vram, device=self.device, threads=self.threads)


@click.command()
@click.argument("model")
@click.option("--system", default="", metavar="TEXT", help="The system message. Default: none.")
@click.option("--prompt", metavar="TEXT", help="Answer this once and end; - reads it from standard input.")
@click.option(
    "--max-tokens", type=click.IntRange(min=1), default=512, show_default=True, help="Of one answer, at most."
)
@click.option("--temperature", type=click.FloatRange(0, 100), default=0.0, show_default=True, help="0 is greedy.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 2), default=0, show_default=True, help="With a temperature.")
@click.option("--context-tokens", type=click.IntRange(min=1), help="Default: 4096, or what the model was trained on.")
@click.option("--vram", type=Size(), help="Budget of device memory. Default: nine tenths of what is free.")
@DEVICE
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads. Default: the cores it may use.")
@click.option("--json", "as_json", is_flag=True, help="With --prompt: print one JSON document and nothing else.")
def chat(
    model: str,
    system: str,
    prompt: str | None,
    max_tokens: int,
    temperature: float,
    seed: int,
    context_tokens: int | None,
    vram: int | None,
    device: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Talk with MODEL, a GGUF file or the name of a model.

    The model answers by its own chat template. At a terminal the conversation is kept, and what was said before is not
    computed again; /help names the commands. With --prompt, or where standard input is no terminal, it answers once.
    """
    spec = named(model)
    if context_tokens is not None:
        spec = dataclasses.replace(spec, context_tokens=context_tokens)
    sampling = SamplingParams(temperature=temperature, seed=seed)
    if system:  # asked for, whatever the model was trained on
        spec = dataclasses.replace(spec, system_messages=True)
    setting = Setting(model, spec, vram, device, threads, system, sampling, max_tokens)
    if prompt is None and sys.stdin is not None and sys.stdin.isatty():
        if as_json:
            raise click.UsageError("--json needs a --prompt")
        _talk(setting)
        return
    text = _stdin() if prompt is None or prompt == "-" else prompt
    if not text.strip():
        raise click.UsageError("there is no prompt: --prompt, or standard input, is empty")
    run_to_end(_answer(setting, text, as_json))


def _stdin() -> str:
    try:
        return sys.stdin.read().removesuffix("\n") if sys.stdin is not None else ""
    except UnicodeDecodeError as error:
        raise click.UsageError(f"standard input is no text: {error}") from error


async def _answer(setting: Setting, prompt: str, as_json: bool) -> None:
    output = Output()
    said: list[str] = []

    def hear(text: str) -> None:
        said.append(text)
        if not as_json:
            output.text(text) if output.is_terminal else output.write(text)

    async with setting.runtime() as mux, _conversation(mux, setting) as talk:
        numbers = await talk.ask(prompt, hear)
    if not as_json:
        output.line()
        if numbers.finish_reason == "length" and sys.stderr is not None and sys.stderr.isatty():
            click.echo(f"agentmux: {_cut(numbers)}", err=True)
        return
    document = {"model": setting.name, "text": "".join(said), "finish_reason": numbers.finish_reason}
    output.line(json.dumps(document | {"numbers": asdict(numbers)}, ensure_ascii=False))


def _conversation(mux: Runtime, setting: Setting) -> AbstractAsyncContextManager[Conversation]:
    return conversation(mux, setting.name, setting.system, setting.sampling, setting.max_tokens)


def _cut(numbers: TurnNumbers) -> str:
    return f"the answer was cut after {numbers.generated_tokens} tokens (--max-tokens, or the end of the context)"


def _talk(setting: Setting) -> None:
    """At a terminal, until /quit, the end of input or Ctrl-C at the prompt."""
    output = Output()
    with (
        Steps() as steps,
        _opened(steps, setting) as (mux, talk),
        _stop_at_prompt(),
        LineReader(home(os.environ)) as reader,
    ):
        context_tokens = mux.footprint(setting.name).context_tokens
        output.line(f"{setting.name}: context of {context_tokens} tokens")
        output.line(HELP)
        while (text := reader.read("> ")) is not None:
            if text.startswith("/"):
                if not _command(text, output, mux, setting.name, talk):
                    return
            elif text.strip():
                _turn(steps, output, talk, text)


@contextmanager
def _opened(steps: Steps, setting: Setting) -> Iterator[tuple[Runtime, Conversation]]:
    stack = AsyncExitStack()

    async def enter() -> tuple[Runtime, Conversation]:
        mux = await stack.enter_async_context(setting.runtime())
        return mux, await stack.enter_async_context(_conversation(mux, setting))

    try:
        yield steps.run(enter())
    finally:
        steps.run(stack.aclose())


@contextmanager
def _stop_at_prompt() -> Iterator[None]:
    """SIGTERM ends the chat in order also while it waits for a line."""

    def stop(number: int, frame: object) -> None:
        raise Stopped(signal.Signals(number))

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _turn(steps: Steps, output: Output, talk: Conversation, text: str) -> None:
    try:
        numbers = steps.run(talk.ask(text, output.text))
    except Stopped as stopped:
        if stopped.number != signal.SIGINT:
            output.line()
            raise
        output.line(" [stopped]")
    except ContextOverflow as error:
        output.line(f"[{error}; /reset begins anew]")
    except EngineError:
        raise
    except AgentmuxError as error:
        output.line(f"[error: {' '.join(str(error).split())}]")
    else:
        output.line()
        if numbers.finish_reason == "length":
            output.line(f"[{_cut(numbers)}]")


def _command(text: str, output: Output, mux: Runtime, model: str, talk: Conversation) -> bool:
    """Whether the chat goes on."""
    match text.split():
        case ["/quit" | "/exit"]:
            return False
        case ["/reset"]:
            talk.clear()
            output.line("[a new conversation]")
        case ["/stats"]:
            for line in _stats(mux, model, talk):
                output.line(line)
        case ["/help"]:
            output.line(HELP)
        case _:
            output.line(f"[no command {text.split()[0]}; {HELP}]")
    return True


def _stats(mux: Runtime, model: str, talk: Conversation) -> Iterator[str]:
    numbers, context_tokens = talk.last, mux.footprint(model).context_tokens
    if numbers is None:
        yield "nothing has been said yet"
    else:
        used = numbers.prompt_tokens + numbers.generated_tokens
        speed = numbers.generated_tokens / numbers.decode_s if numbers.decode_s > 0 else 0.0
        yield f"context       {used} of {context_tokens} tokens"
        yield f"prompt        {numbers.prompt_tokens} tokens, {numbers.reused_tokens} of them kept from before"
        yield f"answer        {numbers.generated_tokens} tokens, {speed:.1f} tokens/s"
        yield f"first token   after {numbers.time_to_first_token_s:.3f} s"
    engine = mux.stats().engine
    resident = sum(model.resident_bytes for model in engine.models)
    paged = size_text(engine.uploaded_bytes)
    yield f"memory        {size_text(resident)} resident on {engine.device}, {paged} paged in"
