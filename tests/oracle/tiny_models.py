"""The tiny random models of tests/tiny.py as networks of the reference libraries."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    AutoencoderTiny,
    ChromaTransformer2DModel,
    Flux2Transformer2DModel,
    FluxTransformer2DModel,
    Krea2Transformer2DModel,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
    ZImageTransformer2DModel,
)
from tiny import values
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Qwen2Config,
    Qwen2Model,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
)

CONFIGS = {
    "unet": {"norm_num_groups": 8, "attention_head_dim": 4},
    "vae": {"norm_num_groups": 8},
    "text_encoder": {"num_attention_heads": 4, "hidden_act": "quick_gelu"},
    "s_text_encoder": {"num_attention_heads": 4, "hidden_act": "quick_gelu"},
    "s_text_encoder_3": {"layer_norm_epsilon": 1e-6, "relative_attention_max_distance": 128},
    "xl_unet": {"norm_num_groups": 8, "attention_head_dim": [2, 4], "addition_time_embed_dim": 16},
    "xl_text_encoder_2": {"num_attention_heads": 4, "hidden_act": "gelu"},
    "z_transformer": {"axes_dims": [4, 6, 6], "rope_theta": 256.0},
    "z_vae": {"norm_num_groups": 8, "scaling_factor": 0.3611, "shift_factor": 0.1159},
    "s_vae": {"norm_num_groups": 8, "scaling_factor": 1.5305, "shift_factor": 0.0609},
    "z_text_encoder": {"rms_norm_eps": 1e-6, "rope_theta": 1e6},
    "f_transformer": {"axes_dims_rope": [4, 6, 6]},
    "c_transformer": {"axes_dims_rope": [4, 6, 6]},
    "f2_transformer": {"axes_dims_rope": [4, 4, 4, 4]},
    "f2_vae": {"norm_num_groups": 8, "batch_norm_eps": 1e-4},
    "f2_text_encoder": {"rms_norm_eps": 1e-6, "rope_theta": 1e6},
    "s_transformer": {"attention_head_dim": 16},
    "q_transformer": {"axes_dims_rope": [4, 6, 6]},
    "q_text_encoder": {"rms_norm_eps": 1e-6, "rope_theta": 1e6, "num_attention_heads": 4},
    "k_transformer": {"axes_dims_rope": [4, 6, 6]},
    "k_text_encoder": {"rms_norm_eps": 1e-6, "rope_theta": 5e6},
    "f_text_encoder_2": {"layer_norm_epsilon": 1e-6, "relative_attention_max_distance": 128},
}


def shapes(net: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """The names of the network's weights. A weight with several names is listed under the first."""
    seen: set[int] = set()
    out = {}
    for name, value in net.state_dict().items():
        if value.is_floating_point() and value.data_ptr() not in seen:
            seen.add(value.data_ptr())
            out[name] = tuple(value.shape)
    return out


def _filled(name: str, net: torch.nn.Module) -> torch.nn.Module:
    state = {key: torch.from_numpy(values(f"{name}.{key}", shape)) for key, shape in shapes(net).items()}
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert not unexpected and all("position_ids" in key or key == "encoder.embed_tokens.weight" for key in missing)
    return net.eval()


def _clip(name: str, network: Any, **more: Any) -> Any:
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        max_position_embeddings=77,
        projection_dim=32,
        **more,
        **CONFIGS[name],
    )
    return _filled(name, network(config))


def _autoencoder(name: str, channels: int, **more: Any) -> Any:
    net = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 16, 32, 32),
        latent_channels=channels,
        layers_per_block=1,
        **more,
        **CONFIGS[name],
    )
    return _filled(name, net)


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
    return _autoencoder("vae", 4)


def text_encoder() -> CLIPTextModel:
    return _clip("text_encoder", CLIPTextModel)


def taesd() -> AutoencoderTiny:
    net = AutoencoderTiny(
        encoder_block_out_channels=(16, 16, 16, 16),
        decoder_block_out_channels=(16, 16, 16, 16),
        num_encoder_blocks=(1, 2, 2, 2),
        num_decoder_blocks=(2, 2, 2, 1),
    )
    return _filled("taesd", net)


def xl_unet() -> UNet2DConditionModel:
    net = UNet2DConditionModel(
        sample_size=16,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2),
        cross_attention_dim=64,
        use_linear_projection=True,
        addition_embed_type="text_time",
        projection_class_embeddings_input_dim=32 + 6 * 16,
        **CONFIGS["xl_unet"],
    )
    return _filled("xl_unet", net)


def xl_text_encoder_2() -> CLIPTextModelWithProjection:
    return _clip("xl_text_encoder_2", CLIPTextModelWithProjection, eos_token_id=49407)


def z_transformer() -> ZImageTransformer2DModel:
    sizes = {"dim": 64, "n_layers": 2, "n_refiner_layers": 1, "n_heads": 4, "n_kv_heads": 4, "cap_feat_dim": 32}
    net = ZImageTransformer2DModel(**sizes, axes_lens=[1024, 64, 64], **CONFIGS["z_transformer"])
    return _filled("z_transformer", net)


def z_vae() -> AutoencoderKL:
    return _autoencoder("z_vae", 16, use_quant_conv=False, use_post_quant_conv=False)


def _qwen3(name: str, width: int, layers: int) -> Qwen3Model:
    config = Qwen3Config(
        vocab_size=151936,
        hidden_size=width,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        **CONFIGS[name],
    )
    return _filled(name, Qwen3Model(config))


def z_text_encoder() -> Qwen3Model:
    return _qwen3("z_text_encoder", 32, 3)


