"""Where jobs of several Unix users write on a directory that they share: each job has folders of its user's.

Below a prefix that the user chose, the contract's path is ``{subscription}/.../jobs/{job}/{uid}``. The service makes
what is above ``{uid}``, sticky and open to all, so that others can make theirs beside; ``{uid}`` is the user's, and
closed to others. (With users of workspaces, as on the local engine, that is so one level of names higher.)
"""

from __future__ import annotations

import os

from trainshed.engines.protocol import GangSpec
from trainshed.engines.slurm.node.places import Places
from trainshed.engines.slurm.owners import Owner
from trainshed.resources import directories
from trainshed.runner import claims


def open_to_owner(root: Places, gang: GangSpec, owner: Owner | None) -> None:
    """Make the folders of a job's logs and outputs on its cluster's directory. Raises OSError."""
    if owner is None:
        return
    mounts = root.mount_root(gang.cluster_uid)
    mounts.parent.chmod(0o711)
    claims.open_to_all(str(mounts))
    for path in _written(gang, str(mounts)):
        claims.claim_for_job(str(mounts), path, gang.segment, owner.uid, owner.gid)


def _written(gang: GangSpec, mounts: str) -> list[str]:
    """Paths below which the job's logs and outputs are to lie, as its variables will say."""
    nowhere = f"{os.sep}nowhere"
    environment = directories.job_environment(
        gang.properties,
        directories.JobPlace(
            workspace=gang.workspace,
            experiment=gang.experiment,
            job=gang.job,
            segment=gang.segment,
            mount_root=mounts,
            job_temp_root=nowhere,
            shared_job_temp=nowhere,
            addresses=(),
        ),
    )
    names = [f"AZ_BATCHAI_OUTPUT_{output['id']}" for output in gang.properties.get("outputDirectories") or []]
    found = [environment[name] for name in ("AZ_BATCHAI_STDOUTERR_DIR", directories.CHECKPOINT_VARIABLE, *names)]
    return [*found, directories.kept_logs(mounts, gang.segment)]
