"""The tiny random models of tests/tiny.py as networks of the reference libraries."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from tiny import values
from transformers import CLIPTextConfig, CLIPTextModel

CONFIGS = {
    "unet": {"norm_num_groups": 8, "attention_head_dim": 4},
    "vae": {"norm_num_groups": 8},
    "text_encoder": {"num_attention_heads": 4, "hidden_act": "quick_gelu"},
}


def _filled(name: str, net: torch.nn.Module) -> torch.nn.Module:
    state = {
        k: torch.from_numpy(values(f"{name}.{k}", tuple(v.shape))) for k, v in net.state_dict().items() if v.is_floating_point()
    }
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert not unexpected and all("position_ids" in key for key in missing)
    return net.eval()


def unet() -> UNet2DConditionModel:
    net = UNet2DConditionModel(
        sample_size=16,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        **CONFIGS["unet"],
    )
    return _filled("unet", net)


def vae() -> AutoencoderKL:
    net = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 16, 32, 32),
        latent_channels=4,
        layers_per_block=1,
        **CONFIGS["vae"],
    )
    return _filled("vae", net)


def text_encoder() -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        max_position_embeddings=77,
        projection_dim=32,
        **CONFIGS["text_encoder"],
    )
    return _filled("text_encoder", CLIPTextModel(config))


def taesd() -> AutoencoderTiny:
    net = AutoencoderTiny(
        encoder_block_out_channels=(16, 16, 16, 16),
        decoder_block_out_channels=(16, 16, 16, 16),
        num_encoder_blocks=(1, 2, 2, 2),
        num_decoder_blocks=(2, 2, 2, 1),
    )
    return _filled("taesd", net)


NETWORKS = {"unet": unet, "vae": vae, "text_encoder": text_encoder, "taesd": taesd}
