"""Jobs in containers: the image, the container that a runtime builds of it, and how the runner's processes enter it.

A container runtime (podman, docker) is used for what it is good at: fetching images, and building the ground that a
container stands on (root file system, devices, mounts, GPU hooks). The job's processes are the runner's own children,
which *enter* that ground: so their output goes straight to the log files, exit codes are exact, they live in the PID
namespace of the attempt's isolation and in the node's control group, and nothing of them outlives the attempt. As soon
as its namespaces are open here, the runtime's own processes and records of the container are taken away again.
"""
