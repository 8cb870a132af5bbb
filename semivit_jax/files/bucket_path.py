"""Make etils' paths of `gs://` addresses ask our own client: ours, and those that orbax makes of them.

Its own way there, through gcsfs, remembers listings, and has other errors and another patience.
"""

import contextlib
import fnmatch
import io
import os
import posixpath
from collections.abc import Callable, Iterator
from typing import Any

from etils import epath
from etils.epath import backend, gpath, stat_utils

from semivit_jax.files import store
from semivit_jax.files.address import SCHEME

Address = str | os.PathLike[str]


class _Bucket(backend.Backend):
    """The operations of a file system on objects: a folder is there as long as an object is below it."""

    def open(self, path: Address, mode: str) -> Any:
        if "r" in mode:
            content = store.read(path)
            return io.BytesIO(content) if "b" in mode else io.StringIO(content.decode())
        if "w" not in mode:
            raise io.UnsupportedOperation(f"{path}: an object cannot grow, so mode {mode!r} is none for it")
        return _Bytes(path) if "b" in mode else _Text(path)

    def exists(self, path: Address) -> bool:
        return store.exists(path)

    def isdir(self, path: Address) -> bool:
        return store.has_folder(path)

    def listdir(self, path: Address) -> list[str]:
        found = store.children(path)
        if not found:
            raise FileNotFoundError(f"{os.fspath(path)} is not there")
        return found

    def glob(self, path: Address) -> list[str]:
        folder, pattern = posixpath.split(os.fspath(path))
        return [f"{folder}/{name}" for name in store.children(folder) if fnmatch.fnmatchcase(name, pattern)]

    def walk(
        self, top: Address, *, top_down: bool = True, on_error: Callable[[OSError], object] | None = None
    ) -> Iterator[tuple[Address, list[str], list[str]]]:
        raise io.UnsupportedOperation(f"{os.fspath(top)}: `files.below` lists all objects at once")

    def makedirs(self, path: Address, *, exist_ok: bool = False, mode: int | None = None) -> None:
        if not exist_ok and self.exists(path):
            raise FileExistsError(f"{os.fspath(path)} exists already")

    mkdir = makedirs  # there is nothing to make

    def rmtree(self, path: Address) -> None:
        names = [found.name for found in store.below(path)]
        if not names:
            raise FileNotFoundError(f"{os.fspath(path)} is not there")
        store.delete_all(f"{os.fspath(path)}/{name}" for name in names)

    def remove(self, path: Address) -> None:
        store.delete(path)

    def rename(self, path: Address, dst: Address) -> None:
        self.copy(path, dst, overwrite=False)
        store.delete(path)

    def replace(self, path: Address, dst: Address) -> None:
        self.copy(path, dst, overwrite=True)
        store.delete(path)

    def copy(self, path: Address, dst: Address, overwrite: bool) -> None:
        if not overwrite and self.exists(dst):
            raise FileExistsError(f"{os.fspath(dst)} exists already")
        store.copy(path, dst)

    def stat(self, path: Address) -> stat_utils.StatResult:
        found = None
        with contextlib.suppress(FileNotFoundError):
            found = store.stored(path)
        if found is None and not store.has_folder(path):
            raise FileNotFoundError(f"{os.fspath(path)} is not there")
        return stat_utils.StatResult(
            is_directory=found is None, length=found.size if found else 0, mtime=0, owner=None, group=None, mode=None
        )


_BUCKET = _Bucket()


@epath.register_path_cls(SCHEME)
class BucketPath(gpath.PosixGPath):
    """A place in a bucket."""

    @property
    def _backend(self) -> backend.Backend:
        return _BUCKET

    def is_file(self) -> bool:
        return store.has_object(self)


class _Upload:
    """Becomes an object when it is closed; an error in its `with` block leaves what was there."""

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.close()
        else:
            super().close()  # pyright: ignore[reportAttributeAccessIssue] - of the buffer it is mixed into

    def close(self) -> None:
        buffer: Any = self
        if not buffer.closed:
            content = buffer.getvalue()
            super().close()  # pyright: ignore[reportAttributeAccessIssue]
            store.write(buffer.address, content if isinstance(content, bytes) else content.encode())


class _Bytes(_Upload, io.BytesIO):
    def __init__(self, address: Address):
        super().__init__()
        self.address = address


class _Text(_Upload, io.StringIO):
    def __init__(self, address: Address):
        super().__init__()
        self.address = address
