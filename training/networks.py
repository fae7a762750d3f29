"""Torch twins of the networks of Stable Diffusion 1.x, small, with the tensor names of its single-file checkpoints.

Attribute names are the checkpoint's, so `state_dict()` is the file. Written for training here; the oracle tests compare the
engine with diffusers and transformers, not with these.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 8
TOKENS = 77


def conv(i: int, o: int, k: int = 3, stride: int = 1, padding: int | None = None) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, stride, k // 2 if padding is None else padding)


# Autoencoder -------------------------------------------------------------------------------------------------------


class VaeResnet(nn.Module):
    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(GROUPS, i, 1e-6), conv(i, o)
        self.norm2, self.conv2 = nn.GroupNorm(GROUPS, o, 1e-6), conv(o, o)
        if i != o:
            self.nin_shortcut = conv(i, o, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class VaeAttention(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, c, 1e-6)
        self.q, self.k, self.v, self.proj_out = (conv(c, c, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        n = self.norm(x)
        q, k, v = (m(n).flatten(2).transpose(1, 2) for m in (self.q, self.k, self.v))
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        return x + self.proj_out(h)


class VaeMiddle(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.block_1, self.attn_1, self.block_2 = VaeResnet(c, c), VaeAttention(c), VaeResnet(c, c)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class VaeEncoder(nn.Module):
    def __init__(self, widths: tuple[int, ...], latent: int) -> None:
        super().__init__()
        self.conv_in = conv(3, widths[0])
        self.down = nn.ModuleList()
        c = widths[0]
        for level, w in enumerate(widths):
            stage = nn.Module()
            stage.block = nn.ModuleList([VaeResnet(c, w)])
            if level + 1 < len(widths):
                stage.downsample = nn.Module()
                stage.downsample.conv = conv(w, w, 3, 2, 0)
            self.down.append(stage)
            c = w
        self.mid = VaeMiddle(c)
        self.norm_out, self.conv_out = nn.GroupNorm(GROUPS, c, 1e-6), conv(c, 2 * latent)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for stage in self.down:
            h = stage.block[0](h)
            if hasattr(stage, "downsample"):
                h = stage.downsample.conv(F.pad(h, (0, 1, 0, 1)))
        return self.conv_out(F.silu(self.norm_out(self.mid(h))))


class VaeDecoder(nn.Module):
    def __init__(self, widths: tuple[int, ...], latent: int) -> None:
        super().__init__()
        c = widths[-1]
        self.conv_in = conv(latent, c)
        self.mid = VaeMiddle(c)
        stages = []
        for level in reversed(range(len(widths))):
            stage = nn.Module()
            w = widths[level]
            stage.block = nn.ModuleList([VaeResnet(c, w), VaeResnet(w, w)])
            if level:
                stage.upsample = nn.Module()
                stage.upsample.conv = conv(w, w)
            stages.append(stage)
            c = w
        self.up = nn.ModuleList(stages[::-1])
        self.norm_out, self.conv_out = nn.GroupNorm(GROUPS, c, 1e-6), conv(c, 3)

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid(self.conv_in(z))
        for stage in reversed(self.up):
            for block in stage.block:
                h = block(h)
            if hasattr(stage, "upsample"):
                h = stage.upsample.conv(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return self.conv_out(F.silu(self.norm_out(h)))


class Autoencoder(nn.Module):
    """Pictures [N, 3, H, W] in -1..1 to latents [N, 4, H/8, W/8] and back."""

    def __init__(self, widths: tuple[int, ...] = (32, 32, 64, 64), latent: int = 4) -> None:
        super().__init__()
        self.encoder, self.decoder = VaeEncoder(widths, latent), VaeDecoder(widths, latent)
        self.quant_conv, self.post_quant_conv = conv(2 * latent, 2 * latent, 1), conv(latent, latent, 1)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latent."""
        mean, logvar = self.quant_conv(self.encoder(x)).chunk(2, 1)
        return mean, logvar.clamp(-30, 20)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(z))


