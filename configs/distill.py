"""A small model from what a large one has said of your images beforehand: ViT-S from a ViT-L's bank.

semivit train --config=configs/own_folder.py:model=vit_l16,init_from=weights/mae_vit_l16 --workdir=runs/large \\
  --config.data.root=PHOTOS --config.data.labels=labels.csv
semivit bank --config=configs/distill.py --config.data.root=PHOTOS --config.data.labels=labels.csv \\
  --runs=runs/large --out=large.bank
semivit train --config=configs/distill.py:bank=large.bank,init_from=weights/dinov2_s14 --workdir=runs/small \\
  --config.data.root=PHOTOS --config.data.labels=labels.csv

The small model is fine-tuned on the labeled images, then learns on strong views of the unlabeled ones what the bank
says of them; no teacher is passed, which saves about a fifth of a step. The bank is of all images of the folder, so
other labels, seeds and shares take the same one. Arguments: bank=FILE; model=vit_s16|..., by default that of the
weights to start from, without any vit_s16; init_from=FOLDER, without it MAE pre-training comes first. Ours: the idea
is V-PET's and DHO's (docs/rules.md), and no published number belongs to it.
"""

from ml_collections import ConfigDict

from semivit_jax.configs import _arguments, _base, own_folder


def get_config(text: str = "") -> ConfigDict:
    args = _arguments.parse(text, bank="", model="", init_from="")
    variant = args.model or _base.model_of(args.init_from, "vit_s16")
    given = f"model={variant}" + (f",init_from={args.init_from}" if args.init_from else "")
    config = own_folder.get_config(given)
    changes = {
        "log.recipe": f"distill:model={variant}",
        "semi.bank": args.bank,
        # Before there is a bank, as for `semivit bank`, the recipe is own_folder's.
        "semi.pseudo_label_rule": "bank" if args.bank else "fixed",
        "semi.pseudo_mixup": "prob",
        "semi.unlabeled_weight": 1.0,  # as V-PET: what the bank says counts as much as a label
    }
    config.update_from_flattened_dict(changes)
    return config
