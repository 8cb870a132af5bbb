"""Estimate the memory that training needs by how much of a model is trained, for `semivit models`."""

import dataclasses

import jax

from semivit_jax.config import ModelConfig
from semivit_jax.models import families, tuning
from semivit_jax.models.parting import unflatten
from semivit_jax.models.spec import ModelSpec
from semivit_jax.preflight.memory import StateBytes, device_stacks, temporaries
from semivit_jax.stages.state import nbytes

TUNES = ("all", "last_2", "lora", "head")
IMAGES = 32  # of an update
_BFLOAT16 = 2  # bytes


def needed(spec: ModelSpec, model: ModelConfig) -> dict[str, int] | None:
    """Bytes of an update on one device in bfloat16, by the words of TUNES that the model takes; None where nobody has
    counted it.

    Args:
      spec: the model.
      model: of a recipe, for what LoRA is; of a model without such matrices it is on those that it has.
    """
    if families.cost(spec) is None:
        return None
    family = families.of(spec.variant)
    if model.lora_matrices not in family.lora:
        model = dataclasses.replace(model, lora_matrices=next(iter(family.lora)))
    tunes = [tune for tune in TUNES if family.cut or not tune.startswith("last_")]
    shapes = {path: jax.ShapeDtypeStruct(shape, "float32") for path, shape in families.shapes(spec).items()}
    named = dataclasses.replace(model, variant=spec.variant, pool=spec.pool, posemb=spec.posemb)
    return {tune: _bytes(spec, dataclasses.replace(named, tune=tune), unflatten(shapes)) for tune in tunes}


def _bytes(spec: ModelSpec, model: ModelConfig, params: dict) -> int:
    trained, frozen = jax.eval_shape(tuning.parting(model, spec).split, params, jax.random.key(0))
    ours, others = nbytes(trained), nbytes(frozen)
    state = StateBytes(
        params=ours,
        frozen=others,
        ema_params=ours,
        optimizer=2 * ours,
        total_params=ours + others,
        total_trained=ours,
    )
    cost = tuning.cost(model, spec)
    assert cost is not None, spec.variant
    passed = device_stacks(cost, IMAGES, itemsize=_BFLOAT16)
    added = temporaries(passed, state, remat=model.remat, image_size=spec.image_size, views=1, accum=1)
    return state.total + added
