"""What the doctor finds: a check with its verdict, and what to do."""

from enum import StrEnum

import msgspec


class Verdict(StrEnum):
    """How grave a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Check(msgspec.Struct, frozen=True):
    """One thing looked at: what was found, and what to do when it is not well."""

    check: str
    verdict: Verdict
    finding: str
    advice: str | None = None
