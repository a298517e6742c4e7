"""A real Slurm of one node on this machine, from Debian's packages, in a folder of its own.

``python -m tests.cluster.slurm install`` installs munge, MariaDB, slurmdbd and Slurm (as root). ``RealSlurm`` starts
their daemons without systemd and without cgroups, on loopback, with every file below one folder: nothing in ``/etc``
is read or written. Clients find it through the variable ``SLURM_CONF``.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PACKAGES = ["munge", "mariadb-server", "slurmdbd", "slurm-wlm", "openmpi-bin", "libopenmpi-dev", "gcc", "tmux", "make"]
PROGRAMS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "mpirun", "mpicc", "tmux", "make")
MPI_HEADER = "*/openmpi/include/mpi.h"  # mpicc is there without it
CPUS, MEMORY_MB, GPUS = 4, 24_000, 2
"""As Slurm is told, whatever the machine has: much of a test is waiting."""
ACCOUNT, PARTITION = "crystals", "main"
PATIENCE_S = 3600
"""So long a test waits for something: it ends those that would never end, and measures nothing, so that a busy machine
fails none."""

SLURM = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmdUser=root
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort=16817
SlurmdPort=16818
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,default_queue_depth=200
SchedulerType=sched/backfill
PriorityType=priority/basic
InactiveLimit=0
KillWait=3
OverTimeLimit=0
MinJobAge=300
CompleteWait=0
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=16819
AccountingStoragePass={folder}/munge.socket
AccountingStoreFlags=job_comment
AccountingStorageEnforce=associations
GresTypes=gpu
AccountingStorageTRES=gres/gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:{gpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=2-00:00:00 State=UP
PartitionName=short Nodes={host} MaxTime=00:30:00 State=UP
"""
# Devices that every machine has stand for two GPUs: Slurm counts them, and nothing computes on them.
GRES = """\
AutoDetect=off
Name=gpu File=/dev/null
Name=gpu File=/dev/zero
"""
SLURMDBD = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort=16819
SlurmUser=root
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=16820
StorageUser=slurm
StoragePass=loopback
StorageLoc=slurm_accounts
"""
DATABASE = "CREATE DATABASE slurm_accounts; GRANT ALL ON slurm_accounts.* TO 'slurm'@'%' IDENTIFIED BY 'loopback';"


def installed() -> bool:
    """Return whether every daemon is there."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    return all(shutil.which(name, path=path) for name in PROGRAMS) and any(Path("/usr/lib").glob(MPI_HEADER))


def install() -> None:
    """Install the packages with apt, unless they are there."""
    if not installed():
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], check=True, env=environment)
        command = ["apt-get", "install", "-qq", "--yes", "--no-install-recommends", *PACKAGES]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


class RealSlurm:
    """The daemons, in the order in which they need each other; ``with RealSlurm(folder) as slurm``."""

    def __init__(self, folder):
        self.folder, self.host = Path(folder), socket.gethostname().partition(".")[0]
        self.daemons = {}
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SBATCH"))},
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin",
        }

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)  # other accounts read slurm.conf and reach munge's socket
        try:
            self._configure()
            self._start_database()
            self.start("slurmdbd", "slurmdbd", "-D")
            self._wait(lambda: self.ask("sacctmgr", "-n", "list", "cluster") is not None, "slurmdbd answers")
            self.change("sacctmgr", "-i", "add", "cluster", "loopback")
            self.change("sacctmgr", "-i", "add", "account", ACCOUNT, "Cluster=loopback")
            self.change("sacctmgr", "-i", "add", "user", "root", f"Account={ACCOUNT}")
            self.start_controller()
            self.start("slurmd", "slurmd", "-D", "-N", self.host)
            self._wait(lambda: "idle" in (self.ask("sinfo", "-h", "-o", "%T") or ""), "the node is idle")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.ask("scancel", "--user", "root")
        for name in reversed(list(self.daemons)):
            self.stop(name)

    def start_controller(self):
        """Start slurmctld, at first or again; jobs are where they were."""
        self.start("slurmctld", "slurmctld", "-D")
        self._wait(lambda: "is UP" in (self.ask("scontrol", "ping") or ""), "slurmctld answers")

    def add_user(self, name):
        """Let an account of this machine submit jobs."""
        self.change("sacctmgr", "-i", "add", "user", name, f"Account={ACCOUNT}")

    def start(self, name, *command):
        """Start a daemon in the foreground of a process of its own."""
        with (self.folder / f"{name}.out").open("ab") as out:
            self.daemons[name] = subprocess.Popen(
                command, env=self.environment, stdout=out, stderr=out, start_new_session=True
            )

    def stop(self, name, how=signal.SIGTERM):
        """End a daemon and wait until it has gone."""
        process = self.daemons.pop(name)
        process.send_signal(how)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def ask(self, *command):
        """Return what a command of Slurm prints, None if it fails."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else None

    def change(self, *command):
        """Run a command of Slurm that has to succeed."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"

    def _configure(self):
        for name in ("state", "spool", "database"):
            (self.folder / name).mkdir()
        words = {"host": self.host, "folder": self.folder, "cpus": CPUS, "memory": MEMORY_MB, "gpus": GPUS}
        (self.folder / "gres.conf").write_text(GRES)
        (self.folder / "slurm.conf").write_text(SLURM.format(**words))
        (self.folder / "slurmdbd.conf").write_text(SLURMDBD.format(**words))
        (self.folder / "slurmdbd.conf").chmod(0o600)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        paths = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed", "key-file": "key"}
        options = [f"--{option}={self.folder}/munge.{end}" for option, end in paths.items()]
        self.start("munged", "munged", "--foreground", "--force", *options)
        self._wait(lambda: (self.folder / "munge.socket").exists(), "munged listens")

    def _start_database(self):
        data, socket_file = self.folder / "database", self.folder / "database.socket"
        options = ["--no-defaults", f"--datadir={data}", "--user=root"]
        command = ["mariadb-install-db", *options, "--skip-test-db", "--auth-root-authentication-method=normal"]
        subprocess.run(command, check=True, env=self.environment, stdout=subprocess.DEVNULL)
        places = [f"--socket={socket_file}", f"--pid-file={self.folder}/database.pid", "--innodb-buffer-pool-size=64M"]
        self.start("mariadbd", "mariadbd", *options, *places, "--bind-address=127.0.0.1", "--port=16820")
        client = ["mariadb", "--no-defaults", "-u", "root", f"--socket={socket_file}", "-e"]
        self._wait(lambda: self.ask(*client, "SELECT 1") is not None, "MariaDB answers")
        self.change(*client, DATABASE)

    def _wait(self, is_so, words, seconds=300):
        end = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > end:
                logs = "\n".join(f"{path.name}: {path.read_text()[-800:]}" for path in self.folder.glob("*.out"))
                raise TimeoutError(f"waited {seconds} s until {words}\n{logs}")
            time.sleep(0.3)


if __name__ == "__main__":
    if sys.argv[1:] != ["install"]:
        sys.exit("usage: python -m tests.cluster.slurm install")
    install()
