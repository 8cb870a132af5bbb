"""Count what one image costs in a model, from sizes alone: FLOPs, and block stacks for memory.

Convention, the usual one of model FLOPs utilisation (Chowdhery et al. 2022, appendix B):

* a multiply-add counts 2; only matrix products count (projections, attention, patch embedding, head),
  everything else (normalisation, GELU, softmax, views, mixing, optimizer, EMA) counts nothing;
* a backward pass costs twice its forward pass, except for the patch embedding, whose input needs no
  gradient: once;
* nothing is counted for recomputation, so rematerialisation lowers the utilisation it reports.
"""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Flops:
    """Forward and backward FLOPs of one image through one network, or of a whole update."""

    forward: int
    backward: int

    @property
    def total(self) -> int:
        return self.forward + self.backward

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(self.forward + other.forward, self.backward + other.backward)

    def times(self, count: int) -> "Flops":
        return Flops(count * self.forward, count * self.backward)


@dataclasses.dataclass(frozen=True)
class Arrays:
    """Arrays of one token in a block: how many of its width, and how many of its hidden width.

    Attributes:
      working: while its backward pass runs, every step's result included.
      kept: for the backward pass in bfloat16, where norms, GELU and attention keep their inputs alone.
      dots: where all but the results of matrix products is computed again.
      inputs: where everything is.
    """

    working: tuple[int, int]
    kept: tuple[int, int]
    dots: tuple[int, int]
    inputs: tuple[int, int]


# From the operations: norms, qkv, attention, projections and sums (12 widths), the exact GELU's steps (5 hidden).
TRANSFORMER = Arrays(working=(12, 5), kept=(8, 2), dots=(6, 1), inputs=(1, 0))


@dataclasses.dataclass(frozen=True)
class Stack:
    """A run of equal blocks on so many tokens, or places of a grid, of one image."""

    tokens: int
    width: int
    mlp_dim: int
    num_heads: int
    depth: int
    arrays: Arrays = TRANSFORMER


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one image, forward and backward: its FLOPs, and the stacks in the order in which it passes them."""

    flops: Flops
    stacks: tuple[Stack, ...]
    forward_only: int = 0  # blocks, the first ones, through which nothing goes backward
    through: int = 0  # FLOPs of a backward pass through all blocks that no kernel of theirs receives a gradient from


def stack(size: Any, tokens: int) -> Stack:
    """The blocks of an encoder's or a decoder's size.

    A gated MLP has three products where a plain one has two, and keeps gate, value and their product where a plain one
    keeps its hidden values twice: it counts as a plain one of half as many again.
    """
    mlp_dim = size.mlp_dim * 3 // 2 if size.mlp == "swiglu" else size.mlp_dim
    return Stack(tokens, size.width, mlp_dim, size.num_heads, size.depth)


def matmul(rows: int, inner: int, columns: int) -> Flops:
    """(rows, inner) @ (inner, columns), both factors receiving a gradient."""
    forward = 2 * rows * inner * columns
    return Flops(forward, 2 * forward)


def blocks(passed: Stack) -> Flops:
    """All blocks of a stack: qkv and output projections, two attention products, the MLP."""
    tokens, width, mlp_dim = passed.tokens, passed.width, passed.mlp_dim
    projections = matmul(tokens, width, 3 * width) + matmul(tokens, width, width)
    mlp = matmul(tokens, width, mlp_dim) + matmul(tokens, mlp_dim, width)
    return (projections + mlp).times(passed.depth) + attention(passed)


def through(passed: Stack) -> int:
    """FLOPs of a backward pass through transformer blocks whose kernels are frozen: both factors of attention's
    products have a gradient, of the others the input alone."""
    return blocks(passed).forward + attention(passed).forward


def attention(passed: Stack) -> Flops:
    """The two products of attention of all blocks, all heads together."""
    tokens, width = passed.tokens, passed.width
    return (matmul(tokens, width, tokens) + matmul(tokens, tokens, width)).times(passed.depth)


def embedding(patches: int, values: int, width: int) -> Flops:
    """Patches of so many values each, which are data: only the kernel receives a gradient."""
    forward = matmul(patches, values, width).forward
    return Flops(forward, forward)
