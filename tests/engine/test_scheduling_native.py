"""Three agents on three models in parallel, with room for one and a half: the native engine does what was simulated."""

from __future__ import annotations

import asyncio

from agentmux import Runtime
from agentmux.bench.simulator import simulate
from agentmux.bench.simulator_optimum import optimum
from agentmux.bench.simulator_workloads import SimulatedModel, SimulatedRun, SimulatedTurn, SimulatedWorkload
from agentmux.messages import Completion
from agentmux.models import bundled_models
from agentmux.testing import FakeClock, settle

TURNS = 4
TOKENS = 24


async def agent(mux: Runtime, model: str) -> list[Completion]:
    """Asks, and asks again with the answer, as a conversation does."""
    answers: list[Completion] = []
    prompt: tuple[int, ...] = tuple(range(20, 52))
    for _ in range(TURNS):
        answers.append(await mux.generate(model, prompt, max_tokens=TOKENS, ignore_eos=True))
        prompt = (*prompt, *answers[-1].tokens)
    return answers


async def test_three_agents_in_the_room_of_one_and_a_half() -> None:
    models = bundled_models()
    async with Runtime(models=models, device="cpu", threads=1) as mux:
        weights = {name: mux.footprint(name).weight_bytes for name in models}
        alone = {name: await agent(mux, name) for name in models}
    # One and a half of the mean; the largest does not fit as a whole, and no two of them fit beside each other.
    arena = sum(weights.values()) // 2
    smallest = sorted(weights.values())
    arena = min(arena, smallest[0] + smallest[1] - 1)
    async with Runtime(models=models, device="cpu", threads=1, vram=arena, min_residency_s=60) as mux:
        answers = await asyncio.gather(*(agent(mux, name) for name in models))
        stats = mux.stats()
    for name, got in zip(models, answers, strict=True):
        assert [one.tokens for one in got] == [one.tokens for one in alone[name]], "and to the same words"
    assert (stats.finished, stats.failed, stats.cancelled) == (len(models) * TURNS, 0, 0)
    workload = SimulatedWorkload(
        name="native",
        models={name: SimulatedModel(weight_bytes=weight, slots=1) for name, weight in weights.items()},
        runs=tuple(
            SimulatedRun(turns=(SimulatedTurn(model=name, prompt_tokens=32, answer_tokens=TOKENS),) * TURNS)
            for name in models
        ),
        arena_bytes=arena,
    )
    least = optimum(workload).switches
    assert least == len(models) - 1
    assert simulate(workload).switches == least
    assert least <= stats.engine.switches <= least + 1
    assert stats.engine.evicted_units > 0, "they did not fit together"


async def test_a_long_answer_makes_way_and_goes_on_with_the_same_words() -> None:
    models, clock = bundled_models(), FakeClock()
    prompt = tuple(range(20, 52))
    async with Runtime(models=models, device="cpu", threads=1) as mux:
        arena = max(mux.footprint(name).weight_bytes for name in ("coder", "planner"))
        alone = await mux.generate("coder", prompt, max_tokens=900, ignore_eos=True)
    async with Runtime(models=models, device="cpu", threads=1, vram=arena, clock=clock) as mux:
        scheduler = mux._opened().scheduler
        long = asyncio.create_task(mux.generate("coder", prompt, max_tokens=900, ignore_eos=True))
        while mux.stats().engine.steps < 20:
            await settle(1)
        short = asyncio.create_task(mux.generate("planner", prompt, max_tokens=4, ignore_eos=True))
        while not scheduler.queued:
            await settle(1)
        clock.advance(5)  # more than two quanta
        await short
        assert not long.done()
        assert scheduler.parks == 1
        assert (await long).tokens == alone.tokens
        assert mux.stats().switches == 2
