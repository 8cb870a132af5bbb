"""Find the files a user names: a local file, a folder, or a Hugging Face hub repository."""

import atexit
import contextlib
import dataclasses
import functools
import json
import logging
import pathlib
import re
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

from semivit_jax import files
from semivit_jax.weights.preprocessors import get, is_section
from semivit_jax.weights.torch_file import TORCH_SUFFIXES

HUB_PREFIX = "hf://"
CONFIG_FILES = ("config.json", "preprocessor_config.json")
SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")  # in order of preference
WEIGHT_SUFFIXES = (".safetensors", ".npz", *TORCH_SUFFIXES)
INDEXES = tuple(f"{name}.index.json" for name in SINGLE_FILES)  # of the same weights in parts
_PART = re.compile(r"-(\d{5})-of-(?!00001)\d{5}\.\w+$")  # what Hugging Face calls one of several parts

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class SourceFiles:
    """The files of one set of weights.

    Attributes:
      name: what the user asked for, for messages.
      weights: one file, or the parts of a split state dict.
      listed: tensor -> name of the part that an index says it is in; empty without an index.
      configs: parsed JSON files found beside them, by file name.
    """

    name: str
    weights: tuple[pathlib.Path, ...]
    listed: Mapping[str, str]
    configs: Mapping[str, Mapping]


def locate(source: str) -> SourceFiles:
    """Finds the files of SOURCE, downloading them when it is `hf://org/name`.

    The config files beside a single weight file are read only when the file has the name that exported
    folders use; a `.pth` in a downloads folder is taken alone.

    Raises:
      FileNotFoundError: nothing there, a folder without weights, or one that lacks a part.
      ValueError: one part of several; and, as ConnectionError, see `_download`.
    """
    if source.startswith(HUB_PREFIX):
        return _locate_in(source, _download(source))
    path = pathlib.Path(files.expanded(source))
    if path.is_dir():
        return _locate_in(source, path)
    if not path.is_file():
        raise FileNotFoundError(f"{source}: no such file or folder (hub repositories are written hf://org/name)")
    if path.name in INDEXES:
        return SourceFiles(source, *_in_parts(source, path), configs=_read_configs(path.parent))
    if _PART.search(path.name):
        raise ValueError(f"{source}: is one part of several; {_of_parts(path.suffix)}")
    configs = _read_configs(path.parent) if path.name in SINGLE_FILES else {}
    return SourceFiles(name=source, weights=(path,), configs=configs, listed={})


def _locate_in(source: str, folder: pathlib.Path) -> SourceFiles:
    weights, listed = _weights_in(source, folder)
    return SourceFiles(source, weights, listed, configs=_read_configs(folder))


def _weights_in(source: str, folder: pathlib.Path) -> tuple[tuple[pathlib.Path, ...], Mapping[str, str]]:
    """The file or the parts, and what an index says of these."""
    for single, index in zip(SINGLE_FILES, INDEXES, strict=True):
        if (folder / single).is_file():
            return (folder / single,), {}
        if (folder / index).is_file():
            return _in_parts(source, folder / index)
    *names, last = (name for pair in zip(SINGLE_FILES, INDEXES, strict=True) for name in pair)
    raise FileNotFoundError(f"{source}: no {', '.join(names)} or {last} there{_advice(folder)}")


def _in_parts(source: str, index: pathlib.Path) -> tuple[tuple[pathlib.Path, ...], Mapping[str, str]]:
    """The parts that an index names, which lie beside it, and which tensors it says are in them."""
    listed = _listed(index)
    parts = tuple(index.with_name(part) for part in sorted(set(listed.values())))
    lacking = [part.name for part in parts if not part.is_file()]
    if lacking:
        told = f"{', '.join(lacking)}, {len(lacking)} of the {len(parts)} parts that {index.name} names"
        raise FileNotFoundError(f"{source}: lacks {told}")
    return parts, listed


def _advice(folder: pathlib.Path) -> str:
    """What to do with the weights that a folder holds under other names; empty where it holds none."""
    for path in sorted(folder.glob("*")):
        if _PART.search(path.name):
            return f"; of the parts like {path.name}: {_of_parts(path.suffix)}"
        if path.suffix in WEIGHT_SUFFIXES:
            return f"; to take {path.name}, give its own path"
    return ""


def _of_parts(suffix: str) -> str:
    index = next((name for name in INDEXES if name.endswith(f"{suffix}.index.json")), " or ".join(INDEXES))
    return f"give the folder that holds them all, with {index}"


