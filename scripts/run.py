"""Trains, evaluates or samples an experiment, or plans what it needs.

    python scripts/run.py --config=experiments/vdm/digits.py --workdir=/tmp/digits
    python scripts/run.py --config=experiments/vdm/digits.py --workdir=/tmp/digits --mode=eval
    python scripts/run.py --config=experiments/vdm/cifar10.py --mode=plan

Any key can be set on the command line: ``--config.train.num_steps=500``. Running the same command
again resumes the run, or says that it is done. Evaluating and sampling need no ``--config``: the
workdir has it. ``python -m genjax`` is the same command.

Exit codes: 0 done; 2 bad input, said in one line; 1 the run failed; 143 stopped by SIGTERM,
SIGHUP or Ctrl-C with the state saved, to be resumed by the same command; 130 stopped without a
save, by a second Ctrl-C or one while nothing trains.
"""

from genjax.command import run

if __name__ == "__main__":
    run()
