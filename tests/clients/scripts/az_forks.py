"""Runs ``az`` commands, each in a process of its own, forked from an interpreter that has imported everything already.

The imports cost half a second a command, and there are more than a hundred commands. A command is a line of JSON on
standard input (argv, env, cwd, out, err); the answer is a line with its exit status.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import sys

START = sys.argv[1]
#: What a command imports by the time that it asks the service for something.
WARMED = (
    "adal",
    "azure.cli.command_modules.batchai.commands",
    "azure.cli.command_modules.batchai.custom",
    "azure.cli.core.adal_authentication",
    "azure.cli.core.commands.arm",
    "azure.mgmt.batchai",
    "azure.mgmt.resource",
    "msrestazure.azure_configuration",
)


def main():
    az = runpy.run_path(START)
    az["restore_names"]()
    for module in WARMED:
        importlib.import_module(module)
    print("ready", flush=True)
    for line in iter(sys.stdin.readline, ""):
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            run(az["main"], asked)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def run(command, asked):
    """In the fork: the command as the shell would have started it. Ends the process."""
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    for number, path in ((1, asked["out"]), (2, asked["err"])):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, number)
        os.close(file)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    sys.argv = [START, *asked["argv"]]
    sys.exit(command())


if __name__ == "__main__":
    main()
