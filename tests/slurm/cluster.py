"""A real Slurm cluster of two pretend 8-GPU nodes on this host: everything below one folder, loopback only.

The daemons are Debian's slurmctld, slurmd and munged; no systemd, no cgroups, no accounting. Root is
needed (slurmd changes user), and nothing is installed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

NODES = ("node1", "node2")
SECONDS = 900  # bound of every wait, as in tests/support.py, which the keeper of a cluster does not import
GPUS = 8
CORES = 16
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def lacking() -> str | None:
    """Why no cluster can be started here; None where one can."""
    if os.geteuid() != 0:
        return "slurmd needs root"
    missing = [p for p in _PROGRAMS if shutil.which(p, path=f"{os.environ['PATH']}:{_PATH}") is None]
    return f"not installed: {', '.join(missing)} (apt-get install {PACKAGES})" if missing else None


PACKAGES = "slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge"


_SITE_RULE = """\
-- As a site with accounting: this account is nobody's (2045 is ESLURM_INVALID_ACCOUNT).
function slurm_job_submit(job, parts, uid)
   if job.account == "nobodys" then return 2045 end
   return slurm.SUCCESS
end
function slurm_job_modify(job, record, parts, uid) return slurm.SUCCESS end
return slurm.SUCCESS
"""


class Cluster:
    """Use as a context manager; ``environment`` is what Slurm's commands need."""

    def __init__(self, root: Path, *, spank: Path | None = None) -> None:
        self.root = root
        self._port = _free_ports(len(NODES) + 1)
        self._spank = spank
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(root / "slurm.conf"),
            "PATH": f"{os.environ['PATH']}:{_PATH}",
        }

    def __enter__(self) -> Cluster:
        self._write()
        # It tears the cluster down when its stdin closes: at our end, whatever ends us.
        self._keeper = subprocess.Popen(
            [sys.executable, __file__, str(self.root)], stdin=subprocess.PIPE, start_new_session=True
        )
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._keeper.stdin.close()
        self._keeper.wait(SECONDS)

    def call(self, *arguments: str, check: bool = True) -> str:
        """Run one of Slurm's commands; returns its output."""
        done = subprocess.run(
            arguments, env=self.environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert not check or done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    def job(self, job: str) -> dict[str, str]:
        """scontrol's fields of one job or array task."""
        line = self.call("scontrol", "show", "job", "--oneliner", job).splitlines()[0]
        return dict(part.split("=", 1) for part in line.split() if "=" in part)

    def stop_node(self, node: str) -> None:
        """Kill a node's daemon and the steps on it, as a crash would, and tell the controller.

        All are stopped before the first is killed: none has the time to report the end of another.
        """
        pid = int((self.root / "run" / f"slurmd.{node}.pid").read_text())
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for process in (pid, *_processes_of(self.root, node)):
                with suppress(ProcessLookupError):
                    os.kill(process, number)
        self.call("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")

    def start_nodes(self, *nodes: str) -> None:
        """Bring nodes back."""
        for node in nodes:
            self._start_node(node)
            self.call("scontrol", "update", f"NodeName={node}", "State=RESUME", check=False)
        self._wait_idle()

    def _write(self) -> None:
        for folder in ("state", "log", "run", "munge", "dev", *(f"spool/{node}" for node in NODES)):
            (self.root / folder).mkdir(parents=True)
        (self.root / "munge").chmod(0o700)
        key = self.root / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        for gpu in range(GPUS):
            os.mknod(self.root / "dev" / f"nvidia{gpu}", 0o600 | 0o020000, os.makedev(1, 3))
        (self.root / "hosts").write_text(f"127.0.0.1 localhost {socket.gethostname()} {' '.join(NODES)}\n")
        plugin = f"required {self._spank}\n" if self._spank else ""
        (self.root / "plugstack.conf").write_text(plugin)
        gres = f"NodeName=node[1-2] Name=gpu Type=h100 File={self.root}/dev/nvidia[0-{GPUS - 1}]"
        (self.root / "gres.conf").write_text(f"AutoDetect=off\n{gres}\n")
        (self.root / "job_submit.lua").write_text(_SITE_RULE)
        (self.root / "slurm.conf").write_text(self._slurm_conf())

    def _slurm_conf(self) -> str:
        host, root = socket.gethostname().partition(".")[0], self.root
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={self._port[i + 1]} "
            f"CPUs={CORES} RealMemory=16000 Gres=gpu:h100:{GPUS} State=UNKNOWN"
            for i, node in enumerate(NODES)
        )
        return f"""\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={self._port[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# Credentials that live 15 s: a requeued job may start again that soon, instead of after 120 s; a busy machine
# takes seconds to start one.
AuthInfo=socket={root}/run/munge.sock,cred_expire=15
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/run/slurmctld.pid
SlurmdPidFile={root}/run/slurmd.%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd.%n.log
PlugStackConfig={root}/plugstack.conf
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=0,batch_sched_delay=0,requeue_delay=0
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdTimeout=300
KillWait=2
MinJobAge=3600
GresTypes=gpu
SlurmdParameters=config_overrides
JobSubmitPlugins=lua
{nodes}
PartitionName=batch Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=5 PreemptMode=OFF
PartitionName=low Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=120
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""

    def _start(self) -> None:
        run = self.root / "run"
        self.call(
            "munged", "--force", f"--key-file={self.root}/munge/key", f"--socket={run}/munge.sock",
            f"--pid-file={run}/munged.pid", f"--log-file={self.root}/log/munged.log",
            f"--seed-file={self.root}/munge/seed", "--num-threads=2",
        )  # fmt: skip
        self.call("slurmctld", "-c")
        for node in NODES:
            self._start_node(node)
        self._wait_idle()

    def _start_node(self, node: str) -> None:
        """With an /etc/hosts of its own, in a mount namespace: node names resolve inside of jobs only."""
        bind = 'mount --bind "$0" /etc/hosts && exec slurmd -N "$1"'
        self.call("unshare", "--mount", "bash", "-c", bind, str(self.root / "hosts"), node)

    def _wait_idle(self, seconds: float = SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            states = self.call(
                "sinfo", "--noheader", "--Node", "--partition=batch", "--format=%T", check=False
            )
            if states.split() and all(state in ("idle", "mixed", "allocated") for state in states.split()):
                return
            time.sleep(0.05)
        raise AssertionError(f"no cluster after {seconds} s: {states}\n{self._log()}")

    def _log(self) -> str:
        return "\n".join(p.read_text()[-2000:] for p in sorted((self.root / "log").glob("*.log")))


def _keep(root: Path) -> None:
    """Wait for the end of the tests, then end every process that belongs to this cluster: its daemons,
    and all that has its configuration in the environment (jobs, and commands about them)."""
    sys.stdin.read()
    for _ in range(50):
        found = _belonging(root)
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            return
        time.sleep(0.1)


def _belonging(root: Path) -> list[int]:
    mark = f"SLURM_CONF={root}/slurm.conf".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            environment = (path / "environ").read_bytes().split(b"\0")
            if mark in environment and int(path.name) != os.getpid() and _alive(path):
                found.append(int(path.name))
    return found


def _alive(process: Path) -> bool:
    return (process / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"


def _processes_of(root: Path, node: str) -> set[int]:
    """The processes of the jobs on a node, and the slurmstepd above each."""
    found: set[int] = set()
    for pid in _belonging(root):
        with suppress(OSError):
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if f"SLURMD_NODENAME={node}".encode() in environment:
                parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
                above = Path(f"/proc/{parent}/cmdline").read_bytes().startswith(b"slurmstepd")
                found |= {pid, parent} if above else {pid}
    return found


def _free_ports(count: int) -> list[int]:
    """Below those that the kernel gives to whoever asks for any: nobody gets one before the daemons have it."""
    found: list[int] = []
    while len(found) < count:
        with suppress(OSError), socket.socket() as one:
            one.bind(("127.0.0.1", random.randrange(10_000, 32_000)))
            found.append(one.getsockname()[1])
    return found


if __name__ == "__main__":
    _keep(Path(sys.argv[1]))
