"""LoRA and its kin against peft, diffusers' loaders and lycoris-lora, on the tiny models, f32."""

import adapters
import numpy as np
import pytest
import tiny
import tiny_models
import torch
from diffusers import FluxPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline, ZImagePipeline
from diffusers.utils.state_dict_utils import convert_state_dict_to_kohya
from lycoris.modules.boft import ButterflyOFTModule
from lycoris.modules.diag_oft import DiagOFTModule
from lycoris.modules.full import FullModule
from lycoris.modules.glora import GLoRAModule
from lycoris.modules.ia3 import IA3Module
from lycoris.modules.locon import LoConModule
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from lycoris.modules.norms import NormModule
from peft import LoraConfig, get_peft_model_state_dict
from tiny_models import values

import sdcpp_py

TOLERANCE = 1e-4  # of networks; of changed weights it is 1e-5
NETWORKS = {
    "sd1": ("unet", "unet"),
    "sdxl": ("xl_unet", "unet"),
    "flux.1": ("f_transformer", "flux"),
    "z-image": ("z_transformer", "z_image"),
}
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    made = {}
    for family in NETWORKS:
        folder = tmp_path_factory.mktemp(family)
        made[family] = sdcpp_py.Pipeline(tiny.write_folder(folder) if family == "sd1" else tiny.write_family(folder, family))
    yield made
    for pipeline in made.values():
        pipeline.close()


def inputs_of(family):
    """What the engine's network takes, and the same for diffusers'."""
    generator = torch.Generator().manual_seed(3)

    def randn(*shape):
        return torch.randn(*shape, generator=generator)

    t = torch.tensor([500.0])
    if family == "sd1":
        x, context = randn(1, 4, 16, 12), randn(1, 77, 32)
        return {"x": x, "context": context}, lambda net: net(x, t, context).sample
    if family == "sdxl":
        x, context, pooled = randn(1, 4, 16, 12), randn(1, 77, 64), randn(1, 32)
        sizes = torch.tensor([[128.0, 96, 0, 0, 128, 96]])
        more = {"text_embeds": pooled, "time_ids": sizes}
        return {"x": x, "context": context, "pooled": pooled}, lambda net: net(x, t, context, added_cond_kwargs=more).sample
    if family == "z-image":
        x, context = randn(1, 16, 12, 20), randn(1, 45, 32)
        return {"x": x, "context": context}, lambda net: -net([x[0][:, None]], 1 - t / 1000, [context[0]]).sample[0][:, 0]
    x, context, pooled = randn(1, 16, 12, 20), randn(1, 41, 40), randn(1, 32)
    arguments = FluxPipeline._prepare_latent_image_ids(1, 6, 10, "cpu", torch.float32), torch.zeros(41, 3)

    def theirs(net):
        packed = FluxPipeline._pack_latents(x, 1, 16, 12, 20)
        out = net(packed, context, pooled, t / 1000, arguments[0], arguments[1], torch.tensor([3.5])).sample
        return FluxPipeline._unpack_latents(out, 96, 160, 8)

    return {"x": x, "context": context, "pooled": pooled, "guidance": torch.tensor([3.5])}, theirs


def filled(net, size=0.2):
    """A network whose adapters' weights are random."""
    for name, value in net.named_parameters():
        if "lora_" in name and "magnitude" not in name:
            value.data = torch.from_numpy(values(name, tuple(value.shape))) * size
        elif "magnitude" in name:
            value.data = value.data * (1 + 0.3 * torch.from_numpy(values(name + "m", tuple(value.shape))))
    return net


@torch.no_grad()
@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("family", NETWORKS)
def test_peft(models, tmp_path, error, family, dora):
    part, network = NETWORKS[family]
    inputs, theirs = inputs_of(family)
    net = getattr(tiny_models, part)()
    plain = theirs(net)
    net.add_adapter(LoraConfig(r=4, lora_alpha=8, target_modules=ATTENTION, use_dora=dora, init_lora_weights=False))
    expected = theirs(filled(net))
    prefix = "unet" if "unet" in part else "transformer"
    state = {f"{prefix}.{key}": value.numpy() for key, value in get_peft_model_state_dict(net).items()}
    metadata = {"lora_adapter_metadata": f'{{"{prefix}.r": 4, "{prefix}.lora_alpha": 8}}'}
    path = tiny.write_safetensors(tmp_path / "peft.safetensors", state, metadata)
    ours = models[family].evaluate(
        network, **{k: v.numpy() for k, v in inputs.items()}, timesteps=np.array([500.0]), loras=[path]
    )
    assert models[family]._prompts.used_loras[0].unmatched == []
    assert error(plain.numpy(), expected) > 0.01
    assert error(ours, expected) < TOLERANCE
    if network == "unet" and not dora:
        kohya = {
            key: value.numpy()
            for key, value in convert_state_dict_to_kohya({k: torch.from_numpy(v) for k, v in state.items()}).items()
        }
        for key in [key for key in kohya if key.endswith(".alpha")]:
            kohya[key] = np.array(8, np.float32)
        path = tiny.write_safetensors(tmp_path / "kohya.safetensors", kohya)
        again = models[family].evaluate(
            network, **{k: v.numpy() for k, v in inputs.items()}, timesteps=np.array([500.0]), loras=[path]
        )
        assert models[family]._prompts.used_loras[0].unmatched == []
        assert error(again, expected) < TOLERANCE


