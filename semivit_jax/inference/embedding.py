"""Keep the features of many images: a folder with one file of names and features, and what they were made from."""

import dataclasses
import zipfile
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from semivit_jax import files
from semivit_jax.files import Path

DTYPES = ("float32", "float16")
ABOUT = "embedding.json"


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
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise EmbeddingError(f"{folder} is damaged, make it again: {error}") from error
    if len(names) != len(features):
        raise EmbeddingError(f"{folder} is damaged, make it again: {len(names)} names, {len(features)} features")
    return Embedding(names, features, about)


Parts = Iterable[np.ndarray]


def write_npz(file: Path, names: Sequence[str], parts: Parts, *, width: int, dtype: str) -> None:
    """Writes arrays 'names' and 'features' as np.savez does, a part of the features at a time."""
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    head = {"descr": descr, "fortran_order": False, "shape": (len(names), width)}
    with files.writing(file) as opened, zipfile.ZipFile(opened, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("names.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array(member, np.asarray(names, dtype=np.str_), allow_pickle=False)
        with archive.open("features.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, head)
            for part in parts:
                member.write(np.ascontiguousarray(part).data)


def read_npz(file: Path) -> tuple[Sequence[str], np.ndarray]:
    """Names and features of `write_npz`."""
    # Opened here, since numpy leaves a file open that is no archive.
    with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
        return arrays["names"].tolist(), arrays["features"]


def write_parquet(file: Path, names: Sequence[str], parts: Parts, *, width: int, dtype: str) -> None:
    """Writes columns 'name' and 'features', a list of fixed length, with a row group for each part.

    Raises:
      EmbeddingError: a name that is no text.
    """
    import pyarrow  # a second that npz does without
    from pyarrow import parquet

    kind = pyarrow.list_(pyarrow.from_numpy_dtype(np.dtype(dtype)), width)
    schema, done = pyarrow.schema([("name", pyarrow.string()), ("features", kind)]), 0
    with files.writing(file) as opened, parquet.ParquetWriter(opened, schema) as writer:
        for part in parts:
            these = names[done : done + len(part)]
            try:
                column = pyarrow.array(these, pyarrow.string())
            except UnicodeEncodeError as error:
                raise EmbeddingError(f"a name is not UTF-8 and has no place in Parquet: {error.object!r}") from error
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
