"""Runs an experiment on a Cloud TPU pod, with the gcloud command.

    POD="--name=genjax --project=PROJECT --zone=us-west4-a"
    python scripts/tpu_pod.py create  $POD --accelerator_type=v5litepod-256
    python scripts/tpu_pod.py install $POD
    python scripts/tpu_pod.py run     $POD --config=experiments/flow/tarflow_1b.py \
        --workdir=gs://BUCKET/tarflow_1b
    python scripts/tpu_pod.py logs    $POD
    python scripts/tpu_pod.py stop    $POD
    python scripts/tpu_pod.py delete  $POD

``--dry_run`` prints the commands instead of running them. What ``run`` does not know goes to
``scripts/run.py`` (``--config.train.num_steps=500``). ``stop`` asks one worker to stop; all save
the state after the same step, and ``run`` with the same arguments goes on, on a pod of any size.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence

_FOLDER = "genjax"  # in the home directory of each worker
_PYTHON = "3.12"  # images of TPU VMs come with an older one
_ARCHIVE = "genjax.tar.gz"


class PodError(RuntimeError):
    """A command failed or cannot be made; the message is one line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Makes the commands of an action and runs or prints them."""
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    if rest and args.action != "run":
        parser.error(f"unexpected argument {rest[0]!r}")
    try:
        if args.action == "install":
            return _install(args)
        return _do(commands(args, rest), dry_run=args.dry_run)
    except PodError as error:
        print("error:", error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0] if __doc__ else None, allow_abbrev=False
    )
    actions = parser.add_subparsers(dest="action", required=True)
    pod = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    pod.add_argument("--name", required=True, help="name of the TPU")
    pod.add_argument("--zone", required=True)
    pod.add_argument("--project", help="default: that of gcloud's configuration")
    pod.add_argument("--dry_run", action="store_true", help="print the commands, run none")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=text, parents=[pod], allow_abbrev=False)

    create = action("create", "ask for a pod")
    create.add_argument("--accelerator_type", required=True, help="v5litepod-256, v4-32...")
    create.add_argument("--runtime_version", default="v2-alpha-tpuv5-lite", help="that of v5e")
    create.add_argument("--spot", action="store_true", help="cheaper, and may be taken away")
    action("install", "copy this checkout to all workers and install it there")
    run = action("run", "start scripts/run.py on all workers, in the background")
    run.add_argument("--config", required=True)
    run.add_argument("--workdir", required=True, help="a place all workers see: gs://BUCKET/...")
    run.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    action("logs", "follow the log of worker 0")
    action("stop", "save, stop all workers and wait for them")
    action("delete", "give the pod back")
    return parser


def commands(args: argparse.Namespace, rest: Sequence[str] = ()) -> list[list[str]]:
    """The gcloud commands of an action.

    Args:
        args: Parsed arguments.
        rest: Further arguments of ``scripts/run.py``.

    Returns:
        Commands, to be run one after the other.

    Raises:
        PodError: If an argument cannot work.
    """
    if args.action == "create":
        spot = ["--spot"] if args.spot else []
        return [
            _gcloud(args, "create", args.name)
            + [f"--accelerator-type={args.accelerator_type}", f"--version={args.runtime_version}"]
            + spot
        ]
    if args.action == "delete":
        return [[*_gcloud(args, "delete", args.name), "--quiet"]]
    if args.action == "install":
        unpack = (
            f"rm -rf {_FOLDER}.new && mkdir {_FOLDER}.new && tar -xzf {_ARCHIVE} -C {_FOLDER}.new "
            f"&& mkdir -p {_FOLDER} && cp -r {_FOLDER}.new/. {_FOLDER} && rm -rf {_FOLDER}.new"
        )
        install = (
            "(command -v ~/.local/bin/uv || curl -LsSf https://astral.sh/uv/install.sh | sh) && "
            f"cd {_FOLDER} && ~/.local/bin/uv venv --quiet --allow-existing --python {_PYTHON} && "
            "~/.local/bin/uv pip install --quiet -e '.[tpu,gcs]'"
        )
        copy = [*_gcloud(args, "scp", _ARCHIVE, f"{args.name}:"), "--worker=all"]
        return [copy, _on(args, "all", unpack), _on(args, "all", install)]
    if args.action == "run":
        if "://" not in args.workdir and not args.workdir.startswith("/"):
            raise PodError(
                f"--workdir must be a place that all workers see, gs://BUCKET/... or an absolute "
                f"path of a shared file system, got {args.workdir!r}"
            )
        for setting in args.env:
            if not setting.partition("=")[1]:
                raise PodError(f"--env must be NAME=VALUE, got {setting!r}")
        words = [".venv/bin/python", "scripts/run.py", f"--config={args.config}",
                 f"--workdir={args.workdir}", *rest]  # fmt: skip
        start = (
            f"cd {_FOLDER} && if [ -e run.pid ] && kill -0 $(cat run.pid) 2>/dev/null; then "
            'echo "a run is going on: stop it first" >&2; exit 1; fi; '
            f"{shlex.join(['setsid', 'nohup', 'env', *args.env, *words])} "
            "> run.log 2>&1 < /dev/null & echo $! > run.pid"
        )
        return [_on(args, "all", start)]
    if args.action == "logs":
        return [_on(args, "0", f"tail -n 100 -F {_FOLDER}/run.log")]
    # jax's preemption notice reaches the other workers; each waits for its own process.
    wait = f"timeout 600 tail --pid=$(cat {_FOLDER}/run.pid) -f /dev/null"
    return [
        _on(args, "0", f"kill -TERM $(cat {_FOLDER}/run.pid)"),
        _on(args, "all", wait),
    ]


def _gcloud(args: argparse.Namespace, verb: str, *words: str) -> list[str]:
    project = [f"--project={args.project}"] if args.project else []
    place = [f"--zone={args.zone}", *project]
    return ["gcloud", "compute", "tpus", "tpu-vm", verb, *words, *place]


def _on(args: argparse.Namespace, worker: str, command: str) -> list[str]:
    return [*_gcloud(args, "ssh", args.name), f"--worker={worker}", f"--command={command}"]


def _install(args: argparse.Namespace) -> int:
    """Packs this checkout, with what is not committed and without what git ignores."""
    files = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    pack = ["tar", "--null", "--files-from=-", "--ignore-failed-read", "-czf"]
    if args.dry_run:
        print(f"{shlex.join(files)} | {shlex.join([*pack, _ARCHIVE])}")
        return _do(commands(args), dry_run=True)
    with tempfile.TemporaryDirectory() as folder:
        listed = subprocess.run(files, capture_output=True, check=True).stdout
        subprocess.run([*pack, os.path.join(folder, _ARCHIVE)], input=listed, check=True)
        return _do(commands(args), dry_run=False, folder=folder)


def _do(every: Sequence[Sequence[str]], *, dry_run: bool, folder: str | None = None) -> int:
    for command in every:
        print(shlex.join(command), flush=True)
        if dry_run:
            continue
        try:
            code = subprocess.run(command, cwd=folder).returncode
        except FileNotFoundError:
            raise PodError(
                "there is no gcloud command: install the Google Cloud CLI "
                "(https://cloud.google.com/sdk/docs/install) and log in with gcloud auth login"
            ) from None
        if code:
            raise PodError(f"gcloud ended with exit code {code}; what it said is above")
    return 0


if __name__ == "__main__":
    sys.exit(main())
