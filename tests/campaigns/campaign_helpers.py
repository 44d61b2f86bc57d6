"""What the campaigns share: work in children that die at any moment, and inputs bent at random.

    kills       a child is killed before its n-th change of the disk, for every n, or at a random
                moment; then what a reader sees is judged, and the work is done again
    malformed   a reader gets a changed input; it gives what it should, or refuses with a sentence

A child is a fork of a process that has imported everything, so that a case takes what its work
takes. Nothing here draws from a global generator: every case follows from a seed and its number.
"""

from __future__ import annotations

import collections
import copy
import faulthandler
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Work = Callable[[], int | None]
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "os.link",
           "os.symlink"}  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
UNCAUGHT = 99  # exit status of a child whose work raised
BEFORE_ANY_WORK = 130  # exit status of a child that Ctrl-C reached before its command began
INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
MEMORY = 8 << 30  # bytes of address space of a child that reads malformed input


@dataclass(frozen=True)
class Outcome:
    """How a child ended.

    Attributes:
        code: exit status; minus the signal's number where one ended it.
        said: what it printed, both streams.
        hung: whether it was ended because it took too long.
    """

    code: int
    said: str
    hung: bool

    @property
    def traceback(self) -> bool:
        return self.code == UNCAUGHT or "Traceback (most recent call last)" in self.said


def shiftgym(*words: str) -> Work:
    """Give the work of a ``shiftgym`` command.

    A child holds signals back until here, and again from here on: what reaches it is judged as
    the command's own doing, never as that of the code around it. Elsewhere it leaves what is held
    back as it was.
    """

    def work() -> int | None:
        from shiftgym.cli import main

        before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)
        except KeyboardInterrupt:
            return BEFORE_ANY_WORK
        code = main(list(words))
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # outside of a child nothing was held
        return code

    return work


def in_child(
    work: Work,
    scratch: Path,
    *,
    crash_before: int | None = None,
    kill_after: float | None = None,
    kill_with: signal.Signals = signal.SIGKILL,
    limit: float = 300.0,
) -> Outcome:
    """Run work in a fork of this process.

    Args:
        work: what to do; what it returns is the exit status.
        scratch: a folder for its output.
        crash_before: end it (SIGKILL) before this change of the disk, counted from 1.
        kill_after: signal it after so many seconds.
        kill_with: that signal.
        limit: seconds of its own time, or of waiting without any, after which it counts as hung.
    """
    output = scratch / f"output-{os.getpid()}.txt"
    sys.stdout.flush()
    sys.stderr.flush()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    child = os.fork()
    if not child:  # whoever started these tests may have them ignore Ctrl-C, as nohup does
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _be_child(work, output, crash_before)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    started, hung, signalled = time.monotonic(), False, kill_after is None
    patience = Patience(child, limit)
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if not signalled and kill_after is not None and time.monotonic() - started >= kill_after:
            os.kill(child, kill_with)
            signalled = True
        if patience.is_over():
            hung = True
            os.kill(child, signal.SIGKILL)
        time.sleep(0.001)
    said = output.read_text(errors="replace")
    return Outcome(os.waitstatus_to_exitcode(ended[1]), said, hung)


class Patience:
    """Say when a child hangs, however busy the machine is.

    Args:
        child: its process number.
        limit: seconds of processor time that it may take, and that it may go on without any.
    """

    def __init__(self, child: int, limit: float) -> None:
        self.child, self.limit = child, limit
        self.anew()

    def anew(self) -> None:
        """Begin to count, for the next of several works."""
        self._start = self._last = self._taken()
        self._since = self._looked = time.monotonic()

    def is_over(self) -> bool:
        """Look at the child, every tenth of a second at the most."""
        now = time.monotonic()
        if now - self._looked < 0.1:
            return False
        self._looked, taken = now, self._taken()
        if taken != self._last:
            self._last, self._since = taken, now
        return taken - self._start > self.limit or now - self._since > self.limit

    def _taken(self) -> float:
        """Give the seconds of processor time taken; where the system does not say, of any time."""
        try:
            told = Path(f"/proc/{self.child}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return time.monotonic()
        return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


def count_changes(work: Work, scratch: Path) -> int:
    """Run work to its end in a child, and count its changes of the disk."""
    told = scratch / "changes.txt"

    def counted() -> int | None:
        seen = _watch(None)
        code = work()
        told.write_text(str(seen[0]))
        return code

    done = in_child(counted, scratch)
    assert done.code == 0, done
    return int(told.read_text())


def _be_child(work: Work, output: Path, crash_before: int | None) -> None:
    code = UNCAUGHT
    try:
        speak_into(output)
        if crash_before is not None:
            _watch(crash_before)
        code = work() or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def speak_into(output: Path) -> None:
    """Send this process's two streams into a file, also where a test runner had taken them."""
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(descriptor, number)
    sys.stdout, sys.stderr = (
        open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2)
    )


def _watch(crash_before: int | None) -> list[int]:
    """Count this process's changes of the disk from now on, and end it before one of them."""
    seen, me = [0], os.getpid()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            mode, flags = arguments[1], arguments[2]
            writes = any(c in mode for c in "wxa+") if isinstance(mode, str) else flags & WRITING
            if not writes or str(arguments[0]).startswith("/dev/"):
                return
        elif event not in CHANGES:
            return
        seen[0] += 1
        if seen[0] == crash_before and os.getpid() == me:
            os.kill(me, signal.SIGKILL)

    sys.addaudithook(hook)
    return seen


