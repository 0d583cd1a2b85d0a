"""Signals to processes of their own, which need no jax."""

import os
import signal
import subprocess
import sys

import pytest

STOPPING = """
import signal, sys
from genjax.training import signals
stopping = signals.stopping()
stop = stopping.__enter__()
print(stop.is_set())
signal.raise_signal(int(sys.argv[1]))
print(stop.is_set(), flush=True)
signal.raise_signal(signal.SIGINT)
print("goes on")
"""


def program(text, *args, **kwargs):
    return subprocess.run(
        [sys.executable, "-c", text, *args],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        # Tests may themselves be run under nohup, which programs inherit.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        **kwargs,
    )


def test_the_first_interrupt_asks_and_the_second_ends():
    done = program(STOPPING, str(int(signal.SIGINT)), stderr=subprocess.PIPE)
    assert done.returncode == -signal.SIGINT and done.stdout == "False\nTrue\n"
    (line,) = done.stderr.splitlines()
    assert "Ctrl-C again" in line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_after_a_notice_is_a_first_one(number):
    done = program(STOPPING, str(int(number)), stderr=subprocess.PIPE)
    assert done.returncode == 0 and done.stdout == "False\nTrue\ngoes on\n"


def test_in_a_notebook_the_second_interrupt_is_an_ordinary_one():
    text = """if True:
        import signal, sys
        sys.modules["ipykernel"] = sys  # the process is a kernel, which must live on
        from genjax.training import signals
        before = signal.getsignal(signal.SIGINT)
        with signals.stopping() as stop:
            signal.raise_signal(signal.SIGINT)
            print(stop.is_set())
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                print("interrupted")
        print(signal.getsignal(signal.SIGINT) is before)
    """
    done = program(text, stderr=subprocess.PIPE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\ninterrupted\nTrue\n", "")


def test_nohup_is_heeded():
    text = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)" + STOPPING
    done = program(text, str(int(signal.SIGHUP)), stderr=subprocess.PIPE)
    assert done.returncode == 0 and done.stdout == "False\nFalse\ngoes on\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_broken_stderr_stops_nothing_from_being_saved(number):
    read, write = os.pipe()
    os.close(read)  # such as of `tee`, which Ctrl-C has ended
    done = program(STOPPING, str(int(number)), stderr=write)
    os.close(write)
    assert done.stdout.startswith("False\nTrue\n")


def test_interrupts_end_with_their_code_where_there_is_nothing_to_save():
    text = """if True:
        import signal
        from genjax.training import signals
        signals.end_on_interrupt()
        signal.raise_signal(signal.SIGINT)
        print("goes on")
    """
    done = program(text, stderr=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (130, "") and "stopped by Ctrl-C" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_what_one_of_several_is_told_is_a_notice(number):
    text = """if True:
        import signal, sys
        from genjax.training import signals
        signal.signal(signal.SIGTERM, lambda *_: print("noticed"))
        noticing = signals.noticing_interrupts()
        noticing.__enter__()
        signal.raise_signal(int(sys.argv[1]))
    """
    done = program(text, str(int(number)), stderr=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (0, "noticed\n")
