"""Planner, coder and critic on a scripted engine: what they ask, what they make of answers, when the loop ends."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from agentmux import ConfigError, RequestInvalid, Runtime
from agentmux.agents import Solution, builtin_tasks, prompts, solve
from agentmux.agents.coder import extract_code
from agentmux.agents.sandbox import parse_examples
from agentmux.engine.base import TurnRequest
from agentmux.errors import OutputInvalid
from agentmux.testing import Answer, Refusal, ScriptedEngine
from agentmux.testing.scripted import Step

TASK = "Return the sum of the list."
EXAMPLES = ("f([1, 2]) == 3", "f([]) == 0")
PLAN = json.dumps({"steps": ["Add up the numbers.", "Return the sum."]})
RIGHT = "def f(xs):\n    return sum(xs)"
WRONG = "def f(xs):\n    return len(xs)"
WRONG_REPORT = "wrong f([1, 2]) == 3, got 2\nok f([]) == 0"
APPROVED = '{"approve": true, "feedback": ""}'


def rejected(feedback: str) -> str:
    return json.dumps({"approve": False, "feedback": feedback})


async def solved(coder: list[str | Answer], critic: list[str | Answer], rounds: int = 3) -> tuple[Solution, list[str]]:
    """The solution, and the prompts that the coder and the critic got."""
    engine = ScriptedEngine({"planner": [PLAN], "coder": coder, "critic": critic})
    async with Runtime(models=engine.models, engine=engine) as mux:
        result = await mux.run(solve, TASK, EXAMPLES, rounds)
    return result.output, [str(call.prompt) for call in engine.calls]


async def test_right_at_once() -> None:
    solution, asked = await solved([RIGHT], [APPROVED])
    assert solution.passed
    assert solution.rounds == 1
    assert solution.code == RIGHT
    assert solution.steps == ("Add up the numbers.", "Return the sum.")
    assert solution.verdict.approve
    assert prompts.planner_prompt(TASK) in asked[0]
    assert prompts.coder_prompt(TASK, solution.steps) in asked[1]
    assert prompts.critic_prompt(TASK, RIGHT, "ok f([1, 2]) == 3\nok f([]) == 0") in asked[2]


async def test_feedback_leads_to_a_second_round() -> None:
    solution, asked = await solved([WRONG, RIGHT], [rejected("It counts;\nadd instead."), APPROVED])
    assert solution.passed
    assert solution.rounds == 2
    assert prompts.critic_prompt(TASK, WRONG, WRONG_REPORT) in asked[2]
    assert prompts.coder_prompt(TASK, solution.steps, WRONG, "It counts; add instead.") in asked[3]


async def test_approval_does_not_make_a_wrong_program_pass() -> None:
    solution, asked = await solved([WRONG, RIGHT], [APPROVED, APPROVED])
    assert solution.passed
    assert solution.rounds == 2
    assert prompts.coder_prompt(TASK, solution.steps, WRONG, "wrong f([1, 2]) == 3, got 2") in asked[3]


async def test_rejected_but_passing_program_is_kept_when_nothing_better_comes() -> None:
    solution, _ = await solved([RIGHT, WRONG], [rejected("Ugly."), rejected("Wrong now.")], rounds=2)
    assert solution.passed
    assert solution.code == RIGHT
    assert not solution.verdict.approve
    assert solution.rounds == 2


async def test_third_round_shows_every_program_that_failed_once() -> None:
    other, third = "def f(xs):\n    return None", "def f(xs):\n    return []"
    solution, asked = await solved([WRONG, other, third, RIGHT], [rejected("No.")] * 3 + [APPROVED], rounds=4)
    assert solution.passed
    assert prompts.coder_prompt(TASK, solution.steps, other, "No.", (WRONG,)) in asked[5]
    assert prompts.coder_prompt(TASK, solution.steps, third, "No.", (WRONG, other)) in asked[7]


def going_round_in_circles(drawn: Callable[[TurnRequest], Step], says: str = "") -> ScriptedEngine:
    """Greedily the coder writes WRONG again and again; ``drawn`` is what it writes with a temperature."""

    def coder(request: TurnRequest) -> Step:
        return drawn(request) if request.sampling.temperature else WRONG

    def critic(request: TurnRequest) -> Step:
        if request.sampling.temperature:
            return says or rejected(f"objection {request.sampling.seed}")
        return APPROVED if RIGHT in str(request.prompt) else rejected("No.")

    return ScriptedEngine({"planner": lambda _: PLAN, "coder": coder, "critic": critic})


async def test_coder_that_repeats_itself_is_asked_for_several_attempts_at_once() -> None:
    engine = going_round_in_circles(lambda request: RIGHT if "objection 302" in str(request.prompt) else WRONG)
    async with Runtime(models=engine.models, engine=engine) as mux:
        solution = (await mux.run(solve, TASK, EXAMPLES, 5)).output
    assert solution.passed
    assert solution.code == RIGHT
    assert solution.rounds == 3
    drawn = [request for request in engine.calls if request.sampling.temperature]
    assert sorted(request.sampling.seed for request in drawn) == sorted([300, 301, 302, 303] * 2)
    assert len({request.sampling.temperature for request in drawn}) == 4
    assert "Feedback: objection 302" in next(
        str(r.prompt) for r in drawn if r.model == "coder" and "302" in str(r.prompt)
    )


@pytest.mark.parametrize("says", ["", "no verdict"])
async def test_rounds_are_bounded_whatever_is_drawn(says: str) -> None:
    engine = going_round_in_circles(lambda _: WRONG, says)
    async with Runtime(models=engine.models, engine=engine) as mux:
        solution = (await mux.run(solve, TASK, EXAMPLES, 4)).output
    assert not solution.passed
    assert solution.code == WRONG
    assert solution.rounds == 4
    assert sum(request.model == "coder" for request in engine.calls) == (2 if says else 2 + 2 * 4)


async def test_drawn_attempt_that_is_new_and_wrong_is_what_is_mended_next() -> None:
    other = "def f(xs):\n    return None"
    engine = going_round_in_circles(lambda r: RIGHT if f"Attempt:\n{other}" in str(r.prompt) else other)
    async with Runtime(models=engine.models, engine=engine) as mux:
        solution = (await mux.run(solve, TASK, EXAMPLES, 4)).output
    assert solution.passed
    assert solution.rounds == 4


async def test_passing_program_is_never_told_to_have_failed() -> None:
    solution, asked = await solved([RIGHT, WRONG, RIGHT], [rejected("Ugly.")] * 2)
    assert solution.passed
    assert "Failed before" not in "".join(asked)


async def test_coder_that_stands_by_a_passing_program_ends_the_loop() -> None:
    solution, _ = await solved([RIGHT, RIGHT], [rejected("Ugly.")])
    assert solution.passed
    assert solution.rounds == 2


async def test_rounds_are_bounded() -> None:
    other, third = "def f(xs):\n    return None", "def f(xs):\n    return []"
    solution, _ = await solved([WRONG, other, third], [rejected("No.")] * 3)
    assert not solution.passed
    assert solution.rounds == 3
    assert solution.code == third


async def test_later_of_two_failing_programs_is_reported() -> None:
    other = "def f(xs):\n    return None"
    solution, _ = await solved([WRONG, other], [rejected("No."), rejected("No.")], rounds=2)
    assert solution.code == other


async def test_malformed_example_is_refused_before_any_model_is_asked() -> None:
    engine = ScriptedEngine({"planner": [], "coder": [], "critic": []})
    async with Runtime(models=engine.models, engine=engine) as mux:
        with pytest.raises(ConfigError, match="not of the form"):
            await mux.run(solve, TASK, ("f(1) > 2",))
        with pytest.raises(ConfigError, match="at least one example"):
            await mux.run(solve, TASK, ())
        with pytest.raises(ConfigError, match="max_rounds=0"):
            await mux.run(solve, TASK, EXAMPLES, 0)
    assert engine.calls == []


async def test_plan_that_is_no_plan_is_output_invalid() -> None:
    engine = ScriptedEngine({"planner": lambda _: "no JSON", "coder": [], "critic": []})
    async with Runtime(models=engine.models, engine=engine) as mux:
        with pytest.raises(OutputInvalid):
            await mux.run(solve, TASK, EXAMPLES)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (RIGHT, RIGHT),
        (f"\n{RIGHT}\n\n", RIGHT),
        (f"```python\n{RIGHT}\n```", RIGHT),
        (f"Here it is:\n\n```py\n{RIGHT}\n```\nIt adds.", RIGHT),
        (f"```\npip install x\n```\nthen\n```python\n{RIGHT}\n```", RIGHT),
        (f"```python\n{RIGHT}", RIGHT),
        (f"<think>def f? ```python\nno\n```</think>\n{RIGHT}", RIGHT),
        ("", ""),
        ("I cannot.", "I cannot."),
    ],
)
def test_code_is_found_in_what_models_answer(answer: str, code: str) -> None:
    assert extract_code(answer) == code


async def test_refused_turn_ends_the_run_with_its_error() -> None:
    engine = ScriptedEngine({"planner": [PLAN], "coder": [Refusal(RequestInvalid("no such token"))], "critic": []})
    async with Runtime(models=engine.models, engine=engine) as mux:
        with pytest.raises(RequestInvalid, match="no such token"):
            await mux.run(solve, TASK, EXAMPLES)


def test_built_in_tasks_are_well_formed() -> None:
    tasks = builtin_tasks()
    assert len(tasks) == 12
    assert len({task.description for task in tasks}) == 12
    for task in tasks:
        assert len(parse_examples(task.examples)) >= 2
        assert len(parse_examples(task.hidden)) >= 2
        assert not set(task.examples) & set(task.hidden)
