"""A real Slurm of two nodes on one machine: each a process of its own in namespaces of its own.

Every node has its own address, processes and host name, so that nothing that a job stops can touch
anything outside; when a node's first process is killed, the system ends everything in it.
"""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "scontrol", "ip", "nsenter", "unshare")
_CONF = """
ClusterName=two
SlurmctldHost=n0(10.77.0.1)
SlurmUser=root
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/linear
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
ReturnToService=2
JobRequeue=1
KillWait=10
SlurmctldTimeout=30
SlurmdTimeout=60
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
NodeName=n0 NodeAddr=10.77.0.1 CPUs=2 RealMemory=8000
NodeName=n1 NodeAddr=10.77.0.2 CPUs=2 RealMemory=8000
PartitionName=all Nodes=n0,n1 Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
"""
_HOSTS = "127.0.0.1 localhost\n10.77.0.1 n0\n10.77.0.2 n1\n"


def lacking() -> str | None:
    """Why there can be no Slurm here; None where there can."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: slurm-wlm, iproute2)"
    if os.geteuid() != 0:
        return "namespaces and slurmd need root"
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--net", "--uts", "--fork", "--mount-proc", "true"],
        capture_output=True,
        check=False,
    )
    return None if tried.returncode == 0 else "namespaces are not allowed here"


class Slurm:
    """Two running nodes."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.folder, self.names = folder, names
        self.env = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    def run(self, *command: object, timeout: float = 60) -> str:
        """The output of a command on the first node's network."""
        answer = subprocess.run(
            [*_enter(self.names[0]), *map(str, command)],
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout

    def job(self, number: str) -> dict[str, str]:
        """What Slurm says of a job."""
        words = self.run("scontrol", "show", "job", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait(self, number: str, *states: str, seconds: float = 240) -> dict[str, str]:
        """Waits for a job to be in one of the states."""
        end = time.monotonic() + seconds
        while (job := self.job(number))["JobState"] not in states:
            if time.monotonic() > end:
                self.run("scancel", "--signal=KILL", "--full", number)
                raise AssertionError(f"{job['JobState']} after {seconds} s: {self.logs()}")
            time.sleep(0.5)
        return job

    def logs(self) -> str:
        """The ends of all logs."""
        paths = sorted(self.folder.glob("*.log"))
        return "\n".join(f"== {path.name}\n{path.read_text()[-3000:]}" for path in paths)


def _enter(name: str) -> list[str]:
    # `ip netns exec` would hide /sys/fs/cgroup, which slurmd asks for.
    return ["nsenter", f"--net=/run/netns/{name}"]


def _inside(name: str, folder: Path, host: str, command: str) -> subprocess.Popen[bytes]:
    """Starts a command as the first process of a node."""
    # The shell stays as the namespace's first process, since slurmd buries no children of others.
    script = f"mount --bind {folder}/hosts /etc/hosts; hostname {host}; {command} & wait $!"
    with (folder / f"{host}.out.log").open("ab") as output:
        return subprocess.Popen(
            [*_enter(name), "unshare", "--mount", "--uts", "--pid", "--fork", "--mount-proc",
             "--kill-child", "bash", "-ec", script],
            env={**os.environ, "SLURM_CONF": f"{folder}/slurm.conf"},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip


@contextlib.contextmanager
def slurm(folder: Path) -> Iterator[Slurm]:
    """Two idle nodes, gone without a trace at the end."""
    names = [f"slurm{os.getpid()}{side}" for side in "ab"]
    (folder / "state").mkdir(parents=True)
    (folder / "hosts").write_text(_HOSTS)
    (folder / "slurm.conf").write_text(_CONF.format(folder=folder))
    started: list[subprocess.Popen[bytes]] = []
    try:
        _network(names)
        conf = folder / "slurm.conf"
        control = f"slurmctld -D -f {conf}"
        node = "slurmd -D -f {conf} -N {host}"
        started.append(_inside(names[0], folder, "n0", control))
        for name, host in zip(names, ("n0", "n1"), strict=True):
            started.append(_inside(name, folder, host, node.format(conf=conf, host=host)))
        made = Slurm(folder, names)
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(AssertionError):
                if made.run("sinfo", "-h", "-o", "%T %D").split() == ["idle", "2"]:
                    break
            ended = [process for process in started if process.poll() is not None]
            assert not ended, made.logs()
            assert time.monotonic() < end, made.logs()
            time.sleep(0.5)
        yield made
    finally:
        for process in started:
            process.kill()  # the namespace's first process goes with it, and so the rest
            process.wait()
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _network(names: list[str]) -> None:
    one, other = (f"v{os.getpid() % 100000}{side}" for side in "ab")
    commands = [f"netns add {name}" for name in names]
    commands += [
        f"link add {one} netns {names[0]} type veth peer name {other} netns {names[1]}",
        f"-n {names[0]} addr add 10.77.0.1/24 dev {one}",
        f"-n {names[1]} addr add 10.77.0.2/24 dev {other}",
    ]
    for name, device in zip(names, (one, other), strict=True):
        commands += [f"-n {name} link set lo up", f"-n {name} link set {device} up"]
    for command in commands:
        subprocess.run(["ip", *command.split()], check=True, capture_output=True)
