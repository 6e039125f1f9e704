"""Runs that survive their process: how they are written into a journal, and taken up again from it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from agentmux.agent import Agent
from agentmux.config import Limits, RuntimeConfig
from agentmux.errors import JournalError
from agentmux.journal import Journal, RecordedSession, RunRecord
from agentmux.keys import new_id
from agentmux.models import expanded
from agentmux.sessions import NamedSessions
from agentmux.targets import arguments_json, arguments_of, find, name_of

NO_ARGUMENTS = "null"
"""Recorded where arguments are no JSON: the run can be resumed only by whoever has them."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """A run that is taken up again: what to run, with what, and what it did before."""

    record: RunRecord
    target: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    limits: Limits | None
    session: str | None
    """The name of the session that it goes on in."""


class DurableRuns:
    """The runs of one runtime in its journal."""

    def __init__(self, journal: Journal, config: RuntimeConfig) -> None:
        self.journal = journal
        self._settings = settings_json(config)
        self._name_of: Callable[[Any], str] = functools.lru_cache(maxsize=256)(name_of)
        self._limits = functools.lru_cache(maxsize=16)(lambda limits: json.dumps(asdict(limits)))

    def begin(
        self,
        target: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        limits: Limits,
        session: RecordedSession | None,
    ) -> RunRecord:
        """Write down that a run begins, in this session if in one with a name. Raises JournalError."""
        return self.journal.begin(
            new_id(),
            # An agent's attributes may change, and one that compares equal to others may have no hash.
            name_of(target) if isinstance(target, Agent) else self._name_of(target),
            arguments_json(args, kwargs) or NO_ARGUMENTS,
            self._settings,
            self._limits(limits),
            session,
        )

    def resume(
        self,
        run: str,
        target: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        rerun_in_doubt: bool,
        session: str | None,
        sessions: NamedSessions,
    ) -> Resumed:
        """Take a run up again: with this target and these arguments, or, without a target, as it was recorded; in the
        session that it was in, or in that of the name given, which then holds what it held as the run began.

        Raises JournalError if there is no such run, if it is under way or finished, its arguments were not recorded, or
        its session has gone on without it; ConfigError if its target cannot be found any more.
        """
        details = self.journal.show(self.journal.find(run))
        summary = details.summary
        if target is None and summary.status not in (
            "running",
            "finished",
        ):  # the journal says what is wrong with those
            if details.arguments == NO_ARGUMENTS:
                raise JournalError(
                    f"run {run} was given arguments that are no JSON; resume it from the program that has them"
                )
            target = find(summary.target)
            args, kwargs = arguments_of(target, details.arguments)
        limits = Limits(**json.loads(details.limits)) if details.limits else None
        began = details.session and replace(details.session, name=session or details.session.name)
        if began:
            self.journal.check_resumable(summary.id)
            sessions.check_restorable(began, summary.id)
        record = self.journal.resume(summary.id, rerun_in_doubt=rerun_in_doubt)
        if began:
            sessions.restore(began, summary.id)
        return Resumed(record, target, args, kwargs, limits, began.name if began else session)


def settings_json(config: RuntimeConfig) -> str:
    """What a runtime has to be given to be like this one, where that matters to a run's answers and its memory."""
    models = {
        name: {
            "path": expanded(spec),
            "context_tokens": spec.context_tokens,
            "slots": spec.slots,
            "batch_tokens": spec.batch_tokens,
            "system_messages": spec.system_messages,
        }
        for name, spec in config.models.items()
    }
    return json.dumps({"models": models, "vram": config.vram, "device": config.device, "threads": config.threads})
