"""The main job, end to end: what ``make demo`` runs.

Starts an embedded service on a free port with a home of its own, makes a workspace, a cluster of two nodes and an
experiment, trains digits under MPI with one rank on each node, streams the log, checks the model that was left, and
stops the service cleanly. Everything goes through the command line that users have.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
HOME = Path(os.environ.get("TRAINSHED_DEMO_HOME") or HERE.parent / ".demo").absolute()
JOB = f"digits-{time.strftime('%Y%m%d-%H%M%S')}"
#: Of the nodes' user, whom nobody needs here.
PASSWORD = secrets.token_urlsafe(16)
#: Seconds within which the service must be ready or gone.
PATIENCE = 60


def say(text: str) -> None:
    print(f"\033[1m==> {text}\033[0m" if sys.stdout.isatty() else f"==> {text}", flush=True)


def trainshed(*arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in the demo's home; the command is shown, so that it can be repeated."""
    print("    $ trainshed " + " ".join("***" if word == PASSWORD else word for word in arguments), flush=True)
    return subprocess.run(
        [sys.executable, "-m", "trainshed", *arguments],
        check=True,
        text=True,
        env=environment(),
        **more,
    )


def environment() -> dict[str, str]:
    """This environment, with the demo's home and the interpreter's own programs first on PATH."""
    programs = str(Path(sys.executable).parent)
    kept = {key: value for key, value in os.environ.items() if key not in ("TRAINSHED_URL", "TRAINSHED_TOKEN")}
    return {**kept, "TRAINSHED_HOME": str(HOME), "PATH": f"{programs}:{os.environ.get('PATH', '')}"}


def start_service() -> subprocess.Popen[bytes]:
    HOME.mkdir(parents=True, exist_ok=True)
    service = subprocess.Popen(
        [sys.executable, "-m", "trainshed", "serve", "--home", str(HOME), "--stop-nodes"], env=environment()
    )
    deadline = time.monotonic() + PATIENCE
    while not (HOME / "service.json").exists():
        if service.poll() is not None:
            raise SystemExit(f"the service ended with status {service.returncode}; its messages are above")
        if time.monotonic() > deadline:
            service.kill()
            raise SystemExit(f"the service was not ready within {PATIENCE} s; see {HOME / 'logs'}")
        time.sleep(0.05)
    return service


def check_model(model: Path) -> float:
    """Test accuracy of the saved model, computed here from the file alone."""
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    _, images, _, labels = train_test_split(
        digits.data / 16.0, digits.target, test_size=0.25, random_state=7, stratify=digits.target
    )
    weights = np.load(model)
    hidden = np.maximum(images @ weights["w1"] + weights["b1"], 0)
    return float(((hidden @ weights["w2"] + weights["b2"]).argmax(1) == labels).mean())


def main() -> int:
    say(f"Starting the service (home {HOME})")
    service = start_service()
    try:
        say("A workspace, a cluster of two nodes, an experiment")
        trainshed("workspace", "create", "-n", "demo", "-l", "local", "-o", "quiet")
        account = ("-u", "demo", "-p", PASSWORD)
        trainshed(
            "cluster", "create", "-w", "demo", "-n", "pair", "-s", "STANDARD_D1", "-t", "2", *account, "-o", "quiet"
        )
        trainshed("experiment", "create", "-w", "demo", "-n", "digits", "-o", "quiet")
        say(f"Training on both nodes: job {JOB}")
        where = ("-w", "demo", "-e", "digits")
        trainshed(
            "job",
            "create",
            *where,
            "-n",
            JOB,
            "-c",
            "pair",
            "-f",
            str(HERE / "digits-mpi" / "job.json"),
            "--code",
            str(HERE / "digits-mpi"),
            "-o",
            "quiet",
        )
        trainshed("job", "logs", "-f", *where, "-n", JOB)
        ended = subprocess.run(
            [sys.executable, "-m", "trainshed", "job", "wait", *where, "-n", JOB], env=environment(), check=False
        )
        if ended.returncode != 0:
            trainshed("job", "show", *where, "-n", JOB)
            trainshed("job", "logs", "--stderr", *where, "-n", JOB)
            return ended.returncode
        trainshed("job", "list", *where, "-o", "table")
        say("What it left")
        target = HOME / "downloads" / JOB
        trainshed("job", "files", "download", *where, "-n", JOB, "-d", "MODEL", "--to", str(target))
        accuracy = check_model(target / "digits.npz")
        shown = json.loads(trainshed("job", "show", *where, "-n", JOB, "-o", "json", stdout=subprocess.PIPE).stdout)[
            "properties"
        ]
        root = next((HOME / "clusters").glob(f"*/mounts/logs/{shown['jobOutputDirectoryPathSegment']}"), HOME)
        say(f"test accuracy of the downloaded model: {accuracy:.4f}")
        print(f"    model     {target / 'digits.npz'}")
        print(f"    logs      {root / 'stdouterr'}")
        print(f"    again     TRAINSHED_HOME={HOME} trainshed serve")
        print(f"              TRAINSHED_HOME={HOME} trainshed job show -w demo -e digits -n {JOB}")
        return 0 if accuracy >= 0.95 else 1
    finally:
        say("Stopping the service and its nodes")
        service.send_signal(signal.SIGTERM)
        try:
            service.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            service.kill()
            print("the service did not stop by itself and was killed", file=sys.stderr)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as failed:
        sys.exit(f"{' '.join(map(str, failed.cmd))} ended with status {failed.returncode}")
    except KeyboardInterrupt:
        sys.exit(130)
