"""A Slurm of one node on the loopback address, with all of its files in a temporary folder."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

SBIN = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
DAEMONS = ("munged", "slurmctld", "slurmd")
START, END = 30.0, 30.0  # seconds in which it must be up, and in which its jobs must be gone
CONFIG = """
ClusterName=tiny
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
SlurmdParameters=config_overrides
MaxArraySize={largest}
KillWait=20
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@contextmanager
def tiny_slurm(largest: int) -> Iterator[None]:
    """Run the daemons inside the block, and name their configuration in the environment.

    Args:
        largest: array it takes.

    Skips the test where the daemons are not installed or cannot be started.
    """
    programs = {name: shutil.which(name, path=SBIN) for name in DAEMONS}
    if lacking := [name for name, found in programs.items() if not found]:
        pytest.skip(f"not installed: {', '.join(lacking)} (apt install slurm-wlm munge)")
    with (
        tempfile.TemporaryDirectory(prefix="slurm-") as made,
        pytest.MonkeyPatch.context() as patch,
    ):
        folder = Path(made)
        for name in ("state", "spool"):
            (folder / name).mkdir()
        (folder / "munge.key").touch(0o600)
        (folder / "munge.key").write_bytes(os.urandom(1024))
        host, user = socket.gethostname().partition(".")[0], getpass.getuser()
        text = CONFIG.format(
            host=host, user=user, folder=folder, ports=_free_ports(2), largest=largest
        )
        (folder / "slurm.conf").write_text(text)
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "seed", "log")]
        munged = ["--foreground", "--force", f"--socket={folder}/munge.socket", *files]
        options = {"munged": munged, "slurmctld": ["-D"], "slurmd": ["-D"]}
        daemons: list[subprocess.Popen[bytes]] = []
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # clears up, too
        try:
            for name, words in options.items():
                with open(folder / f"{name}.said", "wb") as said:
                    command = [str(programs[name]), *words]
                    daemons.append(
                        subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
                    )  # of its own session: they outlive Ctrl-C, to end what they run
                if name == "munged":
                    _wait((folder / "munge.socket").exists, START)
            if not _wait(lambda: "idle" in ask("sinfo", "--noheader", "--format=%T"), START):
                ends = {name: _end(folder / f"{name}.said") for name in options}
                pytest.skip(f"Slurm cannot be started here: {ends}")
            yield
        finally:
            if len(daemons) == len(options):
                ask("scancel", f"--user={user}")
                _wait(lambda: not ask("squeue", "--noheader"), END)
            for daemon in reversed(daemons):
                daemon.terminate()
                try:
                    daemon.wait(END)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait()
            signal.signal(signal.SIGTERM, before)


def ask(*words: str) -> str:
    """Run a command of Slurm, and give what it prints."""
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60).stdout


def queued() -> list[str]:
    """List the tasks that run or wait."""
    return ask("squeue", "--noheader", "--array", "--format=%i").split()


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


def _wait(true: Callable[[], object], most: float) -> bool:
    end = time.monotonic() + most
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def _end(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(errors="replace").strip()[-300:]
    return ""
