"""What a node hands on of the environment that it was started with: one rule, whichever engine started it.

The node daemon, a Slurm job or a raylet were started in somebody's shell, by systemd, or from within another job. Where
programs are and how they are to behave is the node's, and jobs have it too. What describes the session, the launcher or
the job that the starter was a part of is not handed on: a program that finds it takes itself for a part of that.
"""

from __future__ import annotations

from collections.abc import Mapping

#: The service's own and the contract's, which each job is given anew.
_OURS = ("TRAINSHED_", "AZ_BATCHAI_", "AZ_BATCH_")
#: Of jobs of cluster schedulers; of ranks, by Open MPI, PMI, PMIx, MPICH and torchrun; of sessions and tools.
_FOREIGN = (
    *("SLURM", "SRUN_", "SBATCH_", "SALLOC_", "RAY_", "PBS_", "LSB_"),
    *("OMPI_", "PMI_", "PMIX_", "PRTE_", "MPI_LOCAL", "TORCHELASTIC_"),
    *("PYENV_", "_PYENV_", "XDG_SESSION_", "SUDO_"),
)
_FOREIGN_NAMES = frozenset(
    {
        *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"),
        *("GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME", "TF_CONFIG"),
        *("_", "SHLVL", "PWD", "OLDPWD", "SSH_CLIENT", "SSH_CONNECTION", "SSH_TTY", "TMUX", "TMUX_PANE", "STY"),
        *("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR"),
        *("INVOCATION_ID", "JOURNAL_STREAM", "NOTIFY_SOCKET", "MAINPID", "MANAGERPID", "SYSTEMD_EXEC_PID"),
        *("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC", "CREDENTIALS_DIRECTORY"),
    }
)
#: Settings of a machine that begin like what is foreign; and of the first kind those that Open MPI sets for its ranks.
_SETTINGS = ("OMPI_MCA_", "PMIX_MCA_", "PRTE_MCA_")
_OF_RANKS = ("OMPI_MCA_ess", "OMPI_MCA_orte_", "OMPI_MCA_initial_wdir", "OMPI_MCA_shmem_RUNTIME")


def handed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """What jobs, and the setup of nodes, have of an environment."""
    return {name: value for name, value in environment.items() if not _stays_behind(name)}


def _stays_behind(name: str) -> bool:
    if name == "PYENV_ROOT" or (name.startswith(_SETTINGS) and not name.startswith(_OF_RANKS)):
        return False
    return name in _FOREIGN_NAMES or name.startswith((*_OURS, *_FOREIGN))
