"""The files that the daemons of a test cluster read: slurm.conf, slurmdbd.conf, gres.conf, cgroup.conf and MariaDB's first statements."""

from __future__ import annotations

import os
import secrets
import socket
import stat
from dataclasses import dataclass, field
from pathlib import Path

#: The nodes, all of them slurmd processes of this machine.
NODES = ("n1", "n2", "n3")
GPUS_PER_NODE = 2
CPUS_PER_NODE = 4
MEMORY_PER_NODE = 64_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a test may want different from one cluster to the next; times in seconds."""

    accounting: bool = True
    #: How long a finished job stays known to squeue. The controller looks every max(10, this) seconds; sites have 300.
    min_job_age: int = 10
    max_array_size: int = 1001
    max_job_count: int = 20_000
    #: From SIGTERM to SIGKILL.
    kill_wait: int = 2
    #: From the notice of a preemption to its SIGTERM, on `preemptible`.
    grace_time: int = 0
    #: How long a command waits for the controller before "Socket timed out".
    message_timeout: int = 10
    #: More lines of slurm.conf, after the others.
    extra: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """One free port of the loopback for each daemon."""

    controller: int
    accounting: int
    database: int
    nodes: tuple[int, ...]


def free_ports() -> Ports:
    """Find ports that nothing listens on, below those that the kernel gives to outgoing connections."""
    found: list[int] = []
    while len(found) < 3 + len(NODES):
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return Ports(controller=found[0], accounting=found[1], database=found[2], nodes=tuple(found[3:]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where everything of one cluster lies: nothing of it is outside `folder`."""

    folder: Path
    ports: Ports
    settings: Settings
    password: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def slurm_conf(self) -> Path:
        return self.folder / "etc" / "slurm.conf"

    @property
    def slurmdbd_conf(self) -> Path:
        return self.folder / "etc" / "slurmdbd.conf"

    @property
    def munge_key(self) -> Path:
        return self.folder / "etc" / "munge.key"

    @property
    def munge_socket(self) -> Path:
        return self.folder / "munge.sock"

    @property
    def first_statements(self) -> Path:
        return self.folder / "etc" / "database.sql"

    @property
    def database(self) -> Path:
        return self.folder / "database"

    def log(self, daemon: str) -> Path:
        """Return where a daemon's output goes; a slurmd writes a log of its own, because its steps have to write there too."""
        return self.folder / "log" / (f"{daemon}.out" if daemon in NODES else f"{daemon}.log")


def write_configuration(layout: Layout) -> None:
    """Write every file and folder that a daemon expects to find."""
    for part in ("etc", "log", "state", *NODES):
        (layout.folder / part).mkdir(parents=True, exist_ok=True)
    # munged refuses a socket that not everybody could reach.
    layout.folder.chmod(0o755)
    etc = layout.slurm_conf.parent
    _write_secret(layout.munge_key, os.urandom(1024))
    for gpu in range(GPUS_PER_NODE):
        # Any character device will do: Slurm wants the file to exist, and counts by the number in its name.
        os.mknod(layout.folder / f"nvidia{gpu}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (etc / "slurm.conf").write_text(_slurm_conf(layout))
    # 22.05 loads a cgroup plugin whatever the task plugin is, and refuses `disabled`.
    (etc / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    devices = f"{layout.folder}/nvidia[0-{GPUS_PER_NODE - 1}]"
    (etc / "gres.conf").write_text(f"NodeName={_node_range()} Name=gpu Count={GPUS_PER_NODE} File={devices}\n")
    _write_secret(layout.slurmdbd_conf, _slurmdbd_conf(layout).encode())
    _write_secret(layout.first_statements, _first_statements(layout).encode())


def _write_secret(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


def _node_range() -> str:
    return f"n[1-{len(NODES)}]"


def _slurm_conf(layout: Layout) -> str:
    settings, ports, host = layout.settings, layout.ports, socket.gethostname().split(".")[0]
    nodes = "\n".join(
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={CPUS_PER_NODE} SocketsPerBoard={CPUS_PER_NODE}"
        f" CoresPerSocket=1 ThreadsPerCore=1 RealMemory={MEMORY_PER_NODE} Gres=gpu:{GPUS_PER_NODE}"
        for name, port in zip(NODES, ports.nodes, strict=True)
    )
    return "\n".join(
        (
            _daemons(layout, host),
            f"""\
MaxArraySize={settings.max_array_size}
MaxJobCount={settings.max_job_count}
MinJobAge={settings.min_job_age}
KillWait={settings.kill_wait}
MessageTimeout={settings.message_timeout}
JobRequeue=1
ReturnToService=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU={MEMORY_PER_NODE // CPUS_PER_NODE}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
GresTypes=gpu
{nodes}
PartitionName=normal Nodes=ALL Default=YES PriorityTier=2 PreemptMode=OFF MaxTime=INFINITE State=UP
PartitionName=preemptible Nodes=ALL PriorityTier=1 PreemptMode=REQUEUE GraceTime={settings.grace_time} MaxTime=INFINITE State=UP
PartitionName=urgent Nodes=ALL PriorityTier=3 PreemptMode=OFF MaxTime=INFINITE State=UP""",
            *settings.extra,
            "",
        )
    )


def _daemons(layout: Layout, host: str) -> str:
    folder, ports = layout.folder, layout.ports
    accounting = "AccountingStorageType=accounting_storage/none"
    if layout.settings.accounting:
        accounting = f"""\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={ports.accounting}
AccountingStoragePass={layout.munge_socket}
AccountingStorageTRES=gres/gpu"""
    return f"""\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports.controller}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={layout.munge_socket}
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdSpoolDir={folder}/%n
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/log/%n.log
SlurmdParameters=config_overrides
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
MailProg=/bin/true
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
{accounting}"""


def _slurmdbd_conf(layout: Layout) -> str:
    return f"""\
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={layout.ports.accounting}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={layout.munge_socket}
CommunicationParameters=NoInAddrAny
PidFile={layout.folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={layout.ports.database}
StorageUser=slurm
StoragePass={layout.password}
StorageLoc=slurm_acct_db
"""


def _first_statements(layout: Layout) -> str:
    return f"""\
CREATE DATABASE IF NOT EXISTS slurm_acct_db;
CREATE USER IF NOT EXISTS slurm@'127.0.0.1' IDENTIFIED BY '{layout.password}';
GRANT ALL ON slurm_acct_db.* TO slurm@'127.0.0.1';
"""
