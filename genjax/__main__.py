"""``python -m genjax`` is ``scripts/run.py``, for who has installed the package alone."""

from genjax.command import run

run()
