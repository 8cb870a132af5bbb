"""Find what `config.init_from` names, an import folder, another run or a checkpoint of one, and the keys it decides.

Only a stage that has no checkpoint of its own, and no stage before it, reads it. Once it has one, the run needs
nothing of its source, which may change or go.
"""

from typing import Any

from semivit_jax import files
from semivit_jax.checkpoints import manifest, reading, workdir
from semivit_jax.config import Config, ConfigError
from semivit_jax.data import record
from semivit_jax.data.seen import Seen
from semivit_jax.files import Path
from semivit_jax.stages import STAGES
from semivit_jax.weights.folder import is_import, load_pool, load_preprocessing, load_spec

_UNREAD = ("model.pool", "model.posemb")  # of a config, by pre-training
SEEN_FILE = "seen.json"  # in the folder of an import


def decided(init_from: str) -> dict[str, Any]:
    """Config keys that the weights decide, with their values; none where the folder holds no weights.

    Raises:
      ConfigError: the folder's record is damaged.
    """
    if is_import(init_from):
        try:
            view, spec, pool = load_preprocessing(init_from), load_spec(init_from), load_pool(init_from)
        except (KeyError, ValueError) as error:
            raise ConfigError(f"config.init_from {init_from}: its import.json cannot be read ({error!r})") from error
        heads = {} if pool is None else {"model.pool": pool, "model.posemb": spec.posemb}
        return {"model.variant": spec.variant, **heads, **_keys(view, spec.layer_norm_eps, view.crop_fraction)}
    run = run_of(files.path(init_from))
    if run is None:
        return {}
    stored = workdir.load_config(run)
    unread = _UNREAD if STAGES[_stage(files.path(init_from), run, stored)].pre_training else ()
    return {key: value for key, value in decided_before(stored).items() if key not in unread}


def _stage(origin: Path, run: Path, stored: Config) -> str:
    """The stage of a checkpoint, or the latest of a run that has one."""
    if manifest.is_sealed(origin):
        return files.absolute(origin).parents[1].name
    begun = [stage for stage in stored.stages if workdir.has_checkpoint(run / stage)]
    return begun[-1] if begun else stored.stages[-1]


def decided_before(stored: Config) -> dict[str, Any]:
    """The same keys, with the values that a run has stored."""
    model = {f"model.{key}": getattr(stored.model, key) for key in ("variant", "pool", "posemb")}
    return model | _keys(stored.data, stored.model.layer_norm_eps, stored.data.eval_crop_fraction)


def _keys(view: Any, eps: float, crop_fraction: float) -> dict[str, Any]:
    return {
        "model.layer_norm_eps": eps,
        "data.image_size": view.image_size,
        "data.eval_crop_fraction": crop_fraction,
        "data.interpolation": view.interpolation,
        "data.mean": view.mean,
        "data.std": view.std,
    }


def check(init_from: str) -> None:
    """Raises ConfigError where there are no weights to start from; quick, nothing is read whole."""
    try:
        origin = files.path(init_from)
    except OSError as error:
        if init_from.startswith("gs:"):
            raise ConfigError(f"config.init_from {error}") from error
        origin = None  # an address such as hf://, which `semivit import` takes
    if origin is None or not origin.is_dir():
        raise ConfigError(
            f"config.init_from {init_from} is not a folder; it names another run, a checkpoint of one, or what "
            "`semivit import SOURCE --out FOLDER` has written"
        )
    if is_import(origin) or manifest.is_sealed(origin):
        return
    try:
        workdir.latest_stage(origin)
    except ConfigError as error:
        elsewhere = "what others have published is imported first: `semivit import SOURCE --out FOLDER`"
        raise ConfigError(f"config.init_from: {error}, nor imported weights; {elsewhere}") from error


def find(init_from: str) -> Path:
    """The folder of an import, the checkpoint itself, or the newest good one of a run's latest stage.

    Raises:
      ConfigError: see `check`. CheckpointError: the checkpoint is damaged, or the run has no good one.
    """
    check(init_from)
    origin = files.path(init_from)
    if is_import(origin):
        return origin
    if manifest.is_sealed(origin):
        return reading.undamaged(files.absolute(origin))
    found = reading.newest_good(origin / workdir.latest_stage(origin) / "checkpoints")
    if found is None:
        raise reading.CheckpointError(f"config.init_from {origin} has no good checkpoint")
    return found


def run_of(origin: Path) -> Path | None:
    """The run's folder, of that folder itself or of one of its checkpoints; None where it is neither."""
    checkpoint = files.absolute(origin)
    run = checkpoint.parents[2] if manifest.is_sealed(checkpoint) else origin
    return run if (run / "config.json").exists() else None


def seen(origin: Path, label_free: tuple[str, ...]) -> Seen | None:
    """Images that the weights of a run, of one of its checkpoints, or of an import of it, were trained on with a label.

    Args:
      origin: as `config.init_from` names it.
      label_free: stages that read no labels.

    Returns:
      None where no run is known that they come from, or one that has not kept with which images it began.
    """
    if is_import(origin):
        stored = origin / SEEN_FILE
        return Seen.from_json(files.read_json(stored)) if stored.exists() else None
    run = run_of(origin)
    begun = None if run is None else record.read(run)
    if run is None or begun is None:
        return None
    config = workdir.load_config(run)
    labeled = [] if set(config.stages) <= set(label_free) else begun.names("labeled")
    data, names = config.data, frozenset([*labeled, *begun.labeled_before()])
    return Seen(str(run), data.dataset, data.root, data.train_split, names)


def seen_file(source: Path, label_free: tuple[str, ...]) -> dict[str, Any]:
    """What `seen` says of a run of ours, as the file of an import, name and JSON; none where it has seen nothing."""
    found = seen(source, label_free)
    return {SEEN_FILE: found.to_json()} if found is not None and found.names else {}


def contents(source: Path) -> manifest.Described:
    """Size and checksum of every file of a source, which say what it was when it is gone."""
    return manifest.checksums(source) if is_import(source) else manifest.sealed(source)
