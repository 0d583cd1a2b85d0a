"""Several processes of one run: how they find each other and agree to stop."""

import os

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
        coordinator_address: ``host:port`` of process 0.
        num_processes: Number of processes.
        process_id: Number of this one.

    Raises:
        ValueError: If some arguments are given and others not.
    """
    given = (coordinator_address, num_processes, process_id)
    if any(value is not None for value in given):
        if any(value is None for value in given):
            raise ValueError(
                "coordinator_address, num_processes and process_id belong together: got "
                f"{coordinator_address}, {num_processes} and {process_id}"
            )
        jax.distributed.initialize(
            coordinator_address, num_processes, process_id, heartbeat_timeout_seconds=30
        )
        return
    hosts = os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",")
    slices = "MEGASCALE_COORDINATOR_ADDRESS" in os.environ
    tasks = int(os.environ.get("SLURM_NTASKS", "1")) if "SLURM_PROCID" in os.environ else 1
    if len(hosts) > 1 or slices or tasks > 1:
        jax.distributed.initialize(heartbeat_timeout_seconds=30)


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
