"""Files of a workdir, on a file system or in an object store."""

import os

from etils import epath


def is_remote(path: epath.PathLike) -> bool:
    """Whether a path is that of an object store (``gs://``), not of a file system."""
    return "://" in str(path)


def write_atomically(path: epath.Path, content: str | bytes) -> None:
    """Writes a file so that it exists whole or not at all."""
    data = content.encode() if isinstance(content, str) else content
    if is_remote(path):  # an object appears when it is complete
        path.write_bytes(data)
        return
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


def set_aside(path: epath.Path, workdir: epath.Path) -> epath.Path:
    """Moves what is damaged to ``damaged_<name>`` in the workdir.

    Args:
        path: File or folder.
        workdir: Directory of the run.

    Returns:
        Where it is now.
    """
    target, copies = workdir / f"damaged_{path.name}", 1
    while target.exists():
        copies += 1
        target = workdir / f"damaged_{path.name}_{copies}"
    path.rename(target)
    return target
