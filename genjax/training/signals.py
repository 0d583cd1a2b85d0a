"""What signals do to a run."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable


def stop_on_signals() -> threading.Event:
    """An event that asks a run of one process to save and stop.

    It is set by SIGTERM (a preemption notice), SIGHUP (the terminal has gone; not under ``nohup``)
    and Ctrl-C. A second Ctrl-C ends the process at once, inside of the compiler, too.
    """
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    _on_interrupt(stop.set)
    return stop


def notice_interrupts() -> None:
    """Makes SIGHUP and Ctrl-C what SIGTERM is to one of several processes: jax makes all agree.

    Otherwise as :func:`stop_on_signals`.
    """
    _on_interrupt(lambda: signal.raise_signal(signal.SIGTERM))


def end_on_interrupt() -> None:
    """Makes Ctrl-C end the process at once, with exit code 130, where there is nothing to save.

    An exception would be lost in a callback from the compiler.
    """
    signal.signal(signal.SIGINT, _end)


def _on_interrupt(ask: Callable[[], None]) -> None:
    def handle(number: int, frame: object) -> None:
        ask()
        # By default a signal ends any process but that of number 1, of a container.
        signal.signal(signal.SIGINT, _end if os.getpid() == 1 else signal.SIG_DFL)
        _say("saving the state after this step; Ctrl-C again ends the run unsaved")

    signal.signal(signal.SIGINT, handle)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda number, frame: ask())


def _end(number: int, frame: object) -> None:
    _say("error: stopped by Ctrl-C; what was saved is intact")
    os._exit(130)


def _say(line: str) -> None:
    """Writes past Python's buffers, in whose midst the signal may have come."""
    # Ctrl-C in a terminal also ends what stderr may be piped to.
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode())
    with contextlib.suppress(OSError):
        if os.isatty(1):
            os.write(1, b"\x1b[?25h")  # the cursor, which a progress bar hides
