"""Downloads a TFDS image set and writes it as array_record files, which training reads.

    pip install -e '.[prepare]'
    python scripts/prepare_data.py --name=mnist --data_dir=~/tensorflow_datasets

This is the only command of genjax that needs TensorFlow and a network.
"""

import os
import sys

from absl import app, flags

NAME = flags.DEFINE_string("name", None, "TFDS name, such as mnist or cifar10.", required=True)
DATA_DIR = flags.DEFINE_string("data_dir", "~/tensorflow_datasets", "Where to write it.")


def main(_: list[str]) -> None:
    """Prepares the set and says how to use it."""
    try:
        import tensorflow  # noqa: F401
    except ImportError:
        sys.exit("preparing data needs TensorFlow: pip install -e '.[prepare]'")
    import tensorflow_datasets as tfds

    directory = os.path.expanduser(DATA_DIR.value)
    builder = tfds.builder(NAME.value, data_dir=directory, file_format="array_record")
    builder.download_and_prepare()
    sizes = {name: split.num_examples for name, split in builder.info.splits.items()}
    print(f"{NAME.value} {sizes} is ready: use --config.data.data_dir={DATA_DIR.value}")


if __name__ == "__main__":
    app.run(main)
