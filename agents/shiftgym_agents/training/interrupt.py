"""Stop long work politely: finish the block, write a checkpoint, then leave."""

from __future__ import annotations

import signal
import threading


class StopRequest:
    """Turn Ctrl-C and SIGTERM into a request to stop at the next block; a second Ctrl-C is hard.

    Outside the main thread, which alone may handle signals, it never asks.

    Attributes:
        requested: whether to stop.
        number: the signal that asked.
    """

    requested = False
    number: int = signal.SIGINT

    def __enter__(self) -> StopRequest:
        """Listen."""
        main = threading.current_thread() is threading.main_thread()
        numbers = (signal.SIGINT, signal.SIGTERM) if main else ()
        self._old = {number: signal.getsignal(number) for number in numbers}
        for number in self._old:
            signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, frame: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested, self.number = True, number

    def __exit__(self, *error: object) -> None:
        """Give the signals back."""
        for number, handler in self._old.items():
            signal.signal(number, handler)
