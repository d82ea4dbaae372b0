"""A Slurm of four nodes on this machine, in a folder and on ports of its own: python tests/slurm/machine.py FOLDER.

munge, slurmctld, a slurmd for each node and, with accounting, mariadbd and slurmdbd; no systemd. All that is started is
ended by its pid. Outside of the folder it adds lines to /etc/hosts, by which the nodes find one another, and takes them
back at the end.
"""

import contextlib
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client")
ACCOUNTING = ("slurmdbd", "mariadb-server-core", "mariadb-client-core")
NODES = ("node1", "node2", "node3", "node4")
LARGEST_ARRAY = 9
"""Small, so that few jobs are more than an array may have."""
HOSTS = Path("/etc/hosts")
CGROUPS = Path("/sys/fs/cgroup/memory")


def why_not() -> str:
    """Why Slurm cannot run on this machine; empty where it can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "Slurm's daemons need root, which this user is not"
    if not Path("/etc/debian_version").exists() or not shutil.which("apt-get"):
        return f"its packages are Debian's, and this is {platform.system()} without apt-get"
    return ""


def install(accounting: bool) -> None:
    """Debian's packages, where they are missing."""
    wanted = PACKAGES + (ACCOUNTING if accounting else ())
    ask = ["dpkg-query", "-W", "-f", "${Package} ${Status}\n", *wanted]
    known = subprocess.run(ask, capture_output=True, text=True, check=False).stdout
    missing = [name for name in wanted if f"{name} install ok installed" not in known]
    if missing:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *missing]):
            subprocess.run(["apt-get", *words], check=True, env=environment, stdin=subprocess.DEVNULL,
                           capture_output=True)  # fmt: skip


