"""The semi-supervised step in PyTorch on timm's VisionTransformer, for comparison: as usually run, and tuned.

Both do the work of our step in `semivit_jax.stages.semi` (Cai et al. 2022): labeled mixup, an EMA teacher on
weak views, probabilistic pseudo mixup of strong views, AdamW with layer-wise rates, EMA. Random erasing is left
out on both sides, since people make it on the host. Needs torch and timm.

    (a) `AsUsual`: three separate forwards, autocast with a loss scaler, mixing per sample in Python, `.item()`
        of every logged value at every step.
    (b) `Tuned`: bfloat16 autocast, fused attention and AdamW, foreach EMA, batched mixing, one joined
        forward, `torch.compile`, no synchronisation.
"""

import copy
import dataclasses
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from semivit_jax.models.vit import ViTSize


@dataclasses.dataclass(frozen=True)
class Settings:
    """Values of the step. `amp_dtype` None computes in the parameters' precision."""

    num_classes: int
    label_smoothing: float
    confidence_threshold: float
    unlabeled_weight: float
    ema_decay: float
    betas: tuple[float, float]
    eps: float
    lr: float
    weight_decay: float
    layer_decay: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    amp_dtype: torch.dtype | None


class Batch(NamedTuple):
    """uint8 images (rows, h, w, 3), or normalised floats; int64 labels (rows,)."""

    labeled: Tensor
    label: Tensor
    weak: Tensor
    strong: Tensor


class Draws(NamedTuple):
    """Draws of both mixups on the host, one entry per mixing group; boxes are centred at (row, column).

    Attributes:
      labeled_lambda, labeled_cutmix: (groups,). labeled_center: (groups, 2).
      partner: (groups, size), a permutation of each group. cutmix: (groups, size). center: (groups, size, 2).
    """

    labeled_lambda: np.ndarray
    labeled_cutmix: np.ndarray
    labeled_center: np.ndarray
    partner: np.ndarray
    cutmix: np.ndarray
    center: np.ndarray


def make_model(size: ViTSize, *, image_size: int, num_classes: int, drop_path_rate: float) -> VisionTransformer:
    """timm's ViT with mean pooling and `fc_norm`, as fine-tuned after MAE."""
    return VisionTransformer(
        img_size=image_size,
        patch_size=size.patch_size,
        embed_dim=size.width,
        depth=size.depth,
        num_heads=size.num_heads,
        mlp_ratio=size.mlp_dim / size.width,
        num_classes=num_classes,
        global_pool="avg",
        drop_path_rate=drop_path_rate,
    )


def parameter_groups(model: VisionTransformer, settings: Settings) -> list[dict[str, Any]]:
    """Layer-wise learning rates (Bao et al. 2022) and no decay for vectors, class token and position embedding."""
    last = len(model.blocks) + 1
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if name in ("cls_token", "pos_embed") or name.startswith("patch_embed."):
            layer = 0
        else:
            layer = int(name.split(".")[1]) + 1 if name.startswith("blocks.") else last
        decayed = parameter.ndim > 1 and name not in ("cls_token", "pos_embed")
        group = groups.setdefault(
            (layer, decayed),
            {
                "params": [],
                "lr": settings.lr * settings.layer_decay ** (last - layer),
                "weight_decay": settings.weight_decay if decayed else 0.0,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


class _Step:
    """What both twins share: student, teacher, optimizer, autocast."""

    def __init__(self, model: VisionTransformer, settings: Settings, device: str, *, fused: bool):
        self.settings, self.device = settings, device
        self.student = model.to(device).train()
        self.teacher = copy.deepcopy(self.student).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.student, settings), betas=settings.betas, eps=settings.eps, fused=fused
        )
        self.mean = torch.tensor(settings.mean, device=device)
        self.std = torch.tensor(settings.std, device=device)

    def see(self, images: Tensor) -> Tensor:
        """NHWC -> normalised NCHW floats."""
        if images.dtype == torch.uint8:
            images = (images.float() / 255.0 - self.mean) / self.std
        return images.permute(0, 3, 1, 2)

    def autocast(self) -> torch.autocast:
        dtype = self.settings.amp_dtype
        return torch.autocast(self.device, dtype=dtype or torch.bfloat16, enabled=dtype is not None)

    def smoothed(self, label: Tensor) -> Tensor:
        share, classes = self.settings.label_smoothing, self.settings.num_classes
        return F.one_hot(label, classes).float() * (1.0 - share) + share / classes


