"""Writes mean and covariance of the features of a split, which FID is measured against.

    python scripts/fid_statistics.py --config=experiments/gan/digits.py --out=/tmp/digits_test.npz
    python scripts/run.py --config=experiments/gan/digits.py --workdir=DIR \
        --config.eval.statistics=/tmp/digits_test.npz

The features are those of ``eval.features``, the rows those of ``eval.reference`` and
``eval.num_reference``; further arguments (``--config.eval.reference=train``) override them. The
layout, ``mu`` [D] and ``sigma`` [D, D], is that of TTUR, pytorch-fid and clean-fid.
"""

import argparse
import sys

from absl import logging


def main() -> None:
    """Computes the features and writes the file."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0] if __doc__ else None, allow_abbrev=False
    )
    parser.add_argument("--config", required=True, help="experiment file with eval.features")
    parser.add_argument("--out", required=True, help="the .npz to write")
    args, overrides = parser.parse_known_args()
    logging.set_verbosity(logging.WARNING)
    from genjax import config as configs
    from genjax.data import DamagedDataError, MissingDataError
    from genjax.training.feature_statistics import write_statistics

    if not args.out.endswith(".npz"):
        sys.exit(f"error: --out must end in .npz, got {args.out}")
    try:
        config = configs.load_config(args.config, overrides)
        config.eval.metrics, config.eval.statistics = ("fd",), None
        experiment = configs.build(config, mode="sample")
        assert experiment.quality is not None
        _, mesh = experiment.on_devices()
        statistics = experiment.quality().reference_statistics(
            mesh=mesh,
            batch_size=experiment.eval.batch_size,
            progress=lambda items, total, label: items,
        )
        write_statistics(args.out, statistics)
    except (configs.ConfigError, DamagedDataError, MissingDataError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    print(
        f"{args.out}: {len(statistics.mean)} features of {statistics.description} "
        f"({statistics.features}); measure against it with --config.eval.statistics={args.out}"
    )


if __name__ == "__main__":
    main()
