"""Keep the features of many images: a folder with one file of names and features, and what they were made from."""

import dataclasses
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from semivit_jax import files
from semivit_jax.files import Path

DTYPES = ("float32", "float16")
ABOUT = "embedding.json"
_NAMES_AT_ONCE = 1024


@dataclasses.dataclass(frozen=True)
class Embedding:
    """Features of images.

    Attributes:
      names: of the images, in order.
      features: float32 or float16 [n, width], what the head of a model reads.
      about: what they were made from, as `embedding.json` has it.
    """

    names: Sequence[str]
    features: np.ndarray
    about: dict

    def __len__(self) -> int:
        return len(self.features)


class EmbeddingError(ValueError):
    """A folder that holds no embedding, or a damaged one."""


def read(folder: Path) -> Embedding:
    """What `semivit embed` has written.

    Raises:
      EmbeddingError: it is not there, not finished, or damaged.
    """
    if not (folder / ABOUT).is_file():
        raise EmbeddingError(f"{folder} holds no finished embedding; make one: semivit embed --out={folder}")
    about = files.read_json(folder / ABOUT)
    try:
        names, features = READERS[about["format"]](folder / about["file"])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise EmbeddingError(f"{folder} is damaged, make it again: {error}") from error
    if len(names) != len(features):
        raise EmbeddingError(f"{folder} is damaged, make it again: {len(names)} names, {len(features)} features")
    return Embedding(names, features, about)


Parts = Iterable[np.ndarray]


def write_npz(file: Path, names: Sequence[str], parts: Parts, *, width: int, dtype: str) -> None:
    """Writes arrays 'names' and 'features' as np.savez does, a part of the features at a time."""
    with files.writing(file) as opened, zipfile.ZipFile(opened, "w", zipfile.ZIP_STORED) as archive:
        member_of_names = zipfile.ZipInfo("names.npy")
        member_of_names.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(member_of_names, "w", force_zip64=True) as member:
            # Each name takes as much as the longest one: neither here nor on the disk are all of them at once.
            kind = np.dtype((np.str_, max(1, *map(len, names))))
            np.lib.format.write_array_header_1_0(member, _head(kind, (len(names),)))
            for start in range(0, len(names), _NAMES_AT_ONCE):
                member.write(np.array(names[start : start + _NAMES_AT_ONCE], kind).tobytes())
        with archive.open("features.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, _head(np.dtype(dtype), (len(names), width)))
            for part in parts:
                member.write(np.ascontiguousarray(part).data)


def read_npz(file: Path) -> tuple[Sequence[str], np.ndarray]:
    """Names and features of `write_npz`."""
    # Opened here, since numpy leaves a file open that is no archive.
    with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
        return list(_names(arrays.zip)), arrays["features"]


def _head(kind: np.dtype, shape: tuple[int, ...]) -> dict:
    return {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}


def _names(archive: zipfile.ZipFile) -> Iterator[str]:
    """The names, a part at a time."""
    with archive.open("names.npy") as member:
        if (version := np.lib.format.read_magic(member)) != (1, 0):
            raise ValueError(f"names.npy is of format {version}, not (1, 0)")
        (count,), _, kind = np.lib.format.read_array_header_1_0(member)
        for start in range(0, count, _NAMES_AT_ONCE):
            wanted = min(_NAMES_AT_ONCE, count - start) * kind.itemsize
            content = member.read(wanted)
            if len(content) < wanted:
                raise ValueError("names.npy is cut off")
            yield from np.frombuffer(content, kind).tolist()


def check_names(kind: str, names: Iterable[str]) -> None:
    """Raises EmbeddingError where a kind of file, a row of WRITERS, cannot hold a name: Parquet has UTF-8 alone."""
    if kind != "parquet":
        return
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise EmbeddingError(
                f"the name {name!r} is not UTF-8 and has no place in Parquet; rename it, or take --format=npz"
            ) from error


def write_parquet(file: Path, names: Sequence[str], parts: Parts, *, width: int, dtype: str) -> None:
    """Writes columns 'name' and 'features', a list of fixed length, with a row group for each part.

    Raises:
      EmbeddingError: see `check_names`.
    """
    check_names("parquet", names)
    import pyarrow  # a second that npz does without
    from pyarrow import parquet

    kind = pyarrow.list_(pyarrow.from_numpy_dtype(np.dtype(dtype)), width)
    schema, done = pyarrow.schema([("name", pyarrow.string()), ("features", kind)]), 0
    with files.writing(file) as opened, parquet.ParquetWriter(opened, schema) as writer:
        for part in parts:
            these = names[done : done + len(part)]
            column = pyarrow.array(these, pyarrow.string())
            rows = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(part.reshape(-1)), width)
            writer.write_table(pyarrow.table([column, rows], schema=schema))
            done += len(part)


def read_parquet(file: Path) -> tuple[Sequence[str], np.ndarray]:
    """Names and features of `write_parquet`."""
    from pyarrow import parquet

    with file.open("rb") as opened:
        table = parquet.read_table(opened)
    column = table["features"].combine_chunks()
    return table["name"].to_pylist(), column.values.to_numpy(zero_copy_only=False).reshape(len(table), -1)


WRITERS: dict[str, Callable[..., None]] = {"npz": write_npz, "parquet": write_parquet}
READERS: dict[str, Callable[[Path], tuple[Sequence[str], np.ndarray]]] = {"npz": read_npz, "parquet": read_parquet}
