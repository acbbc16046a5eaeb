"""A stand-in for apptainer: takes the command lines that its documentation names, writes down what it was told, and
runs commands without any container."""

import json
import os
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """As apptainer would be called."""
    words = [word for word in arguments if not word.startswith("--")]
    told = {"arguments": arguments, "user": os.environ.get("APPTAINER_DOCKER_USERNAME", "")}
    told["password given"] = "APPTAINER_DOCKER_PASSWORD" in os.environ
    with (
        Path(os.environ.get("APPTAINER_CACHEDIR", "/nowhere"), "calls").open("a")
        if words[0] != "exec"
        else open(os.devnull, "w") as log
    ):
        log.write(json.dumps(told) + "\n")
    if words[0] == "pull":
        if "absent" in words[2]:
            sys.stderr.write("FATAL:   While making image from oci registry: manifest unknown\n")
            return 255
        Path(words[1]).write_text("image")
        return 0
    if words[0] == "instance":
        return 0
    assert words[0] == "exec", words
    if "--pwd" in arguments:
        os.chdir(arguments[arguments.index("--pwd") + 1])
    start = next(number for number, word in enumerate(arguments) if "instance://" in word or word.endswith(".sif")) + 1
    if arguments[start] == "/bin/bash":
        os.execv(arguments[start], arguments[start:])
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
