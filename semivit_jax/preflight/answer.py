"""Answer for one stage on one topology: does it fit, what does it move, what would help."""

import dataclasses
from typing import Any

import jax

from semivit_jax.config import Config, ConfigError
from semivit_jax.models import families
from semivit_jax.plan import ImageCounts, Plan
from semivit_jax.preflight import flops, search, step
from semivit_jax.preflight.batch import with_legal_batch
from semivit_jax.preflight.collectives import Collective, Total, find, totals
from semivit_jax.preflight.estimate import Estimate, expected_leaving_bytes, expected_sent_bytes, roofline
from semivit_jax.preflight.memory import estimated_temporaries, state_bytes
from semivit_jax.preflight.search import Setting
from semivit_jax.preflight.topology import Topology, libtpu_version
from semivit_jax.recipes.planning import fit_batch, make_plan
from semivit_jax.training.sharding import check_fsdp
from semivit_jax.words import counted

COMPILER, ESTIMATE = "compiler", "estimate"
LARGEST = 8  # collectives listed one by one
ROOM = 1.15  # an estimate counts as fitting only with this much to spare


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on one device. `activations` are all temporaries: activations, gradients, rounded parameters."""

    params: int  # those that are trained
    frozen: int
    ema_params: int
    optimizer: int
    activations: int
    total: int
    chip: int
    source: str  # of activations and total: 'compiler' or 'estimate'; the state is exact

    @property
    def fits(self) -> bool:
        room = ROOM if self.source == ESTIMATE else 1.0
        return self.total * room <= self.chip


@dataclasses.dataclass(frozen=True)
class Load:
    """What one setting asks of a device; collectives are the compiler's, or None."""

    memory: Memory
    found: list[Collective] | None
    compile_seconds: float
    out_of_memory: bool


@dataclasses.dataclass(frozen=True)
class Change:
    """The nearest change that makes a step fit; None where none was found."""

    setting: Setting | None
    flags: tuple[str, ...]
    memory: Memory | None
    tried: int
    text: str


@dataclasses.dataclass(frozen=True)
class Answer:
    """Everything `semivit plan` says about one stage; written as JSON and printed as a table."""

    recipe: str
    stage: str
    model: str
    topology: str  # of one slice
    slices: int
    devices: int  # of all slices
    fsdp: int
    remat: str
    batch_size: int  # labeled images in the semi stage
    unlabeled_ratio: int
    micro_steps: int
    images_per_device: int  # of one micro-step
    group_size: int
    peak_lr: float
    total_steps: int
    deviations: tuple[str, ...]
    tuned: str  # how much is trained, and what that saves; empty where all is
    compiled: bool
    note: str  # why not compiled; empty otherwise
    compile_seconds: float
    fits: bool
    memory: Memory
    collectives: dict[str, Total]  # empty where not compiled
    largest_collectives: list[Collective]
    sent_bytes: float  # by one device per update
    sent_bytes_source: str
    leaving_bytes: float  # a slice, per update, of those that its devices send
    leaving_bytes_source: str
    model_flops: int  # of one update, over all devices
    estimate: Estimate
    change: Change | None


