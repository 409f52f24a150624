"""A real Slurm on this machine: three nodes with two GPUs each, accounting, preemption. Root and Debian's packages (`make system`).

    with running_cluster(folder) as cluster:
        job = cluster.submit("--wrap=hostname")

Everything lies in one folder and listens on the loopback; several clusters can run side by side.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.slurm.configuration import NODES, Layout, Settings, free_ports, write_configuration
from tests.slurm.service import Service

#: Where Debian puts them; a plain user's PATH has no sbin.
SEARCH = os.pathsep.join(("/usr/sbin", "/usr/bin", "/sbin", "/bin"))
#: The longest path that a unix socket may have is 107 characters, and a job's socket takes up to 40 below the folder.
LONGEST_FOLDER = 64
#: A node refuses a job whose new credential is not younger than the revocation of the last one, in whole seconds. Two minutes of BeginTime
#: are Slurm's margin for that; on one machine with one clock two seconds after the requeue (which counts as a new submission) are enough.
REVOKED = 2


class ClusterFailed(RuntimeError):
    """A command failed, or the cluster did not do something in time; then the message ends with the last lines of every daemon's log."""


class Cluster:
    """The daemons of one cluster, and what tests do to it."""

    def __init__(self, folder: Path, settings: Settings | None = None) -> None:
        if len(str(folder)) > LONGEST_FOLDER:
            raise ValueError(f"{folder}: {LONGEST_FOLDER} characters at most, because unix sockets lie below; take a folder in /tmp")
        self.layout = Layout(folder=folder, ports=free_ports(), settings=settings or Settings())
        #: Merge it into the environment of whatever calls Slurm's commands.
        self.env = {"SLURM_CONF": str(self.layout.slurm_conf), "PATH": f"{os.environ.get('PATH', '')}{os.pathsep}{SEARCH}"}
        self.services: dict[str, Service] = {}

    @property
    def nodes(self) -> tuple[str, ...]:
        return NODES

    def start(self) -> None:
        """Start every daemon and wait until all nodes are idle. Raises ClusterFailed; after any error nothing is left running."""
        try:
            write_configuration(self.layout)
            self._define_services()
            self._start_daemons()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every daemon and every process of a job. The folder stays."""
        for service in self.services.values():
            service.dismiss()
        for service in self.services.values():
            service.end()

    def run(self, *command: str, check: bool = True, timeout: float = 60, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run one of Slurm's commands. Raises ClusterFailed with its stderr when it fails and `check` is on."""
        result = subprocess.run(command, env=self.environment(), capture_output=True, text=True, check=False, timeout=timeout, **options)
        if check and result.returncode != 0:
            raise ClusterFailed(f"{' '.join(command)} returned {result.returncode}: {result.stderr.strip()}")
        return result

    def environment(self) -> dict[str, str]:
        """Return this process's environment with `env`, and without what a surrounding Slurm job would have left in it."""
        return {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))} | self.env

    def submit(self, *options: str, **keywords: Any) -> str:
        """Submit with sbatch and return the job's id; `cwd` and the like are passed on to the process."""
        keywords.setdefault("cwd", self.layout.folder)
        return self.run("sbatch", "--parsable", *options, **keywords).stdout.strip().split(";")[0]

    def squeue(self, *options: str) -> dict[str, str]:
        """Return the state of every job that squeue shows, array elements as `12_3`."""
        listing = self.run("squeue", "--noheader", "--array", "--format=%i %T", *options).stdout
        return dict(line.split(maxsplit=1) for line in listing.splitlines())

    def sacct(self, *options: str, fields: str = "JobID,State,ExitCode,NodeList", steps: bool = False) -> list[dict[str, str]]:
        """Return what accounting knows, one mapping a line; it is seconds behind the controller, and its first answer may be empty."""
        names = fields.split(",")
        scope = () if steps else ("--allocations",)
        listing = self.run("sacct", "--noheader", "--parsable2", f"--format={fields}", *scope, *options).stdout
        return [dict(zip(names, line.split("|"), strict=True)) for line in listing.splitlines()]

    def job(self, job_id: str) -> dict[str, str]:
        """Return what the controller knows of one job (of an array, its first line), empty when it knows none of that id."""
        answer = self.run("scontrol", "--oneliner", "show", "job", job_id, check=False)
        if answer.returncode != 0 and "Invalid job id" not in answer.stderr:
            raise ClusterFailed(f"scontrol show job {job_id}: {answer.stderr.strip()}")
        return dict(re.findall(r"(?:^|\s)([\w:/]+)=(\S*)", answer.stdout.partition("\n")[0]))

    def state(self, job_id: str) -> str:
        """Return the state that the controller gives for a job, empty when it is purged."""
        return self.job(job_id).get("JobState", "")

    def wait_until(self, condition: Callable[[], Any], timeout: float = 60, *, what: str = "", release: bool = False) -> Any:
        """Wait until the condition holds and return its value; `release` also spares requeued jobs their two minutes of waiting."""
        deadline = time.monotonic() + timeout
        while True:
            if release:
                self.release_requeued()
            if value := condition():
                return value
            if time.monotonic() > deadline:
                raise self._failure(f"waited {timeout:g} s in vain {what}")
            time.sleep(0.1)

    def kill_node(self, name: str, *, spare_tasks: bool = False) -> None:
        """Cut a node's power: SIGKILL to slurmd and its jobs, state DOWN. `spare_tasks`: only slurmd dies, as when a network is cut."""
        service = self.services[name]
        if spare_tasks:
            service.signal(signal.SIGKILL)
            self.wait_until(lambda: not service.alive, what=f"for slurmd of {name} to die")
        else:
            service.end()
        self.run("scontrol", "update", f"NodeName={name}", "State=DOWN", "Reason=test")

    def revive_node(self, name: str) -> None:
        """Start a node's slurmd again, give it back to the scheduler, and wait until it takes jobs."""
        self.services[name].start()
        self.run("scontrol", "update", f"NodeName={name}", "State=RESUME", check=False)
        self.wait_until(lambda: self.node_states()[name] in ("idle", "mixed", "allocated"), what=f"for {name}")

    def node_states(self) -> dict[str, str]:
        """Return the state of every node, such as idle, mixed, allocated, down* or drained."""
        listing = self.run("sinfo", "--noheader", "--Node", "--partition=normal", "--format=%N %T").stdout
        return dict(line.split() for line in listing.splitlines())

    def preempt(self, node: str | None = None, *, seconds: float = 2) -> str:
        """Take a whole node for `urgent` for some seconds, so that what runs there in a lower partition is requeued; return its id."""
        where = (f"--nodelist={node}",) if node else ()
        return self.submit(
            "--partition=urgent", "--exclusive", "--nodes=1", *where, "--output=/dev/null", "--job-name=urgent", f"--wrap=sleep {seconds:g}"
        )

    def requeue(self, job_id: str, *, release: bool = True) -> None:
        """Requeue a running job; `release` lets it start again at once instead of two minutes later."""
        self.run("scontrol", "requeue", job_id)
        if release:
            self.wait_until(
                lambda: any(job_id in (found, found.split("_")[0]) for found in self.release_requeued()),
                what=f"for {job_id} to be pending again",
            )

    def release_requeued(self) -> list[str]:
        """Let every job that waits in BeginTime after a requeue start now, and return their ids."""
        form = "--Format=JobArrayID:40,RestartCnt:12,SubmitTime:24,Reason:60"
        rows = [line.split() for line in self.run("squeue", "--noheader", "--array", "--states=PENDING", form).stdout.splitlines()]
        waiting = [
            row[0] for row in rows if len(row) == 4 and row[1] != "0" and row[3] == "BeginTime" and _seconds_since(row[2]) >= REVOKED
        ]
        for job_id in waiting:
            self.run("scontrol", "update", f"JobId={job_id}", "StartTime=now", check=False)
        return waiting

    def stop_controller(self) -> None:
        """End slurmctld in order, so that it saves its state: commands then fail with "Unable to contact slurm controller"."""
        service = self.services["slurmctld"]
        service.signal(signal.SIGTERM)
        self.wait_until(lambda: not service.alive, what="for slurmctld to end")
        service.end()

    def start_controller(self) -> None:
        """Start slurmctld (again) and wait until it answers."""
        self.services["slurmctld"].start()
        self._wait_for_controller()
        # A controller that has just started knows no node until it has asked.
        living = [name for name in NODES if self.services[name].alive]
        self.wait_until(lambda: all(self.node_states()[name] != "unknown" for name in living), what="for the nodes to be known")

    @contextmanager
    def frozen_controller(self) -> Iterator[None]:
        """Hold slurmctld still: commands fail with "Socket timed out", and what they had asked is done when it goes on."""
        service = self.services["slurmctld"]
        service.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            service.signal(signal.SIGCONT)
            self._wait_for_controller()

    def clear(self) -> None:
        """Cancel everything, revive what was killed, and wait until the queue is empty."""
        if not self.services["slurmctld"].alive:
            self.start_controller()
        for name in self.nodes:
            if not self.services[name].alive:
                self.revive_node(name)
        for name, state in self.node_states().items():
            if state.startswith(("down", "drain")):
                self.run("scontrol", "update", f"NodeName={name}", "State=RESUME", check=False)
        if self._queued():
            self.run("scancel", "--user=root", check=False)
            self.wait_until(lambda: not self._queued(), what="for the queue to be empty")

    def _failure(self, what: str, lines: int = 8) -> ClusterFailed:
        logs = sorted(log for log in (self.layout.folder / "log").glob("*.log") if log.stat().st_size)
        tails = (f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) for log in logs)
        return ClusterFailed("\n".join((what, *tails)))

    def _queued(self) -> str:
        return self.run("squeue", "--noheader", "--format=%i").stdout

    def _define_services(self) -> None:
        layout, conf = self.layout, str(self.layout.slurm_conf)
        munged = ("munged", "--foreground", f"--key-file={layout.munge_key}", f"--socket={layout.munge_socket}")
        munged += tuple(f"--{name}-file={layout.folder}/munged.{name}" for name in ("log", "pid", "seed"))
        commands: dict[str, tuple[str, ...]] = {"munged": munged}
        if layout.settings.accounting:
            commands["mariadbd"] = (
                *("mariadbd", "--no-defaults", "--user=root", f"--datadir={layout.database}", f"--socket={layout.folder}/mariadb.sock"),
                *("--bind-address=127.0.0.1", f"--port={layout.ports.database}", f"--init-file={layout.first_statements}"),
                # Nothing here outlives the machine, so nothing is worth waiting for a disk.
                *("--innodb-flush-method=nosync", "--innodb-doublewrite=0", "--innodb-flush-log-at-trx-commit=0"),
                *("--innodb-buffer-pool-size=64M", "--innodb-log-file-size=64M", "--innodb-lock-wait-timeout=900", "--skip-name-resolve"),
            )
            commands["slurmdbd"] = ("slurmdbd", "-D")
        commands["slurmctld"] = ("slurmctld", "-D", "-f", conf)
        commands |= {name: ("slurmd", "-D", "-N", name, "-f", conf) for name in NODES}
        # The daemons get an environment of their own: what a job sees must come from the one who submitted it.
        env = {"PATH": SEARCH, "HOME": "/root", "LANG": "C.UTF-8", "SLURM_CONF": conf}
        self.services = {name: Service(command, log=layout.log(name), env=env) for name, command in commands.items()}

    def _start_daemons(self) -> None:
        self._start_and_wait("munged", socket.AF_UNIX, str(self.layout.munge_socket))
        if self.layout.settings.accounting:
            self._start_accounting()
        self.start_controller()
        for name in NODES:
            self.services[name].start()
        self.wait_until(lambda: set(self.node_states().values()) == {"idle"}, what="for all nodes to be idle")

    def _start_accounting(self) -> None:
        layout = self.layout
        install = ("mariadb-install-db", "--no-defaults", f"--datadir={layout.database}", "--user=root", "--skip-test-db")
        self.run(*install, "--skip-name-resolve", "--innodb-flush-method=nosync", "--innodb-log-file-size=64M")
        self._start_and_wait("mariadbd", socket.AF_INET, ("127.0.0.1", layout.ports.database))
        self._start_and_wait("slurmdbd", socket.AF_INET, ("127.0.0.1", layout.ports.accounting))

    def _start_and_wait(self, name: str, family: socket.AddressFamily, address: tuple[str, int] | str) -> None:
        def answers() -> bool:
            if not self.services[name].alive:
                raise self._failure(f"{name} ended at once")
            with socket.socket(family) as probe:
                return probe.connect_ex(address) == 0

        self.services[name].start()
        self.wait_until(answers, what=f"for {name} at {address}")

    def _wait_for_controller(self) -> None:
        def answers() -> bool:
            if not self.services["slurmctld"].alive:
                raise self._failure("slurmctld ended")
            return "UP" in self.run("scontrol", "ping", check=False).stdout

        self.wait_until(answers, what="for slurmctld to answer")


def _seconds_since(moment: str) -> float:
    return time.time() - datetime.fromisoformat(moment).timestamp()


@contextmanager
def running_cluster(folder: Path, settings: Settings | None = None) -> Iterator[Cluster]:
    """Run a cluster for the length of a `with`; the folder must be empty or new, and stays."""
    cluster = Cluster(folder, settings)
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.stop()