@dataclass
class Tally:
    """Count what came out of a campaign, and keep an example of everything that is wrong."""

    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    wrong: dict[str, list[str]] = field(default_factory=dict)

    def came(self, kind: str) -> None:
        self.counts[kind] += 1

    def fault(self, kind: str, example: object) -> None:
        self.counts[kind] += 1
        self.wrong.setdefault(kind, []).append(str(example)[-1500:])

    def so_far(self, title: str) -> None:
        """Print the figures, so that a campaign that is broken off tells what it did."""
        print(f"so far, {title}: {dict(self.counts)}", flush=True)

    def finish(self, title: str) -> int:
        """Print the figures, and give the exit status."""
        print(f"{title}: " + (", ".join(f"{n:,} {kind}" for kind, n in self.counts.items())))
        for kind, examples in self.wrong.items():
            print(f"WRONG: {len(examples)} x {kind}, such as\n{examples[0]}")
        return 1 if self.wrong else 0


def survey(case: Callable[[int], str], count: int, scratch: Path, limit: float = 300.0) -> Tally:
    """Try cases one after another in a child; go on in a fresh one after a crash or a hang.

    Args:
        case: does case k, and says in a word or two what came of it; its exceptions are faults.
        count: number of cases.
        scratch: a folder for notes and output.
        limit: seconds of its own time that one case may take, or of waiting without any.
    """
    tally, first, log = Tally(), 0, scratch / "cases.txt"
    while first < count:
        log.write_text("")
        child = os.fork()
        if not child:
            _try_cases(case, range(first, count), log, scratch / "cases-output.txt")
        hung, seen, patience = False, log.stat().st_size, Patience(child, limit)
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            if log.stat().st_size != seen:
                seen = log.stat().st_size
                patience.anew()
            if patience.is_over():
                hung = True
                os.kill(child, signal.SIGKILL)
            time.sleep(0.05)
        for line in log.read_text().splitlines():
            number, kind, told = json.loads(line)
            if kind == "begun":
                first = number
                continue
            first = number + 1
            if kind == "came":
                tally.came(told)
            else:
                tally.fault(kind, f"case {number}: {told}")
        code = os.waitstatus_to_exitcode(ended[1])
        if hung or code:
            kind = "hang" if hung else f"crash, status {code}"
            tally.fault(kind, f"case {first}: " + (scratch / "cases-output.txt").read_text())
            first += 1
    return tally


def _try_cases(case: Callable[[int], str], numbers: range, log: Path, output: Path) -> None:
    code = 1
    try:
        speak_into(output)
        faulthandler.enable(2)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        with open(log, "a", buffering=1) as file:
            for k in numbers:
                file.write(json.dumps([k, "begun", ""]) + "\n")
                try:
                    told = [k, "came", case(k)]
                except Exception:
                    told = [k, "traceback", traceback.format_exc()]
                file.write(json.dumps(told) + "\n")
        code = 0
    finally:
        os._exit(code)


ODD = (None, True, -1, 0, 1.5, 2**70, 10**400, float("nan"), float("inf"), "", "x", "\x00", "../x",
       "/dev/zero", "9" * 5000, [], [[]], [1], {}, {"a": 1})  # fmt: skip
WHOLE = (b"", b"\x00" * 100, b"null", b"[]", b"1", b'"x"', b"{}", b"NaN", b"\xff\xfe\x00",
         b"[" * 200_000, b'{"a":' * 50_000, b"9" * 5_000, b"a." * 50_000 + b"a = 1",
         b"a = " + b"[" * 50_000)  # fmt: skip


def bent_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    """Cut, flip, stretch, move or replace bytes."""
    new, kind = bytearray(content), int(rng.integers(6))
    if kind == 0 or not new:
        return WHOLE[rng.integers(len(WHOLE))]
    at, source = (int(place) for place in rng.integers(len(new), size=2))
    if kind == 1:
        del new[at:]
    elif kind == 2:
        for place in rng.integers(len(new), size=int(rng.integers(1, 6))):
            new[place] = int(rng.integers(256))
    elif kind == 3:
        new[at:at] = bytes([int(rng.integers(256))]) * int(rng.integers(1, 100_000))
    elif kind == 4:
        length = int(rng.integers(1, 300))
        new[at : at + length] = new[source : source + length]
    else:
        new[at : at + 8] = int(rng.choice([0, 2**31, 2**62, 2**63 - 1])).to_bytes(8, "little")
    return bytes(new)


def bent_tree(tree: Any, rng: np.random.Generator, odd: tuple[Any, ...] = ODD) -> Any:
    """Remove or replace one or two values anywhere in nested dicts and lists."""
    tree = copy.deepcopy(tree)
    for _ in range(int(rng.integers(1, 3))):
        places = list(_places(tree))
        if not places:
            return odd[rng.integers(len(odd))]
        holder, key = places[rng.integers(len(places))]
        if rng.random() < 0.3:
            del holder[key]
        else:
            holder[key] = copy.deepcopy(odd[rng.integers(len(odd))])
    return tree


def bent_json(content: bytes, rng: np.random.Generator) -> bytes:
    """Change the values of a JSON text, or its bytes."""
    if rng.random() < 0.3:
        return bent_bytes(content, rng)
    with any_digits():
        return json.dumps(bent_tree(json.loads(content), rng)).encode()


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    keys = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in list(keys):
        yield tree, key
        yield from _places(tree[key])


class any_digits:
    """Let integers of any length be written inside the block; readers keep Python's limit."""

    def __enter__(self) -> None:
        self._before = sys.get_int_max_str_digits()
        sys.set_int_max_str_digits(0)

    def __exit__(self, *_: object) -> None:
        sys.set_int_max_str_digits(self._before)
