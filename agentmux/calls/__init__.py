"""How models call tools: what their chat templates make of calls, grammars of "a call or an answer", reading them back.

``describe`` finds out by probes how a chat template writes a call. Where that can be derived and proves right, the
model is held to its own format; else to ours, a line of JSON that the system message explains. ``plan_answer`` puts
tools, output type and format together: the grammar to generate by, and what to make of the text that comes of it.
"""

from agentmux.calls.format import UNIFORM, CallFormat, Choice, Reasoning, ReasoningState
from agentmux.calls.grammar import answer_grammar
from agentmux.calls.plan import AnswerPlan, AnswerPlans, plan_answer
from agentmux.calls.probe import describe
from agentmux.calls.read import Answer, Calls, Reasoned, read_answer
from agentmux.calls.render import described_tools, plain_messages

__all__ = [
    "UNIFORM",
    "Answer",
    "AnswerPlan",
    "AnswerPlans",
    "CallFormat",
    "Calls",
    "Choice",
    "Reasoned",
    "Reasoning",
    "ReasoningState",
    "answer_grammar",
    "describe",
    "described_tools",
    "plain_messages",
    "plan_answer",
    "read_answer",
]
