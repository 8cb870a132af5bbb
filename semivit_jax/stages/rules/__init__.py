"""Choose target, weight and strength of each unlabeled image: the tables RULES, WRAPPERS and OUTLIERS.

`config.semi.pseudo_label_rule` names a row of RULES, with rows of WRAPPERS around it where wanted: 'aligned(free)'.
Around all of them stands the row of OUTLIERS that `config.semi.outliers` names.
What a rule gives and may go by is said in `stages/pseudo_label.py`. A rule of one's own is a row.
"""

from semivit_jax.stages.pseudo_label import Row, Wrapper
from semivit_jax.stages.rules.aligned import aligned
from semivit_jax.stages.rules.bank import bank
from semivit_jax.stages.rules.class_mean import class_mean
from semivit_jax.stages.rules.debiased import debiased
from semivit_jax.stages.rules.energy import energy
from semivit_jax.stages.rules.fixed import fixed
from semivit_jax.stages.rules.flex import flex
from semivit_jax.stages.rules.free import free
from semivit_jax.stages.rules.relative import relative
from semivit_jax.stages.rules.simpro import simpro
from semivit_jax.stages.rules.soft import soft
from semivit_jax.stages.rules.soft_gauss import soft_gauss
from semivit_jax.stages.rules.tempered import tempered

_TEACHER = frozenset({"teacher"})

RULES: dict[str, Row] = {
    "fixed": Row(_TEACHER, fixed, by_threshold=True),
    "free": Row(_TEACHER, free, is_penalised=lambda keys: keys.fairness > 0),
    "flex": Row(_TEACHER | {"image_id"}, flex, by_threshold=True),
    "soft_gauss": Row(_TEACHER, soft_gauss),
    "class_mean": Row(_TEACHER, class_mean),
    "relative": Row(_TEACHER | {"labeled"}, relative, by_threshold=True),
    "soft": Row(_TEACHER, soft),
    "simpro": Row(_TEACHER, simpro, by_threshold=True, adjusts_labeled=True),
    "bank": Row(frozenset({"bank"}), bank),
}

WRAPPERS: dict[str, Wrapper] = {
    "aligned": Wrapper(lambda keys: frozenset({"labeled"} if keys.prior == "model" else ()), aligned),
    "tempered": Wrapper(lambda keys: frozenset(), tempered),
    "debiased": Wrapper(lambda keys: frozenset(), debiased),
}

EVENING = frozenset({"free", "flex", "simpro", "aligned", "debiased"})  # give classes that come seldom more labels

OUTLIERS: dict[str, Wrapper | None] = {
    "none": None,
    "energy": Wrapper(lambda keys: frozenset({"labeled", "image_id"}), energy),
}