def plan_one(
    config: Config,
    stage: str,
    topology: Topology,
    counts: ImageCounts,
    *,
    devices: list[Any] | None,
    note: str,
    tries: int,
) -> Answer:
    """Plans one stage.

    Args:
      config: the run.
      stage: one of config.stages.
      topology: slice or host.
      counts: images of each role.
      devices: described devices to compile for; None for the analytic part alone.
      note: why there are no devices.
      tries: settings compiled at most when the first one does not fit.

    Raises:
      ConfigError: the stage cannot run on so many devices, or nobody has counted what its model costs.
    """
    if families.of(config.model.variant).cost is None:
        covered = ", ".join(families.variants(lambda family: family.cost))
        raise ConfigError(f"config.model.variant is {config.model.variant!r}; plans cover {covered}")
    per_slice = topology.devices_per_slice
    slices = [device // per_slice for device in range(topology.num_devices)]
    check_fsdp(config.mesh.fsdp, slices, platform=topology.chip.platform)
    config, changed = with_legal_batch(config, stage, topology.num_devices)
    config, lowered = fit_batch(config, stage, counts, num_devices=topology.num_devices, stored=None)
    changed = (*changed, *lowered)
    plan = make_plan(config, stage, counts, num_devices=topology.num_devices, stored_group_size=None)
    load = _load(config, plan, topology, devices)
    state = state_bytes(step.describe_state(config, plan))
    sent, source = expected_sent_bytes(config, plan, state), ESTIMATE
    leaving = expected_leaving_bytes(config, plan, state, devices_per_slice=per_slice)
    if load.found is not None:
        sent, source = sum(c.sent_bytes for c in load.found), COMPILER
        leaving = sum(c.leaving_bytes for c in load.found)
    return Answer(
        recipe=config.log.recipe,
        stage=stage,
        model=config.model.variant,
        topology=topology.name,
        slices=topology.slices,
        devices=topology.num_devices,
        fsdp=config.mesh.fsdp,
        remat=config.model.remat,
        batch_size=plan.batch_size,
        unlabeled_ratio=plan.unlabeled_ratio,
        micro_steps=plan.accum,
        images_per_device=_images_per_device(plan),
        group_size=plan.group_size,
        peak_lr=plan.peak_lr,
        total_steps=plan.total_steps,
        deviations=changed + plan.deviations,
        tuned=step.describe_tuning(config, plan),
        compiled=devices is not None,
        note=note,
        compile_seconds=load.compile_seconds,
        fits=_fits(load),
        memory=load.memory,
        collectives=totals(load.found or []),
        largest_collectives=sorted(load.found or [], key=lambda c: -c.sent_bytes)[:LARGEST],
        sent_bytes=sent,
        sent_bytes_source=source,
        leaving_bytes=leaving,
        leaving_bytes_source=source,
        model_flops=flops.per_update(config, plan).total,
        estimate=roofline(config, plan, topology.chip, state, sent_bytes=sent),
        change=None if _fits(load) else _change(config, plan, topology, counts, devices, tries),
    )


def to_dict(found: Answer) -> dict[str, Any]:
    """JSON-ready, with the versions that the answer holds for."""
    return dataclasses.asdict(found) | {"versions": {"jax": jax.__version__, "libtpu": libtpu_version()}}


def _load(config: Config, plan: Plan, topology: Topology, devices: list[Any] | None) -> Load:
    state = state_bytes(step.describe_state(config, plan))
    chip = topology.chip.hbm_bytes

    def of(activations: int, total: int, source: str) -> Memory:
        return Memory(state.params, state.frozen, state.ema_params, state.optimizer, activations, total, chip, source)

    if devices is None:
        activations = estimated_temporaries(config, plan, state)
        return Load(of(activations, state.total + activations, ESTIMATE), None, 0.0, False)
    try:
        compiled = step.compile_step(config, plan, devices)
    except step.OutOfMemory as error:
        return Load(of(error.needed_bytes - state.total, error.needed_bytes, COMPILER), None, error.seconds, True)
    found = find(compiled.hlo_text, slices=1)
    return Load(of(compiled.temporary_bytes, compiled.peak_bytes, COMPILER), found, compiled.seconds, False)


def _fits(load: Load) -> bool:
    return load.memory.fits and not load.out_of_memory


def _images_per_device(plan: Plan) -> int:
    return plan.micro_batch * (1 + plan.unlabeled_ratio) // plan.num_devices


def _change(
    config: Config, plan: Plan, topology: Topology, counts: ImageCounts, devices: list[Any] | None, tries: int
) -> Change:
    """Tries nearby settings whose estimate fits; compiles them where devices are given."""
    start = Setting(config.model.remat, config.mesh.fsdp, _images_per_device(plan))
    loads: dict[Setting, Load] = {}

    def plan_of(setting: Setting) -> tuple[Config, Plan]:
        changed = setting.applied_to(config)
        return changed, make_plan(
            changed, plan.stage, counts, num_devices=plan.num_devices, stored_group_size=plan.group_size
        )

    def load(setting: Setting, devices: list[Any] | None) -> Load:
        return _load(*plan_of(setting), topology, devices)

    def promising(setting: Setting) -> bool:
        changed = setting.applied_to(config)
        return search.can_plan(
            changed, plan.stage, counts, num_devices=plan.num_devices, group_size=plan.group_size
        ) and _fits(load(setting, None))

    def fits(setting: Setting) -> bool:
        loads[setting] = load(setting, devices)
        return _fits(loads[setting])

    found = search.nearest(start, most_fsdp=topology.devices_per_slice, promising=promising, fits=fits, max_tries=tries)
    by = "compiling" if devices is not None else "estimating"
    if found.setting is None:
        why = f"stopped after {counted(tries, 'try', 'tries')}" if found.gave_up else "nothing left to try"
        return Change(
            None, (), None, len(found.tried), f"no change of remat, fsdp or accumulation found that fits: {why}"
        )
    flags = found.setting.flags(start)
    text = f"fits with {' '.join(flags)} (found by {by} {counted(len(found.tried), 'setting')})"
    return Change(found.setting, flags, loads[found.setting].memory, len(found.tried), text)
