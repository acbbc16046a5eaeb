"""Setting a Slurm site up on hosts that are reached by SSH (``trainshed engine bootstrap slurm``).

``survey`` looks at the hosts, ``plan`` says from that, and from nothing else, what differs from the site that was asked
for, ``carry_out`` does it through ``ssh``. ``undo`` is a plan that takes away what another has made.
"""
