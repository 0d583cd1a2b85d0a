"""What signals do to a run."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that asks a run of one process to save and stop, while the context lasts.

    It is set by SIGTERM (a preemption notice), SIGHUP (the terminal has gone; not under ``nohup``)
    and Ctrl-C. A second Ctrl-C ends the process at once, inside of the compiler, too; in a
    notebook, whose process is more than this run, it is an ordinary interrupt. Only the main
    thread can be told of signals: in others the event is never set.
    """
    stop = threading.Event()
    with _restored():
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
            _on_interrupt(stop.set)
        yield stop


@contextlib.contextmanager
def noticing_interrupts() -> Iterator[None]:
    """Makes SIGHUP and Ctrl-C what SIGTERM is to one of several processes: jax makes all agree.

    Otherwise as :func:`stopping`.
    """
    with _restored():
        if threading.current_thread() is threading.main_thread():
            _on_interrupt(lambda: signal.raise_signal(signal.SIGTERM))
        yield


@contextlib.contextmanager
def _restored() -> Iterator[None]:
    """Puts back what signals did before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # one that was not installed by Python stays
                signal.signal(number, handler)


def end_on_interrupt() -> None:
    """Makes Ctrl-C end the process at once, with exit code 130, where there is nothing to save.

    An exception would be lost in a callback from the compiler.
    """
    signal.signal(signal.SIGINT, _end)


def _on_interrupt(ask: Callable[[], None]) -> None:
    def handle(number: int, frame: object) -> None:
        ask()
        if _in_notebook():
            signal.signal(signal.SIGINT, signal.default_int_handler)
            return
        # By default a signal ends any process but that of number 1, of a container.
        signal.signal(signal.SIGINT, _end if os.getpid() == 1 else signal.SIG_DFL)
        _say("saving the state after this step; Ctrl-C again ends the run unsaved")

    signal.signal(signal.SIGINT, handle)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda number, frame: ask())


def _in_notebook() -> bool:
    """Whether the process is a kernel, which an interrupt must not end."""
    return "ipykernel" in sys.modules


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
