"""Write tests/goldens: shapes of the tiny model, and what the reference libraries make of it.

usage: python tests/oracle/write_goldens.py
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import kdiffusion
import numpy as np
import tiny_models
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline
from test_chroma import their_direction as their_chroma
from test_families import their_flux
from test_flux_2 import their_direction as their_flux_2
from test_krea import their_direction as their_krea
from test_qwen_image import their_direction as their_qwen_image
from test_sampling import SIGMAS, model, noises, start
from test_tokens import hard_prompts
from tiny import GOLDENS, NOISE
from transformers import CLIPTokenizer

from sdcpp_py import sampling
from sdcpp_py.text import _clip_tokenizer, prompt


def shapes() -> None:
    tensors = {
        name: {key: list(shape) for key, shape in tiny_models.shapes(make()).items()}
        for name, make in tiny_models.NETWORKS.items()
    }
    text = json.dumps({"made by": "tests/oracle/write_goldens.py", "configs": tiny_models.CONFIGS, "tensors": tensors})
    (GOLDENS / "tiny_shapes.json").write_text(text)


@torch.no_grad()
def networks() -> dict[str, np.ndarray]:
    def randn(seed: int, *shape: int) -> torch.Tensor:
        return torch.from_numpy(sampling.noise(shape, seed))

    ids = torch.tensor([prompt.tokenize("a red circle left of a blue square").ids])
    states = tiny_models.text_encoder()(ids).last_hidden_state
    z, x = randn(3, 1, 4, 8, 12), randn(4, 1, 3, 64, 96).clamp(-1, 1)
    unet = tiny_models.unet()(randn(1, 2, 4, 16, 12), torch.tensor([3.0, 870.0]), randn(2, 2, 77, 32)).sample
    return {
        "clip": states.numpy(),
        "unet": unet.numpy(),
        "vae_decoder": tiny_models.vae().decode(z).sample.numpy().astype(np.float16),
        "vae_encoder": tiny_models.vae().encode(x).latent_dist.parameters.numpy(),
        "taesd_decoder": tiny_models.taesd().decode(z).sample.numpy().astype(np.float16),
        "taesd_encoder": tiny_models.taesd().encode(x).latents.numpy(),
        **families(randn),
    }


def families(randn: Callable[..., torch.Tensor]) -> dict[str, np.ndarray]:
    ids = torch.from_numpy(np.random.RandomState(1).randint(0, 49406, (2, 77)))
    sizes = torch.tensor([[128.0, 96, 0, 0, 128, 96]] * 2)
    t = torch.tensor([30.0, 870.0])
    added = {"text_embeds": randn(7, 2, 32), "time_ids": sizes}
    unet = tiny_models.xl_unet()(randn(5, 2, 4, 16, 12), t, randn(6, 2, 77, 64), added_cond_kwargs=added).sample
    latents, texts = randn(8, 2, 16, 12, 20), randn(9, 2, 41, 32)
    direction = tiny_models.z_transformer()(list(latents.unsqueeze(2)), (1000 - t) / 1000, list(texts)).sample
    flux_inputs = (latents, t, randn(10, 2, 41, 40), randn(11, 2, 32), torch.tensor([3.5, 2.0]))
    return {
        "clip_g": tiny_models.xl_text_encoder_2()(ids).last_hidden_state.numpy(),
        "xl_unet": unet.numpy(),
        "llm": tiny_models.z_text_encoder()(ids[:, :41]).last_hidden_state.numpy(),
        "z_image": -torch.stack(direction).squeeze(2).numpy(),
        "t5": tiny_models.f_text_encoder_2()(ids[:, :41] % 32000).last_hidden_state.numpy(),
        "flux": their_flux(tiny_models.f_transformer(), *flux_inputs).numpy(),
        **transformers(randn, t),
    }


def transformers(randn: Callable[..., torch.Tensor], t: torch.Tensor) -> dict[str, np.ndarray]:
    x, places = randn(12, 2, 16, 6, 10), randn(13, 2, 128, 3, 5)
    return {
        "chroma": their_chroma(tiny_models.c_transformer(), x, t, randn(14, 2, 21, 40)).numpy(),
        "flux_2": their_flux_2(tiny_models.f2_transformer(), places, t, randn(15, 2, 21, 96)).numpy(),
        "krea": their_krea(tiny_models.k_transformer(), x, t, randn(16, 2, 21, 12 * 24)).numpy(),
        "qwen_image": their_qwen_image(tiny_models.q_transformer(), x, t, randn(17, 2, 21, 40)).numpy(),
        "wan_vae_decoder": tiny_models.wan_vae().decode(x[:1, :, None]).sample.numpy().astype(np.float16),
        "wan_vae_encoder": tiny_models.wan_vae().encode(randn(18, 1, 3, 1, 32, 48).clamp(-1, 1)).latent_dist.parameters.numpy(),
    }


@torch.no_grad()
def pictures() -> dict[str, np.ndarray]:
    def embed(text: str) -> torch.Tensor:
        return tiny_models.text_encoder()(torch.tensor([prompt.tokenize(text).ids])).last_hidden_state

    out = {}
    for prediction in ("epsilon", "v_prediction"):
        scheduler = EulerDiscreteScheduler(**NOISE, prediction_type=prediction)
        parts = (tiny_models.vae(), None, None, tiny_models.unet(), scheduler, None, None)
        picture = StableDiffusionPipeline(*parts, requires_safety_checker=False)(
            prompt_embeds=embed("a red circle"),
            negative_prompt_embeds=embed("blurry"),
            guidance_scale=4.0,
            latents=torch.from_numpy(sampling.noise((4, 8, 8), 21))[None],
            num_inference_steps=10,
            height=64,
            width=64,
            output_type="np",
        ).images[0]
        out[f"picture_{prediction}"] = np.round(picture * 255).astype(np.uint8)
    return out


def samplers() -> dict[str, np.ndarray]:
    reference = kdiffusion.load_sampling()
    x, sigmas = torch.from_numpy(start()), torch.from_numpy(SIGMAS)
    plain = {"euler": "euler", "heun": "heun", "dpm2": "dpm_2", "dpm++2m": "dpmpp_2m", "lms": "lms"}
    noisy = {"euler_a": "euler_ancestral", "dpm++2s_a": "dpmpp_2s_ancestral", "dpm++2m_sde": "dpmpp_2m_sde"}
    out = {}
    for name, function in plain.items():
        out["sampler_" + name] = getattr(reference, f"sample_{function}")(model, x, sigmas, disable=True).numpy()
    for name, function in noisy.items():
        made = getattr(reference, f"sample_{function}")(model, x, sigmas, disable=True, noise_sampler=noises())
        out["sampler_" + name] = made.numpy()
    out["torch_cpu_noise"] = torch.randn(1000, generator=torch.Generator().manual_seed(42)).numpy()
    out["torch_cpu_noise_short"] = torch.randn(9, generator=torch.Generator().manual_seed(42)).numpy()
    return out


def tokens() -> None:
    with tempfile.TemporaryDirectory() as folder:
        merges = gzip.decompress(resources.files("sdcpp_py").joinpath("data/clip_merges.txt.gz").read_bytes()).decode()
        (Path(folder) / "merges.txt").write_text("#version: 0.2\n" + merges, encoding="utf-8")
        vocabulary = _clip_tokenizer.clip_tokenizer().get_vocab(with_added_tokens=False)
        (Path(folder) / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
        reference = CLIPTokenizer.from_pretrained(folder)
        pairs = [[text, reference(text, add_special_tokens=False)["input_ids"]] for text in hard_prompts()]
    (GOLDENS / "tokens.json.gz").write_bytes(gzip.compress(json.dumps(pairs).encode(), mtime=0))


def main() -> None:
    GOLDENS.mkdir(exist_ok=True)
    shapes()
    tokens()
    np.savez_compressed(GOLDENS / "goldens.npz", **networks(), **pictures(), **samplers())


if __name__ == "__main__":
    main()
