"""ControlNets, unions, control-LoRAs and T2I-Adapters against diffusers."""

import control_files as files
import numpy as np
import pytest
import tiny
import tiny_models
import torch
from diffusers import (
    ControlNetModel,
    ControlNetUnionModel,
    EulerDiscreteScheduler,
    StableDiffusionAdapterPipeline,
    StableDiffusionControlNetPipeline,
    T2IAdapter,
)
from PIL import Image
from test_pipeline import embed

import sdcpp_py
from sdcpp_py import sampling
from sdcpp_py.control import Control

TOLERANCE = 1e-4
WIDTH, HEIGHT = 96, 128


def filled(net, tensors):
    net.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()}, strict=True)
    return net.eval()


def control_net(tensors, unet=None):
    net = ControlNetModel.from_unet(unet or tiny_models.unet(), conditioning_embedding_out_channels=files.HINT_CHANNELS)
    return filled(net, tensors)


def adapter(tensors, channels, pixels=8, grey=False, kind="full_adapter"):
    net = T2IAdapter(1 if grey else 3, list(channels), 2, pixels, kind)
    net.adapter.body = net.adapter.body[: len(channels)]  # light ones have another one, for UNets of more levels
    return filled(net, tensors)


def tensor(hint, rows):
    return torch.from_numpy(hint.transpose(2, 0, 1)[None].astype(np.float32) / 255).expand(rows, -1, -1, -1)


