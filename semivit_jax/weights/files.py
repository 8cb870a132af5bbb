"""From what the user names to files: a local file, a folder, or a repository of the Hugging Face hub."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping

HUB_PREFIX = "hf://"
CONFIG_FILES = ("config.json", "preprocessor_config.json")
SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")  # in order of preference
SHARD_INDEX = "model.safetensors.index.json"


@dataclasses.dataclass(frozen=True)
class SourceFiles:
    """The files of one set of weights.

    Attributes:
      name: what the user asked for, for messages.
      weights: one file, or the parts of a split state dict.
      configs: parsed JSON files found beside them, by file name.
    """

    name: str
    weights: tuple[pathlib.Path, ...]
    configs: Mapping[str, Mapping]


def locate(source: str) -> SourceFiles:
    """Finds the files of SOURCE, downloading them when it is `hf://org/name`.

    The config files beside a single weight file are read only when the file has the name that exported
    folders use; a `.pth` in a downloads folder is taken alone.

    Raises:
      FileNotFoundError: nothing there, or a folder without weights.
      ValueError: a hub name that is not org/name.
    """
    if source.startswith(HUB_PREFIX):
        return _locate_in(source, _download(source))
    path = pathlib.Path(source).expanduser()
    if path.is_dir():
        return _locate_in(source, path)
    if not path.is_file():
        raise FileNotFoundError(f"{source}: no such file or folder (hub repositories are written hf://org/name)")
    configs = _read_configs(path.parent) if path.name in SINGLE_FILES else {}
    return SourceFiles(name=source, weights=(path,), configs=configs)


def _locate_in(source: str, folder: pathlib.Path) -> SourceFiles:
    return SourceFiles(name=source, weights=_weights_in(source, folder), configs=_read_configs(folder))


def _weights_in(source: str, folder: pathlib.Path) -> tuple[pathlib.Path, ...]:
    index = folder / SHARD_INDEX
    if index.is_file():
        parts = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        return tuple(folder / part for part in parts)
    for name in SINGLE_FILES:
        if (folder / name).is_file():
            return (folder / name,)
    raise FileNotFoundError(f"{source}: no {', '.join((SHARD_INDEX, *SINGLE_FILES))} in this folder")


def _read_configs(folder: pathlib.Path) -> dict[str, Mapping]:
    return {name: json.loads((folder / name).read_text()) for name in CONFIG_FILES if (folder / name).is_file()}


def _download(source: str) -> pathlib.Path:
    """Fetches the config files and the preferred weights into the hub's cache; returns the folder."""
    import huggingface_hub  # takes half a second to load, and only hub sources need it

    repository = source.removeprefix(HUB_PREFIX)
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise ValueError(f"{source}: hub repositories are written hf://org/name")
    available = huggingface_hub.list_repo_files(repository)
    parts = [name for name in available if name.startswith("model-") and name.endswith(".safetensors")]
    wanted = [name for name in SINGLE_FILES if name in available][:1] or [SHARD_INDEX, *parts]
    return pathlib.Path(huggingface_hub.snapshot_download(repository, allow_patterns=[*CONFIG_FILES, *wanted]))
