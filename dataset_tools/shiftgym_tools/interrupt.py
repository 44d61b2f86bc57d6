"""Stop long work politely: checkpoint at the next block, then leave."""

from __future__ import annotations

import signal


class StopRequest:
    """Turn Ctrl-C and SIGTERM into a request to stop at the next block; a second Ctrl-C is hard."""

    requested = False

    def __enter__(self) -> StopRequest:
        """Listen."""
        self._old = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
        for number in self._old:
            signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, frame: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def __exit__(self, *error: object) -> None:
        """Give the signals back."""
        for number, handler in self._old.items():
            signal.signal(number, handler)