def _listed(index: pathlib.Path) -> Mapping[str, str]:
    """Tensor -> name of the file, over several of which a state dict is split."""
    listed = get(_read_config(index), "weight_map", is_section, "an object", {})
    if not listed or not all(isinstance(part, str) for part in listed.values()):
        raise ValueError(f"{index}: expected the names of files under 'weight_map'")
    for part in listed.values():
        if pathlib.PurePath(part).name != part or not part:
            raise ValueError(f"{index}: names {part!r} under 'weight_map', which is no name of a file beside it")
    return listed


def _read_configs(folder: pathlib.Path) -> dict[str, Mapping]:
    return {name: _read_config(folder / name) for name in CONFIG_FILES if (folder / name).is_file()}


def _read_config(path: pathlib.Path) -> Mapping:
    class Section(dict):
        """A JSON object; asking for a key it lacks names the file."""

        def __missing__(self, key: str) -> Any:
            raise ValueError(f"{path}: lacks the key {key!r}")

    try:
        config = json.loads(path.read_bytes(), object_hook=Section)
    except (ValueError, RecursionError) as error:  # of its syntax, its encoding, or brackets without end
        raise ValueError(f"{path}: is no JSON ({error})") from error
    if not isinstance(config, Section):
        raise ValueError(f"{path}: holds no JSON object, but {type(config).__name__}")
    return config


def _download(source: str) -> pathlib.Path:
    """Fetches the config files and the preferred weights into the hub's cache; returns the folder.

    What an earlier download has put there serves when the hub cannot be reached.

    Raises:
      ValueError: a hub name that is not org/name.
      FileNotFoundError: no such repository, or the hub cannot be reached and the cache lacks the files.
      ConnectionError: the connection broke off.
    """
    from huggingface_hub import errors  # takes half a second to load, and only hub sources need it

    repository = source.removeprefix(HUB_PREFIX)
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise ValueError(f"{source}: hub repositories are written hf://org/name")
    try:
        return _fetch_weights(repository)
    except errors.RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"{source}: the hub has no such repository, or it is private or gated and wants a login (`hf auth login`)"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise FileNotFoundError(
            f"{source}: the hub cannot be reached, and its files are not in the cache ({_first_line(error)})"
        ) from error
    except errors.HTTPError as error:  # pyright: ignore[reportPrivateImportUsage]  of whichever client the hub uses
        raise ConnectionError(f"{source}: the download failed ({_first_line(error)})") from error


def _fetch_weights(repository: str) -> pathlib.Path:
    """The configs with one file of weights or, where there is none, the parts that the index names.

    A cache that cannot be written to serves with what it holds; else the download is for this start alone.
    """
    from huggingface_hub import constants, errors

    place = constants.HF_HUB_CACHE
    if why := files.why_no_folder(place):
        with contextlib.suppress(errors.LocalEntryNotFoundError, FileNotFoundError):  # it holds nothing, or a part
            return _fetch(repository, place, held=True)
        place = _instead_of(place, why)
    return _fetch(repository, place, held=False)


def _fetch(repository: str, place: str, *, held: bool) -> pathlib.Path:
    """The folder of a repository in a cache, with all of its weights; `held` asks the cache alone."""
    import huggingface_hub

    def snapshot(names: tuple[str, ...]) -> pathlib.Path:
        found = huggingface_hub.snapshot_download(
            repository, allow_patterns=list(names), cache_dir=place, local_files_only=held
        )
        return pathlib.Path(found)

    (single, torch_file), (index, torch_index) = SINGLE_FILES, INDEXES
    folder = snapshot((*CONFIG_FILES, single, index))
    if (folder / single).is_file():
        return folder
    if not (folder / index).is_file():
        index = torch_index
        folder = snapshot((index,))
    parts = tuple(sorted(set(_listed(folder / index).values()))) if (folder / index).is_file() else (torch_file,)
    folder = snapshot(parts)
    lacking = [name for name in parts if not (folder / name).is_file()]
    if held and lacking:
        raise FileNotFoundError(f"{place} holds no {lacking[0]} of {repository}")
    return folder


@functools.cache  # made and said once
def _instead_of(place: str, why: str) -> str:
    """A folder for this start alone."""
    folder = tempfile.mkdtemp(prefix="hub_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _log.warning(
        "the hub's cache %s cannot be used (%s), so the download is not kept; set HF_HOME to a folder that can be "
        "written to",
        place,
        why,
    )
    return folder


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
