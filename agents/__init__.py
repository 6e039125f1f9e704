"""The bundled agents: a planner, a coder and a critic, and the loop that has them write checked programs."""

from agentmux.agents.code_loop import Solution, solve
from agentmux.agents.coder import Coder
from agentmux.agents.critic import Critic, Review, Verdict
from agentmux.agents.planner import Plan, Planner
from agentmux.agents.sandbox import Report, SandboxLimits, run_examples
from agentmux.agents.tasks import Task, builtin_tasks

__all__ = [
    "Coder",
    "Critic",
    "Plan",
    "Planner",
    "Report",
    "Review",
    "SandboxLimits",
    "Solution",
    "Task",
    "Verdict",
    "builtin_tasks",
    "run_examples",
    "solve",
]