class AsUsual(_Step):
    """Twin (a)."""

    def __init__(self, model: VisionTransformer, settings: Settings, device: str):
        super().__init__(model, settings, device, fused=False)
        self.scaler = torch.amp.GradScaler(device, enabled=settings.amp_dtype == torch.float16)

    def step(self, batch: Batch, draws: Draws) -> dict[str, float]:
        settings = self.settings
        labeled, target = self.mix_labeled(self.see(batch.labeled), self.smoothed(batch.label), draws)
        with torch.no_grad(), self.autocast():
            probs = self.teacher(self.see(batch.weak)).float().softmax(dim=-1)
        confidence, pseudo_label = probs.max(dim=-1)
        strong, pseudo_target, kept = self.mix_strong(self.see(batch.strong), pseudo_label, confidence, draws)
        with self.autocast():
            logits = self.student(labeled)
            strong_logits = self.student(strong)
        loss_labeled = F.cross_entropy(logits.float(), target)
        losses = F.cross_entropy(strong_logits.float(), pseudo_target, reduction="none")
        loss_unlabeled = (losses * kept).mean()
        loss = loss_labeled + settings.unlabeled_weight * loss_unlabeled
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        with torch.no_grad():
            for mean, new in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                mean.mul_(settings.ema_decay).add_(new, alpha=1.0 - settings.ema_decay)
        return {
            "loss": loss.item(),
            "loss_labeled": loss_labeled.item(),
            "loss_unlabeled": loss_unlabeled.item(),
            "mask_rate": kept.mean().item(),
        }

    def mix_labeled(self, images: Tensor, targets: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Each group with its own reverse, one draw per group."""
        mixed, mixed_targets = images.clone(), targets.clone()
        size = len(images) // len(draws.labeled_lambda)
        for i in range(len(images)):
            group = i // size
            partner = group * size + size - 1 - i % size
            share = mix_pair(
                mixed[i],
                images[partner],
                float(draws.labeled_lambda[group]),
                bool(draws.labeled_cutmix[group]),
                draws.labeled_center[group],
            )
            mixed_targets[i] = targets[i] * share + targets[partner] * (1.0 - share)
        return mixed, mixed_targets

    def mix_strong(self, images: Tensor, pseudo_label: Tensor, confidence: Tensor, draws: Draws):
        """Weights from the confidences, image by image; the mask is that of the more confident image."""
        mixed, targets = images.clone(), self.smoothed(pseudo_label)
        mixed_targets, kept = targets.clone(), torch.zeros_like(confidence)
        host = confidence.cpu().numpy()
        size = draws.partner.shape[1]
        for i in range(len(images)):
            group, own = divmod(i, size)
            partner = group * size + int(draws.partner[group, own])
            lam = float(host[i] / (host[i] + host[partner]))
            cut = bool(draws.cutmix[group, own])
            share = mix_pair(mixed[i], images[partner], lam, cut, draws.center[group, own])
            mixed_targets[i] = targets[i] * share + targets[partner] * (1.0 - share)
            kept[i] = float(max(host[i], host[partner]) >= self.settings.confidence_threshold)
        return mixed, mixed_targets, kept


def mix_pair(image: Tensor, partner: Tensor, lam: float, cut: bool, center: np.ndarray) -> float:
    """Mixes the partner into `image` (3, h, w) in place; returns the share of the image itself."""
    if not cut:
        image.mul_(lam).add_(partner, alpha=1.0 - lam)
        return lam
    height, width = image.shape[1:]
    cut_height, cut_width = (int(side * (1.0 - lam) ** 0.5) for side in (height, width))
    top, bottom = (int(np.clip(center[0] + d, 0, height)) for d in (-(cut_height // 2), cut_height // 2))
    left, right = (int(np.clip(center[1] + d, 0, width)) for d in (-(cut_width // 2), cut_width // 2))
    image[:, top:bottom, left:right] = partner[:, top:bottom, left:right]
    return 1.0 - (bottom - top) * (right - left) / (height * width)


class Tuned(_Step):
    """Twin (b). `compiled` false leaves out `torch.compile`, for tests."""

    def __init__(self, model: VisionTransformer, settings: Settings, device: str, *, compiled: bool):
        super().__init__(model, settings, device, fused=True)
        self.losses = torch.compile(self._losses) if compiled else self._losses
        self.averaged = list(self.teacher.parameters())
        self.current = list(self.student.parameters())

    def step(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """Returns tensors: whoever logs them decides when to wait."""
        found = self.losses(batch, self._on_device(draws))
        self.optimizer.zero_grad(set_to_none=True)
        found["loss"].backward()
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.averaged, self.current, 1.0 - self.settings.ema_decay)
        return {name: value.detach() for name, value in found.items()}

    def _on_device(self, draws: Draws) -> tuple[Tensor, ...]:
        """One entry per image, floats in float32, copied without waiting."""
        groups, size = draws.partner.shape
        first = np.arange(groups)[:, None] * size
        arrays = (
            draws.labeled_lambda.astype(np.float32), draws.labeled_cutmix, draws.labeled_center,
            (first + draws.partner).reshape(-1), draws.cutmix.reshape(-1), draws.center.reshape(-1, 2),
        )  # fmt: skip
        return tuple(torch.from_numpy(np.ascontiguousarray(a)).to(self.device, non_blocking=True) for a in arrays)

    def _losses(self, batch: Batch, draws: tuple[Tensor, ...]) -> dict[str, Tensor]:
        settings = self.settings
        group_lambda, group_cutmix, group_center, partner, cutmix, center = draws
        rows, groups = len(batch.labeled), len(group_lambda)
        size = rows // groups
        reverse = torch.arange(rows, device=self.device).view(groups, size).flip(1).reshape(-1)
        labeled, target = mix_rows(
            self.see(batch.labeled), self.smoothed(batch.label), reverse, group_lambda.repeat_interleave(size),
            group_cutmix.repeat_interleave(size), group_center.repeat_interleave(size, 0),
        )  # fmt: skip
        with torch.no_grad(), self.autocast():
            probs = self.teacher(self.see(batch.weak)).float().softmax(dim=-1)
        confidence, pseudo_label = probs.max(dim=-1)
        lam = confidence / (confidence + confidence[partner])
        strong, pseudo_target = mix_rows(
            self.see(batch.strong), self.smoothed(pseudo_label), partner, lam, cutmix, center
        )
        kept = (torch.maximum(confidence, confidence[partner]) >= settings.confidence_threshold).float()
        with self.autocast():
            logits = self.student(torch.cat([labeled, strong]))
        loss_labeled = F.cross_entropy(logits[:rows].float(), target)
        losses = F.cross_entropy(logits[rows:].float(), pseudo_target, reduction="none")
        loss_unlabeled = (losses * kept).mean()
        loss = loss_labeled + settings.unlabeled_weight * loss_unlabeled
        return {
            "loss": loss,
            "loss_labeled": loss_labeled,
            "loss_unlabeled": loss_unlabeled,
            "mask_rate": kept.mean(),
        }


def mix_rows(images: Tensor, targets: Tensor, partner: Tensor, lam: Tensor, cutmix: Tensor, center: Tensor):
    """Mixup or cutmix of every row with its partner, at once; lam, cutmix (rows,), center (rows, 2)."""
    height, width = images.shape[2:]
    side = (1.0 - lam).sqrt()
    half_h, half_w = (side * height).long() // 2, (side * width).long() // 2
    top, bottom = ((center[:, 0] + d).clamp(0, height) for d in (-half_h, half_h))
    left, right = ((center[:, 1] + d).clamp(0, width) for d in (-half_w, half_w))
    y = torch.arange(height, device=images.device)[None, :, None]
    x = torch.arange(width, device=images.device)[None, None, :]
    inside = (y >= top[:, None, None]) & (y < bottom[:, None, None])
    inside = inside & (x >= left[:, None, None]) & (x < right[:, None, None])
    own = torch.where(cutmix[:, None, None], (~inside).to(images.dtype), lam[:, None, None])[:, None]
    area = (bottom - top) * (right - left) / (height * width)
    share = torch.where(cutmix, 1.0 - area, lam)[:, None]
    return images * own + images[partner] * (1.0 - own), targets * share + targets[partner] * (1.0 - share)
