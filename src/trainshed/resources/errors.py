"""What is wrong with a description that a user sent: which property, why, and what would be right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

#: The body is not JSON, not an object, or lacks something that is required.
INVALID_REQUEST_CONTENT = "InvalidRequestContent"
#: A value is of the wrong type, out of range, or does not fit the others.
INVALID_PROPERTY_VALUE = "InvalidPropertyValue"
#: A name in the path breaks the rules for names.
INVALID_RESOURCE_NAME = "InvalidResourceName"
#: A resource id is not of the shape that is needed.
INVALID_RESOURCE_ID = "InvalidResourceId"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. ``target`` is the JSON path, for example ``properties.inputDirectories[0].id``."""

    code: str
    message: str
    target: str = ""
    details: tuple[Problem, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As an entry of ``error`` or ``error.details`` of the contract (section 4)."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.target:
            error["target"] = self.target
        if self.details:
            error["details"] = [detail.to_json() for detail in self.details]
        return error


class InvalidResource(Exception):
    """A description cannot be accepted. The first problem is the main one; with several, all are in ``details``."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        if not problems:
            raise ValueError("InvalidResource needs at least one problem")
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems: tuple[Problem, ...] = tuple(problems)

    @classmethod
    def of(cls, code: str, message: str, target: str = "", details: Sequence[Problem] = ()) -> InvalidResource:
        """An error with one problem."""
        return cls([Problem(code, message, target, tuple(details))])

    @property
    def code(self) -> str:
        """Stable code of the first problem."""
        return self.problems[0].code

    @property
    def message(self) -> str:
        """What is wrong first, why, and the way out."""
        return self.problems[0].message

    @property
    def target(self) -> str:
        """JSON path of the first problem; empty when the body as a whole is wrong."""
        return self.problems[0].target

    @property
    def details(self) -> tuple[Problem, ...]:
        """All problems when there are several, else the only one's own details."""
        return self.problems if len(self.problems) > 1 else self.problems[0].details

    def to_json(self) -> dict[str, Any]:
        """The value of ``error`` in the answer's body."""
        return Problem(self.code, self.message, self.target, self.details).to_json()