PIPELINES = {"sd1": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline, "flux.1": FluxPipeline, "z-image": ZImagePipeline}


@torch.no_grad()
@pytest.mark.parametrize("family", NETWORKS)
def test_files_of_other_programs_through_diffusers_loaders(models, tmp_path, error, family):
    """diffusers converts names; the network that it gives must be ours."""
    part, network = NETWORKS[family]
    inputs, theirs = inputs_of(family)
    everything = adapters.matrices(part, "to_q", "to_k", "to_v")
    if family in ("sd1", "sdxl"):
        state = adapters.kohya(everything, "lora_unet_")
    elif family == "z-image":
        state = adapters.apart(everything, "diffusion_model.{}", "kohya")
    else:
        groups, blocks = {}, [name for name in everything if name.startswith("transformer_blocks") and name.endswith("to_q")]
        for name in blocks:
            number = name.split(".")[1]
            groups[f"lora_unet_double_blocks_{number}_img_attn_qkv"] = [name.replace("_q", f"_{letter}") for letter in "qkv"]
        state = adapters.joined(adapters.matrices(part), groups, str)
        state |= {key.split(".")[0] + ".alpha": np.array(9.0, np.float32) for key in list(state)}
    path = tiny.write_safetensors(tmp_path / "lora.safetensors", state)
    net = getattr(tiny_models, part)()
    converted, alphas = (
        PIPELINES[family].lora_state_dict(str(path), unet_config=net.config if "unet" in part else None, return_alphas=True)
        if family != "z-image"
        else (PIPELINES[family].lora_state_dict(str(path)), {})
    )
    if "unet" in part:
        PIPELINES[family].load_lora_into_unet(converted, alphas, net)
    else:
        PIPELINES[family].load_lora_into_transformer(converted, alphas, net) if family == "flux.1" else PIPELINES[
            family
        ].load_lora_into_transformer(converted, net)
    expected = theirs(net)
    ours = models[family].evaluate(
        network, **{k: v.numpy() for k, v in inputs.items()}, timesteps=np.array([500.0]), loras=[path]
    )
    assert error(ours, expected) < TOLERANCE
    assert error(theirs(getattr(tiny_models, part)()).numpy(), expected) > 0.01


MODULES = {
    "LoCon": (LoConModule, {}),
    "Tucker": (LoConModule, {"use_tucker": True}),
    "DoRA": (LoConModule, {"weight_decompose": True, "wd_on_out": True}),
    "DoRA by inputs": (LoConModule, {"weight_decompose": True, "wd_on_out": False}),
    "rsLoRA": (LoConModule, {"rs_lora": True}),
    "LoHa": (LohaModule, {}),
    "LoHa, Tucker": (LohaModule, {"use_tucker": True}),
    "LoHa, DoRA": (LohaModule, {"weight_decompose": True, "wd_on_out": True}),
    "LoKr": (LokrModule, {"factor": 4}),
    "LoKr, Tucker": (LokrModule, {"factor": 4, "use_tucker": True}),
    "LoKr, both": (LokrModule, {"factor": 4, "decompose_both": True}),
    "LoKr, DoRA": (LokrModule, {"factor": 4, "weight_decompose": True, "wd_on_out": True}),
    "LoKr, whole": (LokrModule, {"factor": 4, "full_matrix": True}),
    "GLoRA": (GLoRAModule, {}),
    "full": (FullModule, {}),
    "IA3": (IA3Module, {}),
    "IA3 on inputs": (IA3Module, {"train_on_input": True}),
    "OFT": (DiagOFTModule, {"rescaled": True}),
    "OFT, held": (DiagOFTModule, {"constraint": 1e-3}),
    "BOFT": (ButterflyOFTModule, {"rescaled": True}),
}


