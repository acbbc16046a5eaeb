"""What of the environment of whoever started a node reaches its jobs."""

from __future__ import annotations

import pytest

from trainshed.runner.inherited import handed_on

KEPT = {
    "PATH": "/opt/venv/bin:/usr/bin",
    "LANG": "C.UTF-8",
    "HF_HOME": "/data/models",
    "PYENV_ROOT": "/opt/pyenv",
    "SSH_AUTH_SOCK": "/run/agent",
    "OMPI_MCA_btl_tcp_if_include": "eth1",
    "PMIX_MCA_gds": "hash",
    "PRTE_MCA_oob_tcp_if_include": "eth1",
    "RAYON_NUM_THREADS": "4",
    "RANKING": "kept",
}


@pytest.mark.parametrize(
    "name",
    [
        "TRAINSHED_TOKEN",
        "AZ_BATCHAI_INPUT_DATA",
        "SLURM_JOB_ID",
        "SLURMD_NODENAME",
        "RAY_AUTH_TOKEN",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_MCA_ess_base_vpid",
        "OMPI_MCA_orte_hnp_uri",
        "PMI_FD",
        "PMIX_NAMESPACE",
        "MPI_LOCALRANKID",
        "TORCHELASTIC_RUN_ID",
        "RANK",
        "MASTER_ADDR",
        "TF_CONFIG",
        "PYENV_VERSION",
        "_PYENV_INSTALL_PREFIX",
        "SSH_CONNECTION",
        "NOTIFY_SOCKET",
        "OLDPWD",
        "_",
    ],
)
def test_what_describes_the_starter_stays_behind(name: str) -> None:
    assert handed_on({**KEPT, name: "x"}) == KEPT
