"""Poolings of a vision transformer's tokens that timm does not have."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize, scaled_dot_product_attention


class ClassAndMean(nn.Module):
    """The class token joined to the mean of the patch tokens."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, px, px) to (B, 2 D)."""
        network = cast(Any, self.network)
        tokens = network.forward_features(pixels)
        patches = tokens[:, network.num_prefix_tokens :]
        return torch.cat([tokens[:, 0], patches.mean(1)], dim=1)


class AttentionPooled(nn.Module):
    """CONCH's pooling: one learned query attends to all tokens.

    `pool` is a `JointPool` or `SplitPool`, `width` that of the embedding.
    """

    def __init__(self, network: nn.Module, pool: nn.Module, width: int) -> None:
        super().__init__()
        self.network = network
        self.attn_pool_contrast = pool
        self.ln_contrast = nn.LayerNorm(width)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, px, px) to (B, width)."""
        tokens = cast(Any, self.network).forward_features(pixels)
        pooled: Tensor = self.ln_contrast(self.attn_pool_contrast(tokens)[:, 0])
        return pooled


class JointPool(nn.Module):
    """Attention of CONCH: PyTorch's layer, without its forward pass, which OpenVINO cannot run."""

    def __init__(self, width: int, tokens: int, heads: int = 8) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, width))
        self.attn = nn.MultiheadAttention(width, heads, kdim=tokens, vdim=tokens)
        self.ln_q = nn.LayerNorm(width)
        self.ln_k = nn.LayerNorm(tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, tokens) to (B, 1, width)."""
        attn, tokens = cast(Any, self.attn), self.ln_k(tokens)
        q_bias, k_bias, v_bias = attn.in_proj_bias.chunk(3)
        query = linear(self.ln_q(self.query), attn.q_proj_weight, q_bias)
        keys = linear(tokens, attn.k_proj_weight, k_bias)
        values = linear(tokens, attn.v_proj_weight, v_bias)
        pooled: Tensor = attn.out_proj(_attend(query, keys, values, attn.num_heads))
        return pooled


class SplitPool(nn.Module):
    """Attention of CONCH v1.5: one matrix for keys and values, no biases."""

    def __init__(self, width: int, tokens: int, heads: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Parameter(torch.randn(1, width))
        self.ln_k = nn.LayerNorm(tokens)
        self.ln_q = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(tokens, 2 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, tokens) to (B, 1, width)."""
        keys, values = self.to_kv(self.ln_k(tokens)).chunk(2, dim=-1)
        query = self.to_q(self.ln_q(self.query))
        pooled: Tensor = self.to_out(_attend(query, keys, values, self.heads))
        return pooled


def _attend(query: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """Attend with one query, (1, D), to keys and values, (B, T, D): (B, 1, D)."""
    query = query.expand(keys.shape[0], 1, -1)
    q, k, v = (
        each.reshape(*each.shape[:2], heads, -1).transpose(1, 2) for each in (query, keys, values)
    )
    return scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Projected(nn.Module):
    """KEEP's embedding: the class token, projected by two layers to length 1."""

    def __init__(self, network: nn.Module, tokens: int, width: int) -> None:
        super().__init__()
        self.network = network
        self.visual_head = nn.Sequential(
            nn.Linear(tokens, width), nn.GELU(), nn.Linear(width, width)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, px, px) to (B, width)."""
        return normalize(self.visual_head(self.network(pixels)), dim=-1)
