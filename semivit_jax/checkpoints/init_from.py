"""Find what `config.init_from` names, an import folder or another run, and the keys it decides.

Only a stage that has no checkpoint of its own, and no stage before it, reads it. Once it has one, the run needs
nothing of its source, which may change or go.
"""

from typing import Any

from semivit_jax import files
from semivit_jax.checkpoints import manifest, reading, workdir
from semivit_jax.config import Config, ConfigError
from semivit_jax.files import Path
from semivit_jax.weights.folder import is_import, load_preprocessing, load_spec


def decided(init_from: str) -> dict[str, Any]:
    """Config keys that the weights decide, with their values; none where the folder holds no weights.

    Raises:
      ConfigError: the folder's record is damaged.
    """
    if is_import(init_from):
        try:
            view, eps = load_preprocessing(init_from), load_spec(init_from).layer_norm_eps
        except (KeyError, ValueError) as error:
            raise ConfigError(f"config.init_from {init_from}: its import.json cannot be read ({error!r})") from error
        return _keys(view, eps, view.crop_fraction)
    if (files.path(init_from) / "config.json").exists():
        return decided_before(workdir.load_config(files.path(init_from)))
    return {}


def decided_before(stored: Config) -> dict[str, Any]:
    """The same keys, with the values that a run has stored."""
    return _keys(stored.data, stored.model.layer_norm_eps, stored.data.eval_crop_fraction)


def _keys(view: Any, eps: float, crop_fraction: float) -> dict[str, Any]:
    return {
        "data.mean": view.mean,
        "data.std": view.std,
        "data.image_size": view.image_size,
        "data.eval_crop_fraction": crop_fraction,
        "data.interpolation": view.interpolation,
        "model.layer_norm_eps": eps,
    }


def check(init_from: str) -> None:
    """Raises ConfigError where there are no weights to start from; quick, nothing is read whole."""
    if not _is_folder(init_from):
        raise ConfigError(
            f"config.init_from {init_from} is not a folder; it names another run, or what "
            "`semivit import SOURCE --model MODEL --out FOLDER` has written"
        )
    origin = files.path(init_from)
    if is_import(origin):
        return
    try:
        workdir.latest_stage(origin)
    except ConfigError as error:
        raise ConfigError(f"config.init_from: {error}, nor imported weights") from error


def find(init_from: str) -> Path:
    """The folder of an import, or the newest good checkpoint of a run's latest stage.

    Raises:
      ConfigError: see `check`. CheckpointError: the run has no good checkpoint.
    """
    check(init_from)
    origin = files.path(init_from)
    if is_import(origin):
        return origin
    found = reading.newest_good(origin / workdir.latest_stage(origin) / "checkpoints")
    if found is None:
        raise reading.CheckpointError(f"config.init_from {origin} has no good checkpoint")
    return found


def contents(source: Path) -> dict[str, list[int]]:
    """Size and checksum of every file of a source, which say what it was when it is gone."""
    return manifest.checksums(source) if is_import(source) else manifest.sealed(source)


def _is_folder(init_from: str) -> bool:
    try:
        return files.path(init_from).is_dir()
    except OSError:  # an address, such as hf://, which `semivit import` takes
        return False
