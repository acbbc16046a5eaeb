"""What stands in the way of a site, and how to get it out of the way."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ProblemCode(StrEnum):
    """Stable codes; docs/slurm.md explains each."""

    HOST_UNREACHABLE = "HostUnreachable"
    HOST_KEY_UNKNOWN = "HostKeyUnknown"
    LOGIN_REFUSED = "LoginRefused"
    NO_ROOT = "NoRoot"
    SURVEY_FAILED = "SurveyFailed"
    UNSUPPORTED_SYSTEM = "UnsupportedSystem"
    DIFFERENT_SYSTEMS = "DifferentSystems"
    SAME_HOST = "SameHost"
    NO_PACKAGES = "NoPackages"
    OTHER_SLURM = "OtherSlurm"
    NAME_NOT_RESOLVED = "NameNotResolved"
    CLOCK_SKEW = "ClockSkew"
    USER_DIFFERS = "UserDiffers"
    DIRECTORY_NOT_SHARED = "DirectoryNotShared"
    DIRECTORY_NOT_WRITABLE = "DirectoryNotWritable"
    NO_SYSTEMD = "NoSystemd"
    JOBS_RUN = "JobsRun"
    STEP_FAILED = "StepFailed"


@dataclass(frozen=True, slots=True)
class Problem:
    """One, of one host."""

    host: str
    code: ProblemCode
    what: str
    #: What to do about it.
    mend: str

    def __str__(self) -> str:
        return f"{self.host}: {self.code.value}: {self.what}. {self.mend}"

    @property
    def json(self) -> dict[str, str]:
        """For ``-o json``."""
        return {"host": self.host, "code": self.code.value, "message": self.what, "mend": self.mend}
