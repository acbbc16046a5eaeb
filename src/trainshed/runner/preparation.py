"""jobPreparation: one command line on every node before the toolkit's processes (behaviour 5.1)."""

from __future__ import annotations

from trainshed.resources import directories
from trainshed.runner.failure import preparation_failed
from trainshed.runner.home import Bashrc, ContainersBashrc
from trainshed.runner.node import Node


def prepare(node: Node) -> None:
    """Run the preparation and wait for its end. Raises AttemptEnded (JobPreparationFailed, naming the node)."""
    command_line = (node.spec.properties.get("jobPreparation") or {}).get("commandLine")
    if not command_line:
        return
    assert node.isolation is not None
    bashrc: Bashrc | ContainersBashrc
    if node.container is not None:
        bashrc = ContainersBashrc(node.job_temp, node.capture)
    else:
        home, stranger = node.environment.get("HOME", ""), node.spec.view is not None
        bashrc = Bashrc(home, node.job_temp, node.isolation.own_mounts, stranger)
    stdout, stderr = directories.preparation_logs(node.host.name if node.several else None)
    node.log.write(f"preparation starts; its output is in {stdout} and {stderr}")
    ended: list[int] = []
    node.start_logged(command_line, node.environment, stdout, stderr, ended.append)
    node.loop.run_until(lambda: bool(ended))
    code = ended[0]
    node.log.write(f"preparation ended with exit code {code}")
    if code != 0:
        details = {"node": node.host.name, "nodeId": node.host.node_id, "stdErrFile": stderr}
        raise preparation_failed(code, details, several=node.several)
    node.prelude = bashrc.prelude()