def f_transformer(guided: bool = True) -> FluxTransformer2DModel:
    net = FluxTransformer2DModel(
        in_channels=64,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=40,
        pooled_projection_dim=32,
        guidance_embeds=guided,
        **CONFIGS["f_transformer"],
    )
    return _filled("f_transformer", net)


def _t5(name: str, width: int) -> T5EncoderModel:
    config = T5Config(
        vocab_size=32128,
        d_model=width,
        d_kv=12,
        d_ff=56,
        num_layers=3,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        **CONFIGS[name],
    )
    return _filled(name, T5EncoderModel(config))


def f_text_encoder_2() -> T5EncoderModel:
    return _t5("f_text_encoder_2", 40)


def c_transformer() -> ChromaTransformer2DModel:
    net = ChromaTransformer2DModel(
        in_channels=64,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=40,
        approximator_num_channels=16,
        approximator_hidden_dim=24,
        approximator_layers=2,
        **CONFIGS["c_transformer"],
    )
    return _filled("c_transformer", net)


def f2_transformer(guided: bool = False) -> Flux2Transformer2DModel:
    net = Flux2Transformer2DModel(
        in_channels=128,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=96,
        timestep_guidance_channels=32,
        guidance_embeds=guided,
        **CONFIGS["f2_transformer"],
    )
    return _filled("f2_transformer", net)


def f2_vae() -> AutoencoderKLFlux2:
    """The statistics of its latents are buffers, not weights; a variance is above 0."""
    net = AutoencoderKLFlux2(block_out_channels=(16, 16, 32, 32), layers_per_block=1, **CONFIGS["f2_vae"])
    return _filled("f2_vae", net)


def f2_text_encoder() -> Qwen3Model:
    return _qwen3("f2_text_encoder", 32, 28)


def k_transformer() -> Krea2Transformer2DModel:
    net = Krea2Transformer2DModel(
        in_channels=64,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=56,
        timestep_embed_dim=32,
        text_hidden_dim=24,
        num_text_layers=12,
        text_num_attention_heads=3,
        text_num_key_value_heads=3,
        text_intermediate_size=40,
        num_layerwise_text_blocks=2,
        num_refiner_text_blocks=1,
        **CONFIGS["k_transformer"],
    )
    return _filled("k_transformer", net)


def k_text_encoder() -> Qwen3Model:
    """The language part of Qwen3-VL, which is Qwen3 with another base of positions."""
    return _qwen3("k_text_encoder", 24, 36)


def q_transformer() -> QwenImageTransformer2DModel:
    net = QwenImageTransformer2DModel(
        in_channels=64,
        out_channels=16,
        num_layers=3,
        attention_head_dim=16,
        num_attention_heads=3,
        joint_attention_dim=40,
        **CONFIGS["q_transformer"],
    )
    return _filled("q_transformer", net)


def q_text_encoder() -> Qwen2Model:
    """The language part of Qwen2.5-VL, which is Qwen2."""
    config = Qwen2Config(
        vocab_size=151936,
        hidden_size=40,
        intermediate_size=48,
        num_hidden_layers=3,
        num_key_value_heads=2,
        **CONFIGS["q_text_encoder"],
    )
    return _filled("q_text_encoder", Qwen2Model(config))


def s_transformer(dual: bool = True) -> SD3Transformer2DModel:
    """3.5 medium's kinds of blocks; without `dual`, version 3's, which norms no queries."""
    net = SD3Transformer2DModel(
        sample_size=8,
        in_channels=16,
        num_layers=3,
        num_attention_heads=3,
        joint_attention_dim=72,
        caption_projection_dim=48,
        pooled_projection_dim=64,
        out_channels=16,
        pos_embed_max_size=12,
        dual_attention_layers=(0, 1) if dual else (),
        qk_norm="rms_norm" if dual else None,
        **CONFIGS["s_transformer"],
    )
    return _filled("s_transformer", net)


def s_vae() -> AutoencoderKL:
    return _autoencoder("s_vae", 16, use_quant_conv=False, use_post_quant_conv=False)


def s_text_encoder() -> CLIPTextModelWithProjection:
    return _clip("s_text_encoder", CLIPTextModelWithProjection, eos_token_id=49407)


def s_text_encoder_3() -> T5EncoderModel:
    """As wide as the network's text."""
    return _t5("s_text_encoder_3", 72)


def wan_vae() -> AutoencoderKLQwenImage:
    return _filled("wan_vae", AutoencoderKLQwenImage(base_dim=8, z_dim=16, dim_mult=[1, 2, 2, 3], num_res_blocks=1))


NETWORKS = {"unet": unet, "vae": vae, "text_encoder": text_encoder, "taesd": taesd}
NETWORKS |= {"xl_unet": xl_unet, "xl_text_encoder_2": xl_text_encoder_2}
NETWORKS |= {"z_transformer": z_transformer, "z_vae": z_vae, "z_text_encoder": z_text_encoder}
NETWORKS |= {"f_transformer": f_transformer, "f_text_encoder_2": f_text_encoder_2}
NETWORKS |= {"c_transformer": c_transformer}
NETWORKS |= {"f2_transformer": f2_transformer, "f2_vae": f2_vae, "f2_text_encoder": f2_text_encoder}
NETWORKS |= {"s_transformer": s_transformer, "s_text_encoder": s_text_encoder, "s_text_encoder_3": s_text_encoder_3}
NETWORKS |= {"s_vae": s_vae}
NETWORKS |= {"q_transformer": q_transformer, "q_text_encoder": q_text_encoder}
NETWORKS |= {"k_transformer": k_transformer, "k_text_encoder": k_text_encoder, "wan_vae": wan_vae}
