"""How each framework's job becomes processes. Pure: a job and its gang's hosts in, a launch plan out."""

from trainshed.toolkits.launch import Gang, Host, LaunchPlan, MpiFlavor, PlanError, Process
from trainshed.toolkits.registry import needs_mpi, plan, tool_type_of

__all__ = [
    "Gang",
    "Host",
    "LaunchPlan",
    "MpiFlavor",
    "PlanError",
    "Process",
    "needs_mpi",
    "plan",
    "tool_type_of",
]
