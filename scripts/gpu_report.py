"""Answers in one call what a GPU does with genjax: right numbers, speed, and where time goes.

    python scripts/gpu_report.py --out=DIR
    python scripts/gpu_report.py --out=DIR --smoke

Parts, each in a process of its own with a time limit: layers, losses and bfloat16 policies against
NumPy in float64, and the tests of them; the VDM of CIFAR-10 in bfloat16 at its official size
against the fastest matrix product, with scanned layers and rematerialisation; the GANs of CIFAR-10
beside stock Flax and, where it is installed, PyTorch; samples a second; the loop's overhead at
short steps; data on the device against data from the host; profiles. Data is random.

``DIR/report.json`` is written after each part, and ``DIR/report.md`` is made from it. The same
command goes on: parts that were done are kept, the others are tried (again). ``--smoke`` runs one
part of each kind in tiny sizes, on a CPU, too.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

REPO = pathlib.Path(__file__).resolve().parents[1]
RANDOM_IMAGES = ["--config.data.name=npy", "--config.data.event_shape=(32,32,3)"]
GANS = ("dcgan_cifar10", "sngan_cifar10", "wgan_gp_cifar10")


@dataclasses.dataclass(frozen=True)
class Part:
    """One measurement: a command that writes JSON, and how long it may take.

    Attributes:
        name: Its name in the report.
        command: Words after ``python``; ``{json}`` stands for the file to write.
        seconds: Its limit.
        env: Environment variables besides those there are.
    """

    name: str
    command: tuple[str, ...]
    seconds: float
    env: tuple[tuple[str, str], ...] = ()


def main() -> None:
    """Does the parts that have not been done, and writes the report after each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the report")
    parser.add_argument("--minutes", type=float, default=8.0, help="of all parts of this call")
    parser.add_argument("--only", default="", help="parts whose names begin so, with commas")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does the script work?")
    args = parser.parse_args()
    stop = time.monotonic() + 60 * args.minutes
    args.out.mkdir(parents=True, exist_ok=True)
    place = args.out / "report.json"
    report: dict[str, Any] = json.loads(place.read_text()) if place.exists() else {}
    report.setdefault("smoke", args.smoke)
    if report["smoke"] != args.smoke:
        sys.exit(f"error: {place} was {'' if report['smoke'] else 'not '}made with --smoke: "
                 "give another --out")  # fmt: skip
    done = report.setdefault("parts", {})
    asked = [p for p in parts(args.smoke) if p.name.startswith(tuple(args.only.split(",")))]
    for part in to_do(asked, done):
        left = stop - time.monotonic()
        if left < 0.6 * part.seconds:  # begun, it would most likely be cut off
            before = done.get(part.name, {})
            done[part.name] = {"state": "left", "reason": "no time was left", **before}
        else:
            print(f"{part.name} ...", end=" ", flush=True)
            done[part.name] = run(part, min(part.seconds, left))
            print(done[part.name]["state"], f"{done[part.name]['seconds']:.0f} s",
                  done[part.name].get("reason", ""), flush=True)  # fmt: skip
        _write(place, json.dumps(report, indent=1) + "\n")
        _write(args.out / "report.md", markdown(report))
        if part.name == "device" and not args.smoke and _on_a_cpu(done[part.name]):
            done.clear()
            _write(place, json.dumps(report, indent=1) + "\n")
            sys.exit("error: expected a GPU, jax finds the CPU only: install jax[cuda13], or see "
                     "on a CPU with --smoke whether the script works")  # fmt: skip


def _on_a_cpu(device: dict[str, Any]) -> bool:
    return bool(device["found"]) and device["found"].get("platform") == "cpu"


def to_do(parts: list[Part], done: dict[str, Any]) -> list[Part]:
    """The parts that are not done, those last that were tried before and failed."""
    states = {part.name: done.get(part.name, {}).get("state") for part in parts}
    open_parts = [part for part in parts if states[part.name] != "done"]
    return sorted(open_parts, key=lambda part: states[part.name] == "failed")


def _write(place: pathlib.Path, text: str) -> None:
    beside = place.with_name(place.name + ".part")
    beside.write_text(text)
    os.replace(beside, place)


