"""The one training loop, and what it stands on: mesh, checkpoints, logs, optimisers, pictures."""
