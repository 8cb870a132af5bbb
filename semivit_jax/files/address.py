"""Read the address of a place in a bucket, `gs://BUCKET/FOLDER`, and refuse what only looks like one."""

import os
import posixpath
import re

SCHEME = "gs://"
_LEGAL = f"legal is a folder on a mounted file system, or {SCHEME}BUCKET/FOLDER"


def is_bucket(place: str | os.PathLike[str]) -> bool:
    """Whether a place is in a bucket."""
    return os.fspath(place).startswith(SCHEME)


def checked(text: str) -> str:
    """An address without dots and doubled slashes.

    Raises:
      OSError: it is none that can be taken; says what to do instead.
    """
    scheme, _, rest = text.partition("://")
    if scheme != "gs":
        raise OSError(_other_scheme(text, scheme))
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise OSError(f"{text} names no bucket; {_LEGAL}")
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*[a-z0-9]", bucket):
        raise OSError(f"{text}: {bucket!r} is no bucket's name, which is of a-z, 0-9, dots, dashes and underscores")
    inside = posixpath.normpath(f"/{key}").strip("/")
    if not inside:
        raise OSError(f"{text} is a whole bucket; give a folder in it, as in {SCHEME}{bucket}/runs/mine")
    return f"{SCHEME}{bucket}/{inside}"


def looks_like_one(text: str) -> bool:
    """Whether a person may have meant an address: one with a scheme, or `gs:/b/x`, as a path library makes of it."""
    return "://" in text or re.match(r"gs:/", text) is not None


def split(address: str | os.PathLike[str]) -> tuple[str, str]:
    """(bucket, name of the object in it) of a checked address."""
    bucket, _, key = os.fspath(address).removeprefix(SCHEME).partition("/")
    return bucket, key


def _other_scheme(text: str, scheme: str) -> str:
    if text.startswith("gs:/"):
        return f"{text} has one slash too few; write {SCHEME}{text.removeprefix('gs:').lstrip('/')}"
    if scheme in ("s3", "az", "abfs", "wasb"):
        return (
            f"{text}: orbax, which writes the checkpoints, takes no {scheme}:// here; mount the bucket, give its folder"
        )
    return f"{text} is no folder; {_LEGAL}"
