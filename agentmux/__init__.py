"""Several AI agents, each bound to its own LLM, on one small GPU.

::

    class Planner(Agent):
        model = "planner"
        instructions = "Answer with a short numbered plan."

    async with Runtime(models={"planner": "planner.gguf"}, vram="8GiB") as mux:
        result = await mux.run(Planner, "sort the even numbers")
"""

from agentmux.agent import Agent, Run
from agentmux.config import Limits, ModelSpec
from agentmux.errors import (
    AdmissionError,
    AgentmuxError,
    ConfigError,
    ContextOverflow,
    EngineError,
    JournalError,
    LimitExceeded,
    ModelCorrupt,
    ModelError,
    ModelNotFound,
    ModelUnsupported,
    NeverFits,
    OutputInvalid,
    QueueFull,
    QueueTimeout,
    RequestInvalid,
    ToolError,
    ToolInDoubt,
)
from agentmux.messages import (
    AgentErrored,
    AgentFinished,
    AgentStarted,
    Completion,
    Event,
    Message,
    OutputRetried,
    PrefillProgressed,
    RunErrored,
    RunFinished,
    RunResult,
    RunStarted,
    TextStreamed,
    ToolCall,
    ToolCalled,
    ToolErrored,
    ToolReturned,
    TurnAdmitted,
    TurnCancelled,
    TurnCompleted,
    TurnErrored,
    TurnNumbers,
    TurnQueued,
    Usage,
)
from agentmux.pipeline import pipeline
from agentmux.runtime import Runtime, RuntimeStats
from agentmux.sampling import SamplingParams
from agentmux.tools import ModelRetry, Tool, tool

__all__ = [
    "AdmissionError",
    "Agent",
    "AgentErrored",
    "AgentFinished",
    "AgentStarted",
    "AgentmuxError",
    "Completion",
    "ConfigError",
    "ContextOverflow",
    "EngineError",
    "Event",
    "JournalError",
    "LimitExceeded",
    "Limits",
    "Message",
    "ModelCorrupt",
    "ModelError",
    "ModelNotFound",
    "ModelRetry",
    "ModelSpec",
    "ModelUnsupported",
    "NeverFits",
    "OutputInvalid",
    "OutputRetried",
    "PrefillProgressed",
    "QueueFull",
    "QueueTimeout",
    "RequestInvalid",
    "Run",
    "RunErrored",
    "RunFinished",
    "RunResult",
    "RunStarted",
    "Runtime",
    "RuntimeStats",
    "SamplingParams",
    "TextStreamed",
    "Tool",
    "ToolCall",
    "ToolCalled",
    "ToolError",
    "ToolErrored",
    "ToolInDoubt",
    "ToolReturned",
    "TurnAdmitted",
    "TurnCancelled",
    "TurnCompleted",
    "TurnErrored",
    "TurnNumbers",
    "TurnQueued",
    "Usage",
    "pipeline",
    "tool",
]
