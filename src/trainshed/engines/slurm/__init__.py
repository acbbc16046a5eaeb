"""Slurm as an engine: it queues, places, pre-empts and requeues; Trainshed describes, hands over, watches, explains.

A cluster is a partition, an attempt one batch job on as many nodes as it needs, whose script starts the runner on each
of them. What the service and the nodes tell one another lies in a directory that both see (``places``). ``node`` is
what runs on the nodes: it travels with the job and imports the standard library and the runner only.
"""
