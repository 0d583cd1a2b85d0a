"""Several processes of one run: how they find each other and agree to stop."""

import ipaddress
import os
import re
import socket

import jax


def join(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Joins the other processes of a run; to be called before jax looks for devices.

    Without arguments what a Cloud TPU pod or SLURM says of the job is taken, and a single process
    is left alone.

    Args:
        coordinator_address: ``host:port`` of process 0, which listens there and nowhere else,
            unless the variable ``JAX_COORDINATOR_BIND_ADDRESS`` names another address, such as
            ``[::]:port`` for all of its addresses.
        num_processes: Number of processes.
        process_id: Number of this one.

    Raises:
        ValueError: If some arguments are given and others not, if the address is none, or if
            process 0 cannot listen on it.
    """
    given = (coordinator_address, num_processes, process_id)
    if any(value is not None for value in given):
        if any(value is None for value in given):
            raise ValueError(
                "coordinator_address, num_processes and process_id belong together: got "
                f"{coordinator_address}, {num_processes} and {process_id}"
            )
        assert coordinator_address is not None
        check_address(coordinator_address)
        listening = None if process_id else _listening(coordinator_address)
        try:
            jax.distributed.initialize(
                coordinator_address,
                num_processes,
                process_id,
                coordinator_bind_address=listening,
                heartbeat_timeout_seconds=30,
            )
        except jax.errors.JaxRuntimeError as error:
            if process_id or "Failed to start RPC server" not in str(error):
                raise
            raise _cannot_listen(listening) from error
        return
    hosts = os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",")
    slices = "MEGASCALE_COORDINATOR_ADDRESS" in os.environ
    tasks = int(os.environ.get("SLURM_NTASKS", "1")) if "SLURM_PROCID" in os.environ else 1
    if len(hosts) > 1 or slices or tasks > 1:
        jax.distributed.initialize(heartbeat_timeout_seconds=30)


def check_address(address: str) -> None:
    """Whether an address is ``host:port``.

    Args:
        address: The address; the host is a name, an IPv4 address, or an IPv6 address in brackets.

    Raises:
        ValueError: If it is not, or if the port is not from 1 to 65535.
    """
    found = re.fullmatch(r"(?:[^\s:\[\]/]+|\[[0-9A-Fa-f:.]+(?:%\w+)?\]):([0-9]{1,5})", address)
    if not found or not 1 <= int(found[1]) <= 65535:
        raise ValueError(
            "coordinator_address must be host:port with a port from 1 to 65535, such as "
            f"10.0.0.1:8476, got {address!r}"
        )


def _listening(address: str) -> str:
    """Where process 0 listens: jax by itself would on all addresses, for whoever reaches one."""
    given = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS")
    if given is not None:
        return given
    host, _, port = address.rpartition(":")
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host.strip("[]"), port)}
    except OSError as error:  # jax would end the process
        raise _cannot_listen(address) from error
    # Some systems know their own name as one that no other machine reaches.
    loopback = all(ipaddress.ip_address(str(one).split("%")[0]).is_loopback for one in found)
    named = host != "localhost" and not re.fullmatch(r"[0-9.]+|\[.*\]", host)
    return f"[::]:{port}" if loopback and named else address


def _cannot_listen(address: str | None) -> ValueError:
    return ValueError(
        f"process 0 cannot listen on {address}: give coordinator_address as an address of its "
        "machine with a free port, or where it listens in JAX_COORDINATOR_BIND_ADDRESS"
    )


def meet(name: str) -> None:
    """Waits until all processes are here; does nothing if there is one.

    Args:
        name: Name of the place, the same on all.
    """
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


class AgreedStop:
    """A request to stop that all processes see after the same step.

    SIGTERM to any of them is enough. jax notices the signal and lets the processes agree on a step;
    until then nothing is exchanged.
    """

    def __init__(self) -> None:
        self._stopping = False
        self._asked = 0

    def reached(self, step: int) -> bool:
        """Whether the processes have agreed to stop after ``step``.

        To be asked by all after the same steps. jax agrees on a number and compares with it, so
        that it must be given consecutive ones: how often it was asked, not the step, of which a
        call may make several.
        """
        if not self._stopping:
            from jax.experimental import multihost_utils

            self._asked += 1
            self._stopping = bool(multihost_utils.reached_preemption_sync_point(self._asked))
        return self._stopping