def parts(smoke: bool) -> list[Part]:
    """All parts, the most telling first."""

    def work(name: str, kind: str, seconds: float, **args: Any) -> Part:
        words = ("scripts/gpu_work.py", kind, "{json}", json.dumps(args))
        # Kernels that are launched together, as one graph, would be one in a profile.
        own = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_enable_command_buffer="
        flags = {"XLA_FLAGS": own} if kind == "profile" else {}
        return Part(name, words, 120 if smoke else seconds, tuple(flags.items()))

    def loop(name: str, seconds: float, config: str, *overrides: str) -> Part:
        rounds = ("--rounds=2", "--seconds=0.01") if smoke else ("--rounds=5", "--seconds=0.5")
        words = ("scripts/bench.py", f"--config={config}", "--json={json}", *rounds, *overrides)
        return Part(name, words, 120 if smoke else seconds)

    size = 256 if smoke else 8192
    number = 2 if smoke else 20
    vdm: dict[str, Any] = dict(config="experiments/vdm/cifar10.py")
    tiny_vdm = ["--config.model.channels=8", "--config.model.num_layers=1",
                "--config.model.num_groups=4", "--config.data.batch_size=4",
                "--config.sample.num_samples=4", "--config.sample.num_steps=2"]  # fmt: skip
    vdm_words = [*RANDOM_IMAGES, "--config.model.dtype=bfloat16",
                 "--config.sample.num_steps=50", *(tiny_vdm if smoke else [])]  # fmt: skip
    tiny_gan = ["--config.model.generator.channels=8", "--config.model.critic.channels=8",
                "--config.data.batch_size=4", "--config.sample.num_samples=4",
                "--config.family.critic_steps=1"]  # fmt: skip
    gan_words = [*RANDOM_IMAGES, *(tiny_gan if smoke else [])]

    def variant(name: str, seconds: float, **model: str) -> Part:
        words = [*vdm_words, *(f"--config.model.{key}={value}" for key, value in model.items())]
        return work(name, "step", seconds, **vdm, overrides=words, size=size, number=number)

    def gan(what: str) -> Part:
        repeats = ("--starts=1", "--rounds=1", "--seconds=0.01") if smoke else (
            "--starts=1", "--rounds=3", "--seconds=0.5")  # fmt: skip
        words = ("scripts/bench_peers.py", f"--what={what}", "--json={json}", *repeats,
                 f"--peers={'flax' if smoke else 'flax,torch'}",
                 *(tiny_gan if smoke else ()))  # fmt: skip
        return Part(f"gan.{what}", words, 120 if smoke else 110)

    tested = ("losses",) if smoke else ("losses", "nets", "diffusion")
    dcgan = "experiments/gan/dcgan_cifar10.py"
    return [
        work("device", "device", 45, size=size),
        work("numbers.checks", "checks", 80, every=12 if smoke else 1),
        variant("vdm.scan", 90, scan_layers="True", remat="none"),
        work("profile.vdm", "profile", 75, **vdm, overrides=vdm_words, number=3),
        *(gan(what) for what in (GANS[:1] if smoke else GANS)),
        work("samples.vdm", "samples", 60, **vdm, overrides=vdm_words),
        *([] if smoke else [
            loop("loop.spline2", 45, "experiments/benchmarks.py:spline2"),
            variant("vdm.unrolled", 150, scan_layers="False", remat="none"),
            variant("vdm.scan_dots", 75, scan_layers="True", remat="dots"),
            variant("vdm.scan_full", 75, scan_layers="True", remat="full"),
            loop("loop.vdm", 110, vdm["config"], *vdm_words),
            loop("loop.spline2_one_step_a_call", 45, "experiments/benchmarks.py:spline2",
                 "--config.train.steps_per_call=1"),
            loop("data.resident", 60, dcgan, *gan_words),
        ]),
        loop("data.streamed", 60, dcgan, *gan_words, "--config.data.device_limit_mib=0"),
        work("numbers.same_bits", "same_bits", 60, config=dcgan, overrides=gan_words),
        *([] if smoke else [
            work("samples.sngan", "samples", 40, config="experiments/gan/sngan_cifar10.py",
                 overrides=[*gan_words, "--config.sample.num_samples=1000"]),
            work("profile.dcgan", "profile", 60, config=dcgan, overrides=gan_words, number=20),
        ]),
        *(_tests(name, smoke) for name in tested),
    ]  # fmt: skip


