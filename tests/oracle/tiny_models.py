"""Tiny random models of the supported families, made with the reference libraries (seeded, so always the same)."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

WIDTH = 32


def _shake(net: torch.nn.Module) -> torch.nn.Module:
    """Give norms and biases values that matter, so that a wrong one shows."""
    for p in net.parameters():
        if p.ndim == 1:
            torch.nn.init.normal_(p, 1.0 if p.mean() > 0.5 else 0.0, 0.1)
    return net.eval()


def unet(seed: int = 0, vocabulary_width: int = WIDTH) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    net = UNet2DConditionModel(
        sample_size=16,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=vocabulary_width,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    return _shake(net)


def vae(seed: int = 1) -> AutoencoderKL:
    torch.manual_seed(seed)
    net = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 16, 32, 32),
        latent_channels=4,
        norm_num_groups=8,
        layers_per_block=1,
    )
    return _shake(net)


def text_encoder(seed: int = 2, vocabulary: int = 49408) -> CLIPTextModel:
    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=77,
        projection_dim=WIDTH,
    )
    return _shake(CLIPTextModel(config))


def taesd(seed: int = 3) -> AutoencoderTiny:
    torch.manual_seed(seed)
    net = AutoencoderTiny(
        encoder_block_out_channels=(16, 16, 16, 16),
        decoder_block_out_channels=(16, 16, 16, 16),
        num_encoder_blocks=(1, 2, 2, 2),
        num_decoder_blocks=(2, 2, 2, 1),
    )
    return net.eval()


def save_folder(folder: Path, prediction_type: str = "epsilon") -> Path:
    """A diffusers folder of the four networks above; TAESD in its subfolder `taesd`."""
    unet().save_pretrained(folder / "unet")
    vae().save_pretrained(folder / "vae")
    text_encoder().save_pretrained(folder / "text_encoder")
    taesd().save_pretrained(folder / "taesd")
    (folder / "scheduler").mkdir(exist_ok=True)
    noise = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({**noise, "prediction_type": prediction_type}))
    parts = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
    }
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline", **parts}))
    return folder
