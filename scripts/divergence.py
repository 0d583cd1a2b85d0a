"""Divergences between the distributions of two arrays of samples: a table.

P is the first file, Q the second: arrays ``[N, ...]`` and ``[M, ...]`` of rows of one shape. Half
of the rows of each are held out, and each number is a mean over these, with its standard error. A
critic's number is a lower bound on the divergence; the standard error is that of the mean, not of
how far the bound is below. ``--estimate`` names what is wanted, several with commas:

    jsd             Jensen-Shannon divergence, in [0, log 2], in nats
    kl, reverse_kl, pearson, total_variation, ...: any of genjax.losses.F_DIVERGENCES
    w1              Wasserstein-1 distance in the units of the rows, by a critic with gradient
                    penalty, divided by the largest slope seen
    mmd             squared maximum mean discrepancy under a Gaussian kernel, unbiased
    density_ratio   KL(P||Q) by a calibrated classifier, with what tells whether to trust it

    python scripts/divergence.py A.npy B.npy --estimate=jsd,w1,density_ratio
"""

import argparse
import json
import sys

import numpy as np

from genjax import evaluation


def main() -> None:
    """Estimates and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("p", metavar="A.npy", help="rows of P")
    parser.add_argument("q", metavar="B.npy", help="rows of Q")
    parser.add_argument("--estimate", default="jsd", help="names, separated by commas")
    parser.add_argument("--num_steps", type=int, default=2000, help="steps of a critic")
    parser.add_argument("--hidden_size", type=int, default=128, help="width of its layers")
    parser.add_argument("--num_layers", type=int, default=2, help="number of its hidden layers")
    parser.add_argument("--seed", type=int, default=0, help="of the division and of critics")
    parser.add_argument("--json", help="file to write all numbers to")
    args = parser.parse_args()
    wanted = args.estimate.split(",")
    unknown = [name for name in wanted if name not in evaluation.ESTIMATES]
    if unknown:
        parser.error(f"unknown estimate {unknown[0]!r}; valid: {', '.join(evaluation.ESTIMATES)}")
    found = {}
    try:
        fit = evaluation.CriticFit(
            num_steps=args.num_steps,
            hidden_size=args.hidden_size,
            num_layers=args.num_layers,
            seed=args.seed,
        )
        p, q = (np.load(path, allow_pickle=False) for path in (args.p, args.q))
        print("| estimate | value | standard error | more |\n|---|---|---|---|")
        for name in wanted:
            found[name] = evaluation.divergence_between(p, q, name, fit=fit)
            more = {k: v for k, v in found[name].items() if k not in ("value", "stderr")}
            shown = ", ".join(f"{k} {v:.5g}" for k, v in more.items())
            numbers = f"{found[name]['value']:.4f} | {found[name]['stderr']:.4f}"
            print(f"| {name} | {numbers} | {shown} |", flush=True)
    except (OSError, ValueError) as error:
        sys.exit(f"divergence.py: {error}")
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"p": args.p, "q": args.q, "seed": args.seed, "estimates": found}, file)


if __name__ == "__main__":
    main()
