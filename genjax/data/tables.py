"""Tables of numbers, categories and labels, from CSV or Parquet files."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from genjax.data.errors import DamagedDataError, MissingDataError
from genjax.data.features import DataSet, check_digits, class_ids, from_arrays
from genjax.data.splits import held_out

_SUFFIXES = (".csv", ".tsv", ".parquet")


def table(
    split: str,
    *,
    data_dir: str | None,
    memory_limit_mib: int = 2048,
    columns: Sequence[str] | None = None,
    label: str | None = None,
    categorical: Sequence[str] = (),
    missing: Literal["refuse", "drop"] = "refuse",
    holdout: float = 0.1,
) -> DataSet:
    """The rows of a CSV or Parquet file, as points; they are held in memory.

    Args:
        split: Name of the file in the folder, without ending; of a single file, ``train`` or
            ``test``.
        data_dir: Folder with ``train.csv`` and ``test.csv`` (or ``.tsv``, ``.parquet``), or a
            single file, of which a share of the rows is held out as ``test``, always the same ones.
        memory_limit_mib: Larger tables are refused.
        columns: Columns of ``x``, in this order; None for all but the label's.
        label: Column of class ids 0, 1, ..., or of names, whose classes are in the order of the
            alphabet; None for no classes.
        categorical: Columns of ``x`` that hold categories: each becomes as many entries as it has
            values in the training split, in the order of the alphabet, of which one is 1 and the
            others 0.
        missing: What happens to rows with an empty cell: ``"refuse"`` the file, naming the first,
            or ``"drop"`` them.
        holdout: Share of the rows of a single file that is held out.

    Returns:
        The split, called as the file or folder is: ``x`` float32 ``[D]``, and ``label``.

    Raises:
        MissingDataError: If there is no such file.
        DamagedDataError: If it cannot be read.
        ValueError: If a column does not exist or holds something else; the message names column and
            row, counted from 1 below the header.
    """
    if data_dir is None:
        raise ValueError("table needs data_dir: a CSV or Parquet file, or the folder of train.csv")
    place = os.path.abspath(os.path.expanduser(data_dir))
    single = os.path.isfile(place)
    train_file = place if single else _file_of(place, "train")
    reader = _Reader(columns, label, tuple(categorical), missing)
    arrays = reader.read(train_file)
    if single:
        kept = held_out(len(arrays["x"]), holdout, split)
        arrays = {name: array[kept] for name, array in arrays.items()}
    elif split != "train":
        arrays = reader.read(_file_of(place, split))
    name, size = os.path.basename(place), arrays["x"].nbytes / 2**20
    if size > memory_limit_mib:
        raise ValueError(
            f"{place} takes {size:.0f} MiB: tables are held in memory; raise "
            "data.memory_limit_mib, or save the numbers as .npy (data.name 'npy')"
        )
    called = os.path.splitext(name)[0] if single else name
    made = from_arrays(called, num_levels=None, mixture=None, **arrays)
    if label is None or reader.class_names is None:
        return made
    classes = dataclasses.replace(
        made.spec["label"],
        num_classes=len(reader.class_names),
        class_names=tuple(reader.class_names),
    )
    return dataclasses.replace(made, spec={**made.spec, "label": classes})


def _file_of(folder: str, split: str) -> str:
    for suffix in _SUFFIXES:
        if os.path.exists(os.path.join(folder, split + suffix)):
            return os.path.join(folder, split + suffix)
    raise MissingDataError(
        f"there is no table {split} in {folder}: expected {split}.csv, {split}.tsv or "
        f"{split}.parquet; or let data.data_dir be a single file"
    )


class _Reader:
    """Reads files; categories and classes are those of the first one."""

    def __init__(
        self,
        columns: Sequence[str] | None,
        label: str | None,
        categorical: tuple[str, ...],
        missing: str,
    ):
        self._columns = columns
        self._label = label
        self._categorical = categorical
        self._missing = missing
        self._values: dict[str, list[str]] = {}

    @property
    def class_names(self) -> list[str] | None:
        """Names of the classes in the order of their ids, if the label is one of names."""
        return None if self._label is None else self._values.get(self._label)

    def read(self, file: str) -> dict[str, np.ndarray]:
        """``x`` ``[N, D]`` and ``label`` ``[N]`` of a file."""
        content = _read(file)
        twice = [n for n in content.column_names if content.column_names.count(n) > 1]
        if twice:
            raise ValueError(f"{file} has two columns {twice[0]!r}: rename one of them")
        if all(map(_is_number, content.column_names)):
            raise ValueError(
                f"{file} begins with the numbers {', '.join(content.column_names)}: expected a "
                "line with the names of the columns"
            )
        names = list(self._columns or [n for n in content.column_names if n != self._label])
        for name in [*names, *self._categorical, *([self._label] if self._label else [])]:
            if name not in content.column_names:
                raise ValueError(
                    f"{file} has no column {name!r}; it has {', '.join(content.column_names)}"
                )
        repeated = [n for n in names if names.count(n) > 1 or n == self._label]
        if repeated:
            raise ValueError(
                f"the column {repeated[0]!r} is named twice in data.options (columns, label): once "
                "is enough, and a label is no part of x"
            )
        unused = sorted(set(self._categorical) - set(names))
        if unused:
            raise ValueError(f"the categorical column {unused[0]!r} is not among the columns")
        wanted = [*names, *([self._label] if self._label else [])]
        rows = self._complete_rows(content, wanted, file)
        if not len(rows):
            raise ValueError(f"{file} has no rows without empty cells" if len(content) else
                             f"{file} has no rows")  # fmt: skip
        parts = []
        for name in names:
            column = content.column(name)
            if name in self._categorical:
                ids = self._ids(name, column, rows, file)
                parts.append(np.eye(len(self._values[name]), dtype=np.float32)[ids])
            else:
                parts.append(_numbers(name, column, rows, file)[:, None])
        arrays = {"x": np.concatenate(parts, axis=1)}
        if self._label:
            arrays["label"] = self._classes(content.column(self._label), rows, file)
        return arrays

    def _complete_rows(self, content: Any, names: Sequence[str], file: str) -> np.ndarray:
        """Positions of the rows without empty cells."""
        import pyarrow as pa

        empty = np.zeros((len(content), len(names)), bool)
        for i, name in enumerate(names):
            column = content.column(name)
            empty[:, i] = column.is_null(nan_is_null=True).to_numpy()
            if pa.types.is_string(column.type):
                empty[:, i] |= np.array([value == "" for value in column.to_pylist()], bool)
        if self._missing == "refuse" and empty.any():
            row, column = np.argwhere(empty)[0]
            raise ValueError(
                f"{file} has an empty cell in row {row + 1}, column {names[column]!r} "
                f"({int(empty.any(1).sum())} of {len(content)} rows have one): fill it, leave the "
                "column out of data.options.columns, or set data.options.missing to 'drop'"
            )
        return np.flatnonzero(~empty.any(1))

    def _ids(self, name: str, column: Any, rows: np.ndarray, file: str) -> np.ndarray:
        """Positions of the values of a column among those it has in the training split."""
        values = [str(value) for value in column.to_pylist()]
        known = self._values.setdefault(name, sorted({values[row] for row in rows}))
        position = {value: i for i, value in enumerate(known)}
        for row in rows:
            if values[row] not in position:
                raise ValueError(
                    f"{file} has {values[row]!r} in row {row + 1}, column {name!r}, which the "
                    "training split has not: leave such rows out, or divide the rows otherwise"
                )
        return np.array([position[values[row]] for row in rows], np.int32)

    def _classes(self, column: Any, rows: np.ndarray, file: str) -> np.ndarray:
        import pyarrow as pa

        assert self._label is not None
        if pa.types.is_integer(column.type):
            ids = np.array([column[int(row)].as_py() for row in rows], np.int64)
            return class_ids(ids, len(rows), f"the column {self._label!r} of {file}")
        if pa.types.is_floating(column.type):
            raise ValueError(
                f"the label column {self._label!r} of {file} holds real numbers; expected class "
                "ids or names"
            )
        return self._ids(self._label, column, rows, file)


def _numbers(name: str, column: Any, rows: np.ndarray, file: str) -> np.ndarray:
    """The numbers of a column, float32 ``[N]``."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    if not (numeric or pa.types.is_decimal(kind)):
        values = column.to_pylist()
        row = next((int(row) for row in rows if not _is_number(values[row])), int(rows[0]))
        plain = str(values[row]).strip(" %$€£").replace(",", ".", 1)
        if _is_number(plain):
            raise ValueError(
                f"{file} has {values[row]!r} in row {row + 1}, column {name!r}: expected a plain "
                f"number such as {plain}"
            )
        raise ValueError(
            f"{file} has {values[row]!r} in row {row + 1}, column {name!r}, which is no number: "
            "name the column in data.options.categorical or as data.options.label, or leave it out "
            "of data.options.columns"
        )
    values = np.array(column.to_pylist(), object)[rows]
    exact = np.array([float(value) for value in values])
    beyond = ~(np.abs(exact) <= np.finfo(np.float32).max)
    if beyond.any():
        row = int(np.flatnonzero(beyond)[0])
        raise ValueError(
            f"{file} has {values[row]} in row {rows[row] + 1}, column {name!r}, which is no finite "
            "number of float32"
        )
    # Whole numbers have digits that float64 has not: their differences are exact.
    offsets = np.array([float(value - values[0]) for value in values.tolist()])
    check_digits(exact[:, None], offsets[:, None], f"{file}, column {name!r},")
    return exact.astype(np.float32)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _read(file: str) -> Any:
    """A file as a pyarrow table."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    try:
        if file.endswith(".parquet"):
            return parquet.read_table(file)
        with open(file, encoding="utf-8", errors="replace") as opened:
            header = opened.readline()
        # Whatever separates most of the names; spreadsheets of many countries write semicolons.
        delimiter = max(",;\t", key=header.count)
        content = csv.read_csv(
            file,
            parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        )
        content.column_names  # noqa: B018 - decoded here
        return content
    except UnicodeDecodeError as error:
        raise DamagedDataError(f"{file} is not UTF-8 ({error}): save it as UTF-8") from error
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise MissingDataError(f"there is no file {file}") from error
        reason = str(error).splitlines()[0]
        raise DamagedDataError(f"{file} cannot be read as a table: {reason}") from error
