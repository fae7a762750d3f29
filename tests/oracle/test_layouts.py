"""The generator of layouts against the reference libraries' networks at true size, and what they have and we refuse."""

import diffusers
import hollow
import pytest
import released
import torch
import transformers

import sdcpp_py
from sdcpp_py import errors


def shapes(make):
    with torch.device("meta"):
        network = make()
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def clip(width, layers, heads, projected=False):
    config = transformers.CLIPTextConfig(
        hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers, num_attention_heads=heads, projection_dim=width
    )
    kind = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
    return shapes(lambda: kind(config))


def vae(channels, quantized):
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    sizes = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": channels}
    return shapes(lambda: diffusers.AutoencoderKL(**blocks, **sizes, use_quant_conv=quantized, use_post_quant_conv=quantized))


def in_transformers(names):
    """Newer versions of transformers leave `text_model.` out."""
    return {name.removeprefix("text_model."): shape for name, shape in names.items() if "position_ids" not in name}


def test_text_encoders():
    assert in_transformers(released.clip(*released.CLIP_L)) == in_transformers(clip(768, 12, 12))
    assert in_transformers(released.clip(*released.CLIP_G, projected=True)) == in_transformers(clip(1280, 32, 20, True))
    t5 = transformers.T5Config(
        d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64, vocab_size=32128, feed_forward_proj="gated-gelu"
    )
    assert released.t5() == shapes(lambda: transformers.T5EncoderModel(t5))
    qwen = transformers.Qwen3Config(
        vocab_size=151936,
        hidden_size=2560,
        intermediate_size=9728,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
    )
    assert released.qwen3_4b() == {
        f"model.{name}": shape for name, shape in shapes(lambda: transformers.Qwen3Model(qwen)).items()
    }


def test_autoencoders():
    assert released.vae_of_diffusers() == vae(4, True)
    assert released.vae_of_diffusers(16, quantized=False) == vae(16, False)


def test_the_unet_of_stable_diffusion_2():
    config = {"cross_attention_dim": 1024, "use_linear_projection": True, "attention_head_dim": [5, 10, 20, 20]}
    assert released.sd2_unet_of_diffusers() == shapes(lambda: diffusers.UNet2DConditionModel(**config))


STRANGERS = {
    "Wan": lambda: diffusers.WanTransformer3DModel(num_layers=2),
    "Lumina 2": lambda: diffusers.Lumina2Transformer2DModel(num_layers=2),
    "AuraFlow": lambda: diffusers.AuraFlowTransformer2DModel(num_mmdit_layers=1, num_single_dit_layers=1),
    "LTX": lambda: diffusers.LTXVideoTransformer3DModel(num_layers=1),
    "Hunyuan": lambda: diffusers.HunyuanVideoTransformer3DModel(num_layers=1, num_single_layers=1, num_refiner_layers=1),
    "PixArt": lambda: diffusers.PixArtTransformer2DModel(num_layers=1),
    "Sana": lambda: diffusers.SanaTransformer2DModel(num_layers=1),
    "DC-AE": lambda: diffusers.AutoencoderDC(),
    "CogView4": lambda: diffusers.CogView4Transformer2DModel(num_layers=1),
    "a ControlNet": lambda: diffusers.ControlNetModel(),
    "ControlNet": lambda: diffusers.FluxControlNetModel(num_layers=1, num_single_layers=1),
    "motion module": lambda: diffusers.MotionAdapter(),
    "Stable Video Diffusion": lambda: diffusers.UNetSpatioTemporalConditionModel(),
    "Stable Cascade": lambda: diffusers.StableCascadeUNet(),
    "the VAE of Wan 2.2": lambda: diffusers.AutoencoderKLWan(
        z_dim=48, is_residual=True, patch_size=2, in_channels=12, out_channels=12
    ),
    "cond_proj": lambda: diffusers.UNet2DConditionModel(time_cond_proj_dim=256),
}


@pytest.mark.parametrize("title", STRANGERS)
def test_what_cannot_be_used_is_refused_by_name(tmp_path, title):
    tensors = {name: ("BF16", shape) for name, shape in shapes(STRANGERS[title]).items()}
    with pytest.raises(errors.UnsupportedModelError, match=title):
        sdcpp_py.Pipeline(hollow.safetensors(tmp_path / "x.safetensors", tensors))
