"""Several AI agents, each bound to its own LLM, on one small GPU."""