@pytest.fixture
def inputs(randn):
    return {"x": randn(2, 4, HEIGHT // 8, WIDTH // 8), "timesteps": torch.tensor([3.0, 870.0]), "context": randn(2, 77, 32)}


@pytest.fixture
def xl_inputs(randn):
    x = randn(2, 4, HEIGHT // 8, WIDTH // 8)
    return {"x": x, "timesteps": torch.tensor([3.0, 870.0]), "context": randn(2, 77, 64), "pooled": randn(2, 32)}


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory):
    with sdcpp_py.Pipeline(tiny.write_family(tmp_path_factory.mktemp("sdxl"), "sdxl")) as made:
        yield made


def added(inputs):
    sizes = torch.tensor([[HEIGHT, WIDTH, 0, 0, HEIGHT, WIDTH]]).float().expand(2, -1)
    return {"added_cond_kwargs": {"text_embeds": inputs["pooled"], "time_ids": sizes}} if "pooled" in inputs else {}


def evaluated(pipeline, controls, inputs):
    return pipeline.evaluate("unet", controls=controls, **{name: array.numpy() for name, array in inputs.items()})


@torch.no_grad()
def led(unet, nets, inputs):
    """The UNet's prediction; ``nets``: a function from its inputs to residuals for each."""
    all_down, all_mid = None, None
    for net in nets:
        down, mid = net(inputs["x"], inputs["timesteps"], inputs["context"], **added(inputs))
        all_down = down if all_down is None else [a + b for a, b in zip(all_down, down)]
        all_mid = mid if all_mid is None else all_mid + mid
    residuals = {"down_block_additional_residuals": all_down, "mid_block_additional_residual": all_mid}
    return unet(inputs["x"], inputs["timesteps"], inputs["context"], **residuals, **added(inputs)).sample


def of(net, hint, scale):
    return lambda x, t, context, **more: net(x, t, context, tensor(hint, 2), scale, return_dict=False, **more)


def test_two_control_nets(pipeline, error, inputs, tmp_path):
    one, two = files.control_net(), files.control_net(seed="other")
    hints = files.hint(WIDTH, HEIGHT), files.hint(WIDTH, HEIGHT, 5)
    paths = files.write(tmp_path / "1.safetensors", one), files.write(tmp_path / "2.safetensors", files.cldm(two))
    theirs = led(tiny_models.unet(), [of(control_net(one), hints[0], 0.7), of(control_net(two), hints[1], 0.4)], inputs)
    ours = evaluated(pipeline, [(paths[0], hints[0], 0.7), (paths[1], hints[1], 0.4)], inputs)
    assert error(ours, theirs) < TOLERANCE


def test_a_control_net_for_xl(sdxl, error, xl_inputs, tmp_path):
    net, hint = files.control_net("xl_unet"), files.hint(WIDTH, HEIGHT)
    theirs = led(tiny_models.xl_unet(), [of(control_net(net, tiny_models.xl_unet()), hint, 0.8)], xl_inputs)
    for number, tensors in enumerate((net, files.cldm(net))):
        path = files.write(tmp_path / f"{number}.safetensors", tensors)
        assert error(evaluated(sdxl, [(path, hint, 0.8)], xl_inputs), theirs) < TOLERANCE


@pytest.mark.parametrize("kind", ["canny", "tile"])
def test_a_union(sdxl, error, xl_inputs, tmp_path, kind):
    tensors, hint = files.control_net("xl_unet", types=8), files.hint(WIDTH, HEIGHT)
    unet = tiny_models.xl_unet()
    names = (
        "down_block_types block_out_channels layers_per_block cross_attention_dim norm_num_groups attention_head_dim"
        " transformer_layers_per_block use_linear_projection addition_embed_type projection_class_embeddings_input_dim"
    )
    config = {name: unet.config[name] for name in names.split()}
    net = ControlNetUnionModel(
        **config,
        addition_time_embed_dim=256,
        num_control_type=8,
        num_trans_channel=32,
        num_trans_head=4,
        num_proj_channel=32,
        conditioning_embedding_out_channels=files.HINT_CHANNELS,
    )
    filled(net, tensors)
    net.add_time_proj.num_channels = 16  # the library has one width for the sizes and for the marks of types
    number = {"canny": 3, "tile": 6}[kind]
    marks = torch.zeros(2, 8)
    marks[:, number] = 1

    def residuals(x, t, context, **more):
        given = [tensor(hint, 2)], marks, [number], 0.8
        return net(x, t, context, *given, return_dict=False, **more)

    theirs = led(unet, [residuals], xl_inputs)
    path = files.write(tmp_path / "union.safetensors", tensors)
    ours = evaluated(sdxl, [Control(path, hint, 0.8, type=kind)], xl_inputs)
    assert error(ours, theirs) < TOLERANCE


def test_a_control_lora(pipeline, error, inputs, tmp_path):
    lora, whole = files.control_lora()
    hint, path = files.hint(WIDTH, HEIGHT), files.write(tmp_path / "lora.safetensors", lora)
    theirs = led(tiny_models.unet(), [of(control_net(whole), hint, 0.9)], inputs)
    assert error(evaluated(pipeline, [(path, hint, 0.9)], inputs), theirs) < TOLERANCE


def test_a_file_of_differences(pipeline, error, inputs, tmp_path):
    whole, base = files.control_net(), tiny.part("unet")
    differences = {name: array - base[name] if name in base else array for name, array in whole.items()}
    tensors = {f"control_model.{name}": array for name, array in files.cldm(differences).items()}
    path = files.write(tmp_path / "diff.safetensors", tensors | {"difference": np.zeros(1, np.float32)})
    hint = files.hint(WIDTH, HEIGHT)
    theirs = led(tiny_models.unet(), [of(control_net(whole), hint, 0.9)], inputs)
    assert error(evaluated(pipeline, [(path, hint, 0.9)], inputs), theirs) < TOLERANCE


@torch.no_grad()
def adapted(unet, net, hint, strength, inputs, grey=False):
    seen = tensor(hint, 1)[:, :1] if grey else tensor(hint, 1)
    features = [strength * feature.expand(2, -1, -1, -1) for feature in net(seen)]
    more = {"down_intrablock_additional_residuals": features, **added(inputs)}
    return unet(inputs["x"], inputs["timesteps"], inputs["context"], **more).sample


@pytest.mark.parametrize(("kind", "grey"), [("full_adapter", False), ("full_adapter", True), ("light_adapter", False)])
def test_a_t2i_adapter(pipeline, error, inputs, tmp_path, kind, grey):
    tensors, hint = files.t2i_adapter((32, 64), grey=grey, light=kind == "light_adapter"), files.hint(WIDTH, HEIGHT)
    theirs = adapted(tiny_models.unet(), adapter(tensors, (32, 64), grey=grey, kind=kind), hint, 0.6, inputs, grey)
    for number, names in enumerate((tensors, files.t2i_original(tensors))):
        path = files.write(tmp_path / f"{number}.safetensors", names)
        assert error(evaluated(pipeline, [(path, hint, 0.6)], inputs), theirs) < TOLERANCE


def test_a_t2i_adapter_for_xl(sdxl, error, xl_inputs, tmp_path):
    tensors, hint = files.t2i_adapter((32, 64), 16), files.hint(WIDTH, HEIGHT)
    theirs = adapted(tiny_models.xl_unet(), adapter(tensors, (32, 64), 16, kind="full_adapter_xl"), hint, 0.6, xl_inputs)
    path = files.write(tmp_path / "xl.safetensors", tensors)
    assert error(evaluated(sdxl, [(path, hint, 0.6)], xl_inputs), theirs) < TOLERANCE


def run_of(ours, control, steps=8):
    noise = sampling.noise((4, 8, 12), 21, rng="cpu")
    sizes = {"steps": steps, "width": 96, "height": 64, "cfg_scale": 4.0, "sampler": "euler", "scheduler": "discrete"}
    found = ours.generate("a red circle", negative_prompt="blurry", noise=noise, controls=[control], **sizes).images[0]
    theirs = {
        "prompt_embeds": embed("a red circle"),
        "negative_prompt_embeds": embed("blurry"),
        "guidance_scale": 4.0,
        "num_inference_steps": steps,
        "width": 96,
        "height": 64,
        "latents": torch.from_numpy(noise[None]),
    }
    return found, theirs


@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (0.25, 0.8)])
def test_pictures_with_a_control_net(folder, same_pictures, tmp_path, start, end):
    tensors, hint = files.control_net(), Image.fromarray(files.hint(96, 64))
    path = files.write(tmp_path / "net.safetensors", tensors)
    with sdcpp_py.Pipeline(folder) as ours:
        found, arguments = run_of(ours, Control(path, hint, 0.7, start, end))
        assert np.asarray(found).astype(int).std() > 10
        plain = run_of(ours, Control(path, hint, 0))[0]
        assert np.abs(np.asarray(plain).astype(int) - np.asarray(found)).mean() > 2
    parts = (tiny_models.vae(), None, None, tiny_models.unet(), control_net(tensors))
    scheduler = EulerDiscreteScheduler(**tiny.NOISE)
    theirs = StableDiffusionControlNetPipeline(*parts, scheduler, None, None, requires_safety_checker=False)
    scales = {"controlnet_conditioning_scale": 0.7, "control_guidance_start": start, "control_guidance_end": end}
    same_pictures(found, theirs, image=hint, **scales, **arguments)


