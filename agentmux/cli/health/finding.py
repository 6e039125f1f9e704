"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's: ``ok``, ``warn`` (usable, but less than it could be) or ``fail`` (not usable)."""

    name: str
    status: Status
    text: str
    advice: str = ""
    """What to do about it; empty where nothing is to be done."""