@torch.no_grad()
@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("kind", MODULES)
def test_lycoris(models, tmp_path, error, kind, strength):
    if "DoRA" in kind and strength != 1:
        pytest.skip("LyCORIS' weight 0 is not the base, ours is ComfyUI's")
    if kind == "OFT" and strength != 1:
        pytest.skip("LyCORIS keeps the rows' new lengths at every weight, so that its weight 0 is not the base")
    make, options = MODULES[kind]
    inputs, theirs = inputs_of("sd1")
    net, state, root = tiny_models.unet(), {}, {}
    names = (
        "mid_block.attentions.0.transformer_blocks.0.attn1.to_q",
        "mid_block.resnets.0.conv1",
        "down_blocks.1.resnets.0.conv_shortcut",
    )
    for name in names:
        layer = net.get_submodule(name)
        stem = "lora_unet_" + name.replace(".", "_")
        module = make(stem, layer, 1.0, 4, 2.0, **options)
        for key, value in module.named_parameters():
            noise = torch.from_numpy(values(f"{stem}.{key}", tuple(value.shape)))
            if key == "dora_scale":
                value.data = value.data * (1 + 0.3 * torch.from_numpy(values(key, tuple(value.shape))))
            elif key in ("rescale",):
                value.data = 1 + 0.1 * noise
            else:
                value.data = (1.0 if "hada" in key or "lokr" in key else 0.3) * noise
        own = (
            module.custom_state_dict()
            if hasattr(module, "custom_state_dict") and module.custom_state_dict()
            else module.state_dict()
        )
        state |= {f"{stem}.{key}": np.array(value.detach().float().numpy()) for key, value in own.items() if key != "scalar"}
        if make is FullModule:  # whose parameters are the differences until it is put in place of the layer
            own = {"diff": module.weight, "diff_b": module.bias}
            state = {key: value for key, value in state.items() if not key.startswith(f"{stem}.")}
            state |= {f"{stem}.{key}": value.detach().numpy() for key, value in own.items() if value is not None}
        if make in (LohaModule, LokrModule):  # as its training multiplies; its merging applies the scale twice
            merged = layer.weight + strength * module.get_weight(layer.weight.shape)
            merged = module.apply_weight_decompose(merged) if module.wd else merged
        else:
            merged = module.get_merged_weight(strength, shape=layer.weight.shape)
        weight, bias = merged if isinstance(merged, tuple) else (merged, None)
        root[name] = weight.detach().reshape(layer.weight.shape), bias
    for name, (weight, bias) in root.items():
        net.get_submodule(name).weight.data = weight
        if bias is not None:
            net.get_submodule(name).bias.data = bias.detach()
    expected = theirs(net)
    metadata = {"lora_adapter_metadata": '{"use_rslora": true}'} if kind == "rsLoRA" else None
    path = tiny.write_safetensors(tmp_path / "lora.safetensors", state, metadata)
    given = {key: value.numpy() for key, value in inputs.items()}
    ours = models["sd1"].evaluate("unet", **given, timesteps=np.array([500.0]), loras=[(path, strength)])
    assert models["sd1"]._prompts.used_loras[0].unmatched == []
    assert error(theirs(tiny_models.unet()).numpy(), expected) > 1e-3
    assert error(ours, expected) < 1e-5


@torch.no_grad()
def test_lycoris_norms(models, tmp_path, error):
    inputs, theirs = inputs_of("sd1")
    net, state = tiny_models.unet(), {}
    for name in ("mid_block.attentions.0.norm", "mid_block.attentions.0.transformer_blocks.0.norm1"):
        layer, stem = net.get_submodule(name), "lora_unet_" + name.replace(".", "_")
        module = NormModule(stem, layer, 1.0)
        for key, value in module.named_parameters():
            value.data = 0.3 * torch.from_numpy(values(f"{stem}.{key}", tuple(value.shape)))
        state |= {f"{stem}.{key}": value.detach().numpy() for key, value in module.state_dict().items()}
        weight, bias = module.get_merged_weight(0.5)
        layer.weight.data, layer.bias.data = weight, bias
    path = tiny.write_safetensors(tmp_path / "lora.safetensors", state)
    given = {key: value.numpy() for key, value in inputs.items()}
    ours = models["sd1"].evaluate("unet", **given, timesteps=np.array([500.0]), loras=[(path, 0.5)])
    assert models["sd1"]._prompts.used_loras[0].unmatched == []
    assert error(ours, theirs(net)) < 1e-5