# Text encoder ------------------------------------------------------------------------------------------------------


class ClipAttention(nn.Module):
    def __init__(self, c: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(c, c) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        q, k, v = (m(x).view(n, t, self.heads, -1).transpose(1, 2) for m in (self.q_proj, self.k_proj, self.v_proj))
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out_proj(h.transpose(1, 2).reshape(n, t, c))


class ClipMlp(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(c, 4 * c), nn.Linear(4 * c, c)

    def forward(self, x: Tensor) -> Tensor:
        h = self.fc1(x)
        return self.fc2(h * torch.sigmoid(1.702 * h))


class ClipLayer(nn.Module):
    def __init__(self, c: int, heads: int) -> None:
        super().__init__()
        self.self_attn, self.mlp = ClipAttention(c, heads), ClipMlp(c)
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(c), nn.LayerNorm(c)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class ClipText(nn.Module):
    """Token ids [N, 77] to hidden states [N, 77, C] after the final norm."""

    def __init__(self, c: int = 96, layers: int = 3, heads: int = 3, vocabulary: int = 49408) -> None:
        super().__init__()
        self.embeddings = nn.Module()
        self.embeddings.token_embedding = nn.Embedding(vocabulary, c)
        self.embeddings.position_embedding = nn.Embedding(TOKENS, c)
        nn.init.zeros_(self.embeddings.token_embedding.weight)  # words never seen in training say nothing
        nn.init.normal_(self.embeddings.position_embedding.weight, std=0.02)
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList([ClipLayer(c, heads) for _ in range(layers)])
        self.final_layer_norm = nn.LayerNorm(c)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embeddings.token_embedding(ids) + self.embeddings.position_embedding.weight[: ids.shape[1]]
        for layer in self.encoder.layers:
            x = layer(x)
        return self.final_layer_norm(x)


# UNet --------------------------------------------------------------------------------------------------------------


def timestep_embedding(t: Tensor, c: int) -> Tensor:
    """Sinusoids of the timestep, cosines first (Stable Diffusion's order)."""
    rates = torch.exp(-math.log(10000) * torch.arange(c // 2, device=t.device) / (c // 2))
    angles = t.float()[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], 1)


class ResBlock(nn.Module):
    def __init__(self, i: int, o: int, emb: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(GROUPS, i), nn.SiLU(), conv(i, o))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, o))
        self.out_layers = nn.Sequential(nn.GroupNorm(GROUPS, o), nn.SiLU(), nn.Identity(), conv(o, o))
        nn.init.zeros_(self.out_layers[3].weight)
        if i != o:
            self.skip_connection = conv(i, o, 1)

    def forward(self, x: Tensor, emb: Tensor, context: Tensor) -> Tensor:
        h = self.in_layers(x) + self.emb_layers(emb)[:, :, None, None]
        h = self.out_layers(h)
        return h + (self.skip_connection(x) if hasattr(self, "skip_connection") else x)


class CrossAttention(nn.Module):
    def __init__(self, c: int, context: int, head: int) -> None:
        super().__init__()
        self.heads = c // head
        self.to_q, self.to_k, self.to_v = (
            nn.Linear(c, c, False),
            nn.Linear(context, c, False),
            nn.Linear(context, c, False),
        )
        self.to_out = nn.Sequential(nn.Linear(c, c))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        def split(y: Tensor) -> Tensor:
            return y.view(y.shape[0], y.shape[1], self.heads, -1).transpose(1, 2)

        h = F.scaled_dot_product_attention(split(self.to_q(x)), split(self.to_k(context)), split(self.to_v(context)))
        return self.to_out(h.transpose(1, 2).reshape(x.shape))


class GeGlu(nn.Module):
    def __init__(self, c: int, o: int) -> None:
        super().__init__()
        self.proj = nn.Linear(c, 2 * o)

    def forward(self, x: Tensor) -> Tensor:
        h, gate = self.proj(x).chunk(2, -1)
        return h * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GeGlu(c, 4 * c), nn.Identity(), nn.Linear(4 * c, c))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    def __init__(self, c: int, context: int, head: int) -> None:
        super().__init__()
        self.attn1, self.attn2, self.ff = CrossAttention(c, c, head), CrossAttention(c, context, head), FeedForward(c)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(c), nn.LayerNorm(c), nn.LayerNorm(c)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        n = self.norm1(x)
        x = x + self.attn1(n, n)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    def __init__(self, c: int, context: int, head: int) -> None:
        super().__init__()
        self.norm, self.proj_in, self.proj_out = nn.GroupNorm(GROUPS, c, 1e-6), conv(c, c, 1), conv(c, c, 1)
        nn.init.zeros_(self.proj_out.weight)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(c, context, head)])

    def forward(self, x: Tensor, emb: Tensor, context: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = self.proj_in(self.norm(x)).permute(0, 2, 3, 1).reshape(n, h * w, c)
        y = self.transformer_blocks[0](y, context)
        return x + self.proj_out(y.view(n, h, w, c).permute(0, 3, 1, 2))


class Downsample(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.op = conv(c, c, 3, 2)

    def forward(self, x: Tensor, emb: Tensor, context: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv = conv(c, c)

    def forward(self, x: Tensor, emb: Tensor, context: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class InputConv(nn.Conv2d):
    def forward(self, x: Tensor, emb: Tensor, context: Tensor) -> Tensor:
        return super().forward(x)


class UNet(nn.Module):
    """Noisy latents [N, 4, h, w], timesteps [N], text states [N, 77, C] to the prediction [N, 4, h, w]."""

    def __init__(
        self,
        widths: tuple[int, ...] = (64, 96, 128),
        attention: tuple[bool, ...] = (False, True, True),
        context: int = 96,
        head: int = 32,
    ) -> None:
        super().__init__()
        self.width = widths[0]
        emb = 4 * widths[0]
        self.time_embed = nn.Sequential(nn.Linear(widths[0], emb), nn.SiLU(), nn.Linear(emb, emb))

        def block(i: int, o: int, attend: bool) -> nn.ModuleList:
            return nn.ModuleList([ResBlock(i, o, emb)] + ([SpatialTransformer(o, context, head)] if attend else []))

        first = InputConv(4, widths[0], 3, padding=1)
        self.input_blocks = nn.ModuleList([nn.ModuleList([first])])
        skips, c = [widths[0]], widths[0]
        for level, w in enumerate(widths):
            self.input_blocks.append(block(c, w, attention[level]))
            skips.append(w)
            c = w
            if level + 1 < len(widths):
                self.input_blocks.append(nn.ModuleList([Downsample(c)]))
                skips.append(c)
        self.middle_block = nn.ModuleList([ResBlock(c, c, emb), SpatialTransformer(c, context, head), ResBlock(c, c, emb)])
        self.output_blocks = nn.ModuleList()
        for level in reversed(range(len(widths))):
            for k in range(2):
                self.output_blocks.append(block(c + skips.pop(), widths[level], attention[level]))
                c = widths[level]
                if level and k == 1:
                    self.output_blocks[-1].append(Upsample(c))
        self.out = nn.Sequential(nn.GroupNorm(GROUPS, c), nn.SiLU(), conv(c, 4))

    def forward(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        emb = self.time_embed(timestep_embedding(t, self.width))
        skips = []
        for block in self.input_blocks:
            for layer in block:
                x = layer(x, emb, context)
            skips.append(x)
        for layer in self.middle_block:
            x = layer(x, emb, context)
        for block in self.output_blocks:
            x = torch.cat([x, skips.pop()], 1)
            for layer in block:
                x = layer(x, emb, context)
        return self.out(x)