def test_pictures_with_a_t2i_adapter(folder, same_pictures, tmp_path):
    tensors, hint = files.t2i_adapter((32, 64)), Image.fromarray(files.hint(96, 64))
    path = files.write(tmp_path / "adapter.safetensors", tensors)
    with sdcpp_py.Pipeline(folder) as ours:
        found, arguments = run_of(ours, Control(path, hint, 0.7))
    parts = (tiny_models.vae(), None, None, tiny_models.unet(), adapter(tensors, (32, 64)))
    theirs = StableDiffusionAdapterPipeline(
        *parts, EulerDiscreteScheduler(**tiny.NOISE), None, None, requires_safety_checker=False
    )
    same_pictures(found, theirs, image=hint, adapter_conditioning_scale=0.7, **arguments)


def test_canny_is_opencvs():
    cv2 = pytest.importorskip("cv2")
    from sdcpp_py import control

    random = np.random.RandomState(0)
    for low, high in ((100, 200), (20, 60)):
        blurred = cv2.GaussianBlur(random.randint(0, 256, (200, 300, 3), np.uint8), (0, 0), 3)
        picture = cv2.normalize(blurred, None, 0, 255, cv2.NORM_MINMAX)
        expected, found = cv2.Canny(picture, low, high), np.asarray(control.canny(picture, low, high))[..., 0]
        assert (expected != found).mean() < 0.01