def _tests(name: str, smoke: bool) -> Part:
    """Tests of numbers; products as on a CPU, or their tolerances would have to be TF32's."""
    command = ["-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider", "--tb=line",
               "-rfE", "--junitxml={json}.xml", f"tests/{name}"]  # fmt: skip
    env = {"JAX_DEFAULT_MATMUL_PRECISION": "highest"}
    if smoke:
        command[-1] = "tests/losses/test_attacks.py"
    else:  # without the first, tests would run on the CPU
        env |= {"JAX_PLATFORMS": "cuda,cpu", "XLA_FLAGS": "--xla_gpu_autotune_level=0"}
        command += ["-n", "4"] if importlib.util.find_spec("xdist") else []
    return Part(f"numbers.tests.{name}", tuple(command), 120 if smoke else 90, tuple(env.items()))


def run(part: Part, seconds: float) -> dict[str, Any]:
    """Runs a part within its time; what it wrote before it failed is kept."""
    start = time.monotonic()
    reason = ""
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder) / "found.json"
        command = [sys.executable, *(word.replace("{json}", str(place)) for word in part.command)]
        env = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", **dict(part.env)}
        env["PYTHONPATH"] = os.pathsep.join([str(REPO), env.get("PYTHONPATH", "")]).rstrip(":")
        with open(pathlib.Path(folder) / "said", "w+") as said:
            # In a group of its own, so that processes that it starts end with it.
            process = subprocess.Popen(
                command, cwd=REPO, env=env, stdout=said, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
            try:
                if process.wait(seconds):
                    said.seek(0)
                    reason = _last_line(said.read()) or f"exit code {process.returncode}"
            except subprocess.TimeoutExpired:
                reason = f"stopped after {seconds:.0f} s"
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        found = json.loads(place.read_text()) if place.exists() else {}
        tests = pathlib.Path(f"{place}.xml")
        if tests.exists():
            found = _of_tests(tests)
    state = "failed" if reason else "done"
    about = {"state": state, "seconds": time.monotonic() - start, "found": found}
    return {**about, "reason": reason} if reason else about


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # Errors of Python and of tests before what a library says on its way out.
    telling = [line for line in lines if "Error" in line or line.startswith(("error", "FAILED"))]
    return (telling or lines or [""])[-1][:300]


def _of_tests(place: pathlib.Path) -> dict[str, Any]:
    import xml.etree.ElementTree as tree

    failing, counts = [], {"passed": 0, "failed": 0, "skipped": 0}
    for case in tree.parse(place).iter("testcase"):
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        if bad is not None:
            counts["failed"] += 1
            reason = (bad.get("message") or "").strip().splitlines() or [""]
            failing.append({"test": f"{case.get('classname')}.{case.get('name')}",
                            "reason": reason[0][:200]})  # fmt: skip
        else:
            counts["skipped" if case.find("skipped") is not None else "passed"] += 1
    return {**counts, "failing": failing}


def markdown(report: dict[str, Any]) -> str:
    """The report as a page."""
    done = report["parts"]
    about = done.get("device", {}).get("found", {})
    versions = ", ".join(f"{k} {v}" for k, v in about.get("versions", {}).items())
    lines = [f"# {about.get('device', 'A device')}: what genjax does there", "", versions, ""]
    if report["smoke"]:
        lines += ["Tiny sizes (`--smoke`): the figures mean nothing.", ""]
    undone = {name: one for name, one in done.items() if one["state"] != "done"}
    if undone:
        lines += ["## Not done", ""]
        lines += [f"* `{name}`: {one['state']}: {one['reason']}" for name, one in undone.items()]
        lines += [""]
    for name, one in done.items():
        if one.get("found"):
            lines += [f"## {name}", "", *_tables(one["found"]), ""]
    return "\n".join(lines)


def _tables(found: Any) -> list[str]:
    """Figures as one table, and a table for each list of rows."""
    if isinstance(found, list):
        return _table(found)
    plain, lists = [], []
    for name, value in found.items():
        if isinstance(value, list):
            lists += ["", f"{name}:" if value else f"{name}: none", "", *_table(value)]
        elif isinstance(value, dict) and "median" in value:
            spread = f" ± {_text(value['half_range'])}" if "half_range" in value else ""
            plain.append({"figure": name, "value": _text(value["median"]) + spread})
        elif not isinstance(value, dict):
            plain.append({"figure": name, "value": value})
    return _table(plain) + lists


def _table(rows: list[dict[str, Any]]) -> list[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if not columns:
        return []
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        lines.append("| " + " | ".join(_text(row.get(key, "")) for key in columns) + " |")
    return lines


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    return str(value).replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    main()
