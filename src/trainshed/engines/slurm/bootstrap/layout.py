"""Where things of a site that was set up here are on its hosts, and what they are called."""

from __future__ import annotations

CONF = "/etc/slurm/slurm.conf"
CGROUP_CONF = "/etc/slurm/cgroup.conf"
GRES_CONF = "/etc/slurm/gres.conf"
FILES = (CONF, CGROUP_CONF, GRES_CONF)
KEY = "/etc/munge/munge.key"
#: The key that a host had before, put back by ``--undo``.
FORMER_KEY = "/etc/munge/munge.key.before-trainshed"
#: Everything else of ours: state of the controller, spool of the nodes, when daemons were started.
OWN = "/var/lib/trainshed-slurm"
LOGS = "/var/log/slurm"
#: slurm.conf's first line is this and the site's name: what is not so is not touched.
MARK = "# Made by trainshed engine bootstrap slurm for the site "
#: Ports of Slurm that hosts reach one another at: controller, nodes; srun listens in the range.
PORTS, SRUN_PORTS = (6817, 6818), "60001-63000"

NODE_PACKAGES = ("munge", "slurmd", "slurm-client", "slurm-wlm-basic-plugins", "python3")
CONTROLLER_PACKAGES = ("slurmctld",)
DAEMONS = ("munged", "slurmctld", "slurmd")
#: Their services.
UNITS = {"munged": "munge", "slurmctld": "slurmctld", "slurmd": "slurmd"}