def memory_is_limited() -> bool:
    """Whether control groups that limit memory can be made here, which Debian's Slurm does with their first version."""
    try:
        (CGROUPS / "manifold_lab_probe").mkdir()
        (CGROUPS / "manifold_lab_probe").rmdir()
    except OSError:
        return False
    return (CGROUPS / "memory.limit_in_bytes").exists()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at, below those that the system hands out."""
    found: list[int] = []
    for port in range(23000 + os.getpid() % 5000, 32000):
        with socket.socket() as probe:
            if len(found) < count and probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free ports")


@dataclass
class Machine:
    """A Slurm; `environment` is that of a user of it."""

    folder: Path
    accounting: bool = False
    memory: bool = False
    ports: list[int] = field(default_factory=lambda: free_ports(8))
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def start(self) -> "Machine":
        install(self.accounting)
        for name in ("state", "munge", *(f"spool.{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        self.write_configuration()
        known = HOSTS.read_text().splitlines()
        with HOSTS.open("a") as file:
            file.writelines(f"127.0.0.1 {node}\n" for node in NODES if f"127.0.0.1 {node}" not in known)
        self.start_munge()
        if self.accounting:
            self.start_accounting()
        self.run("slurmctld", "-c", "-D", name="slurmctld")
        for node in NODES:
            self.start_node(node)
        self.wait(lambda: self.ask("sinfo", "-h", "-N", "-p", "main", "-t", "idle", "-o", "%N").split() == list(NODES))
        return self

    def start_node(self, node: str) -> None:
        self.run("slurmd", "-D", "-N", node, name=f"slurmd.{node}")

    def write_configuration(self) -> None:
        controller, database, _, *nodes = self.ports
        text = (Path(__file__).parent / "slurm.conf").read_text().format(
            folder=self.folder, host=socket.gethostname().split(".")[0], controller=controller, array=LARGEST_ARRAY,
            track="cgroup" if self.memory else "linuxproc", task="cgroup" if self.memory else "none",
            gather="linux" if self.memory else "none", resources="CR_Core_Memory" if self.memory else "CR_Core",
        )  # fmt: skip
        host = socket.gethostname().split(".")[0]
        text += "".join(f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory=4000\n"
                        for node, port in zip(NODES, nodes, strict=False))  # fmt: skip
        text += "AccountingStorageType=accounting_storage/none\n" if not self.accounting else (
            f"AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=127.0.0.1\n"
            f"AccountingStoragePort={database}\nAccountingStoragePass={self.folder}/munge/socket\n")  # fmt: skip
        (self.folder / "slurm.conf").write_text(text)
        if self.memory:
            (self.folder / "cgroup.conf").write_text(
                "CgroupPlugin=cgroup/v1\nCgroupAutomount=yes\nConstrainRAMSpace=yes\nConstrainSwapSpace=no\n"
                "ConstrainCores=no\nConstrainDevices=no\n"
            )

    def start_munge(self) -> None:
        munge = self.folder / "munge"
        (munge / "key").write_bytes(os.urandom(128))
        (munge / "key").chmod(0o400)
        for path in (munge, munge / "key"):
            shutil.chown(path, "munge", "munge")
        munge.chmod(0o755)
        self.run("runuser", "-u", "munge", "--", "munged", "--foreground", f"--socket={munge}/socket",
                 f"--key-file={munge}/key", f"--pid-file={munge}/pid", f"--log-file={munge}/log",
                 f"--seed-file={munge}/seed", name="munged")  # fmt: skip
        self.wait((munge / "socket").exists)

    def start_accounting(self) -> None:
        database, sql_port = self.ports[1:3]
        data, sql_socket = self.folder / "database", self.folder / "database.socket"
        subprocess.run(["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}", "--skip-test-db"],
                       check=True, capture_output=True)  # fmt: skip
        self.run("mariadbd", "--no-defaults", "--user=root", f"--datadir={data}", f"--socket={sql_socket}",
                 "--bind-address=127.0.0.1", f"--port={sql_port}", "--innodb-buffer-pool-size=32M",
                 "--innodb-flush-log-at-trx-commit=0", f"--pid-file={self.folder}/mariadbd.pid",
                 name="mariadbd")  # fmt: skip

        def sql(words: str) -> bool:
            command = ["mariadb", "--no-defaults", "-S", str(sql_socket), "-e", words]
            return subprocess.run(command, capture_output=True, check=False).returncode == 0

        self.wait(lambda: sql("select 1"))
        for host in ("127.0.0.1", "localhost"):
            assert sql(f"create user slurm@{host} identified by 'test'; grant all on slurm.* to slurm@{host}")
        assert sql("create database slurm")
        configuration = self.folder / "slurmdbd.conf"
        configuration.write_text(
            f"DbdHost=localhost\nDbdAddr=127.0.0.1\nDbdPort={database}\nSlurmUser=root\nAuthType=auth/munge\n"
            f"AuthInfo=socket={self.folder}/munge/socket\nStorageType=accounting_storage/mysql\n"
            f"StorageHost=127.0.0.1\nStoragePort={sql_port}\nStorageUser=slurm\nStoragePass=test\nStorageLoc=slurm\n"
            f"LogFile={self.folder}/slurmdbd.log\nPidFile={self.folder}/slurmdbd.pid\n"
        )
        configuration.chmod(0o600)
        self.run("slurmdbd", "-D", name="slurmdbd")
        self.wait(lambda: self.succeeds("sacctmgr", "-n", "list", "cluster"))
        self.wait(lambda: self.succeeds("sacctmgr", "-i", "add", "cluster", "test") or "test" in self.ask(
            "sacctmgr", "-n", "list", "cluster"))  # fmt: skip

    def run(self, *command: str, name: str) -> None:
        """Start a daemon; it is ended by `stop`."""
        with (self.folder / f"{name}.out").open("ab") as out:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self.environment,
                                       start_new_session=True)  # fmt: skip
        self.processes[name] = process

    def ask(self, *command: str) -> str:
        """What a command of Slurm says."""
        return subprocess.run(command, capture_output=True, text=True, env=self.environment, check=False,
                              timeout=60).stdout  # fmt: skip

    def succeeds(self, *command: str) -> bool:
        return (
            subprocess.run(command, capture_output=True, env=self.environment, check=False, timeout=60).returncode == 0
        )

    def wait(self, condition: Callable[[], object], seconds: float = 60) -> None:
        """Wait until something is so."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"it did not happen; the logs are in {self.folder}")
            time.sleep(0.1)

    def kill_node(self, node: str) -> None:
        """Kill a node's daemon and whatever runs under it, as a power cut does."""
        daemon = self.processes.pop(f"slurmd.{node}")
        tasks = [process for process in psutil.process_iter() if self.is_at(process, node)]
        steps = [above for process in tasks for above in process.parents() if above.name().startswith("slurmstepd")]
        for process in (psutil.Process(daemon.pid), *steps, *tasks):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        daemon.wait()

    def is_at(self, process: psutil.Process, node: str) -> bool:
        """Whether a process belongs to a job on a node of this Slurm."""
        try:
            environment = process.environ()
        except psutil.Error:
            return False
        return environment.get("SLURM_CONF") == self.environment["SLURM_CONF"] and (
            environment.get("SLURMD_NODENAME") == node)  # fmt: skip

    def stop(self) -> None:
        """End all jobs, then every daemon, the last started first."""
        if "slurmctld" in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired, TimeoutError):
                self.ask("scancel", "--user=root")
                self.wait(lambda: not self.ask("squeue", "-h").strip(), 20)
        for name in reversed(self.processes):
            end(self.processes[name])
        self.processes.clear()
        kept = [line for line in HOSTS.read_text().splitlines() if line not in {f"127.0.0.1 {node}" for node in NODES}]
        HOSTS.write_text("\n".join(kept) + "\n")


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a daemon to end, and kill it where it does not; runuser's child is asked too."""
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    for one in (process, *children):
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            one.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    for one in (process, *children):
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            one.kill()
    process.wait()


def main(folder: Path) -> None:
    """Start a Slurm, say how to use it, and stop it at the end of input or at a signal."""
    machine = Machine(folder, accounting="--accounting" in sys.argv, memory="--memory" in sys.argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        machine.start()
        print(f"export SLURM_CONF={machine.environment['SLURM_CONF']}", flush=True)
        sys.stdin.read()
    finally:
        machine.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
