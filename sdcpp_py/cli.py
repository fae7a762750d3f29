"""The command `sdcpp`: generate, info, devices, version."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sdcpp_py import plan_command
from sdcpp_py.errors import CancelledError, InvalidArgumentError, SdcppError

_EXAMPLES = """examples:
  sdcpp generate "a red circle left of a blue square on a white background" -o picture.png
  sdcpp generate "a lighthouse at dusk" -m model.safetensors -W 512 -H 512 --steps 25 -s 7 -b 4 -o out_%d.png
  sdcpp info model.safetensors
"""


def _memory_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--max-vram",
        metavar="GIB",
        help="what networks may hold on the device; below 0: free memory less that; 0: no limit (left out: where not all fits)",
    )
    group.add_argument(
        "--stream-layers", action="store_true", default=None, help="keep some layers on the device (what --max-vram does anyway)"
    )
    group.add_argument(
        "--offload-to-cpu", action="store_true", default=None, help="keep weights off the device (what --max-vram does anyway)"
    )
    group.add_argument("--plan-policy", default="auto", metavar="NAME", help="auto, pipelined, capped or full")
    group.add_argument("-ngl", "--gpu-layers", type=int, metavar="N", help="at most so many layers stay on the device")


def _model_arguments(model: argparse._ArgumentGroup) -> None:
    model.add_argument(
        "--diffusion-model", metavar="FILE", help="a UNet or transformer by itself, in place of the model's or without --model"
    )
    model.add_argument("--vae", metavar="FILE", help="a VAE to use in place of the model's")
    model.add_argument(
        *("--clip_l", "--clip_g", "--text-encoder"),
        dest="text_encoders",
        action="append",
        metavar="FILE",
        help="a CLIP text encoder in place of the model's; may be given for each",
    )
    model.add_argument("--llm", metavar="FILE", help="the language model that reads the prompt (Z-Image: Qwen3 4B)")
    model.add_argument("--taesd", metavar="FILE", help="decode with this tiny autoencoder")
    model.add_argument(
        "--type",
        dest="wtype",
        metavar="TYPE",
        help="weight type of linear layers: f32, f16, bf16, q8_0, q4_K … (left out: as in the file)",
    )
    model.add_argument(
        "--tensor-type-rules", metavar="RULES", help="types by name, such as '^vae=f32,attn=q8_0': pattern=type, the first counts"
    )


def _model_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `_model_arguments` took, as `Pipeline` and `convert` take it."""
    names = ("diffusion_model", "vae", "text_encoders", "llm", "taesd", "wtype", "tensor_type_rules")
    return {name: getattr(arguments, name) for name in names}


def _generate_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "generate",
        help="make pictures from a text",
        description="Make pictures from a text. Options left out take the model's own defaults.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    prompt = parser.add_argument_group("prompt")
    prompt.add_argument("positional", nargs="?", metavar="PROMPT", help="what to show; (word:1.2) weighs more, [word] less")
    prompt.add_argument("-p", "--prompt", dest="prompt", metavar="TEXT", help="the same, as an option")
    prompt.add_argument("-n", "--negative-prompt", default="", metavar="TEXT", help="what not to show")

    model = parser.add_argument_group("model")
    model.add_argument(
        "-m",
        "--model",
        metavar="PATH",
        help="safetensors, GGUF, .ckpt or a diffusers folder (left out: the embedded model)",
    )
    _model_arguments(model)

    picture = parser.add_argument_group("picture")
    picture.add_argument("-W", "--width", type=int, metavar="PIXELS")
    picture.add_argument("-H", "--height", type=int, metavar="PIXELS")
    picture.add_argument("-b", "--batch-count", type=int, default=1, metavar="N", help="how many pictures; the seed rises by one")
    picture.add_argument("-s", "--seed", type=int, metavar="N", help="left out or below 0: random")
    picture.add_argument(
        "-o",
        "--output",
        default="output.png",
        metavar="FILE",
        help="png, jpg, webp or bmp; %%d numbers a batch (default: %(default)s)",
    )

    sampling = parser.add_argument_group("sampling")
    sampling.add_argument("--steps", type=int, metavar="N")
    sampling.add_argument("--cfg-scale", type=float, metavar="X", help="guidance; 1 = none")
    sampling.add_argument(
        "--sampling-method",
        dest="sampler",
        metavar="NAME",
        help="euler, euler_a, heun, dpm2, dpm++2s_a, dpm++2m, dpm++2m_v2, dpm++2m_sde, lms, ipndm, ddim, lcm",
    )
    sampling.add_argument(
        "--scheduler", metavar="NAME", help="discrete, karras, exponential, sgm_uniform, simple, ays, beta, kl_optimal"
    )
    sampling.add_argument("--eta", type=float, metavar="X", help="renewed noise of stochastic samplers and ddim, 0 to 1")
    sampling.add_argument("--flow-shift", type=float, metavar="X", help="of flow models: above 1 spends more steps near noise")
    sampling.add_argument("--clip-skip", type=int, metavar="N", help="1 = all layers of the text encoder, 2 = without the last")
    sampling.add_argument("--rng", default="cuda", metavar="NAME", help="cuda or cpu: whose noise to draw (default: %(default)s)")
    sampling.add_argument(
        "--vae-tiling", action="store_true", default=None, help="decode in tiles (left out: where the picture is large)"
    )
    sampling.add_argument("--vae-tile-size", type=int, metavar="N", help="latent sides of a tile (default: 64)")
    sampling.add_argument(
        "--vae-tile-overlap", type=float, metavar="X", help="share of a tile that neighbours cover too (default: 0.25)"
    )

    machine = parser.add_argument_group("machine")
    machine.add_argument("-t", "--threads", type=int, metavar="N", help="threads (left out: physical cores)")
    machine.add_argument("--device", default="auto", metavar="NAME", help="see `sdcpp devices` (default: %(default)s)")
    _memory_arguments(machine)
    machine.add_argument(
        "--no-blas", dest="blas", action="store_false", default=None, help="the CPU computes with ggml's kernels alone"
    )
    machine.add_argument(
        "--matmul-precision", default="f32", metavar="NAME", help="f32, or bf16: faster on processors that compute with it"
    )
    machine.add_argument("--profile", action="store_true", help="show where the time went, by kind of operation and by stage")
    machine.add_argument("-v", "--verbose", action="store_true", help="show what the engine logs")
    machine.add_argument("--no-progress", dest="progress", action="store_false", default=None, help="no progress bar")
    parser.set_defaults(run=_generate)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sdcpp",
        description="Image diffusion models on your own machine.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _generate_parser(commands)
    info = commands.add_parser("info", help="what is in a model file")
    info.add_argument("model", metavar="MODEL")
    info.add_argument("--tensors", action="store_true", help="list every tensor")
    info.set_defaults(run=_info)
    plan_command.add_parser(commands)
    convert = commands.add_parser("convert", help="write a model as one GGUF file, in other types of weights", allow_abbrev=False)
    convert.add_argument("-m", "--model", metavar="PATH", help="safetensors, GGUF, .ckpt or a diffusers folder")
    _model_arguments(convert.add_argument_group("parts and types"))
    convert.add_argument("-o", "--output", required=True, metavar="FILE", help="the file to write, .gguf")
    convert.add_argument("-t", "--threads", type=int, metavar="N", help="threads (left out: physical cores)")
    convert.add_argument("--no-progress", dest="progress", action="store_false", default=None, help="no progress bar")
    convert.set_defaults(run=_convert)
    commands.add_parser("devices", help="what networks can run on").set_defaults(run=_devices)
    commands.add_parser("version", help="versions of the package and of ggml").set_defaults(run=_version)
    return parser


def _generate(arguments: argparse.Namespace) -> int:
    from sdcpp_py import images, profile
    from sdcpp_py.pipeline import Pipeline

    if (arguments.prompt is None) == (arguments.positional is None):
        raise InvalidArgumentError('give the prompt once: sdcpp generate "what to show"')
    if arguments.verbose:
        logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(message)s")
    paths = images.output_paths(arguments.output, max(1, arguments.batch_count))
    for path in paths:
        images.check_output(path)
    with Pipeline(
        arguments.model,
        **_model_options(arguments),
        threads=arguments.threads,
        rng=arguments.rng,
        device=arguments.device,
        max_vram=arguments.max_vram,
        stream_layers=arguments.stream_layers,
        offload_to_cpu=arguments.offload_to_cpu,
        plan_policy=arguments.plan_policy,
        gpu_layers=arguments.gpu_layers,
        whole_process=True,
        blas=arguments.blas,
        matmul_precision=arguments.matmul_precision,
        profile=arguments.profile,
    ) as pipeline:
        result = pipeline.generate(
            arguments.positional if arguments.prompt is None else arguments.prompt,
            negative_prompt=arguments.negative_prompt,
            width=arguments.width,
            height=arguments.height,
            steps=arguments.steps,
            cfg_scale=arguments.cfg_scale,
            sampler=arguments.sampler,
            scheduler=arguments.scheduler,
            seed=arguments.seed,
            batch_count=arguments.batch_count,
            clip_skip=arguments.clip_skip,
            eta=arguments.eta,
            flow_shift=arguments.flow_shift,
            vae_tiling=arguments.vae_tiling,
            vae_tile_size=arguments.vae_tile_size,
            vae_tile_overlap=arguments.vae_tile_overlap,
            use_taesd=arguments.taesd is not None,
            progress=arguments.progress,
        )
        rows = pipeline.take_profile()
    for image, path in zip(result.images, paths):
        images.save(image, path)
        print(path)
    if arguments.verbose:
        for network, report in result.reports.items():
            streamed = f"{report.uploaded_bytes_per_step / 2**20:.1f} MiB uploaded a step, {report.stall_seconds:.2f} s waited"
            print(f"{network}: {report.plan.summary()}", file=sys.stderr)
            print(f"measured {report.step_seconds:.4g} s a step, {streamed}", file=sys.stderr)
    if rows:
        print(profile.table(rows), file=sys.stderr)
    times = result.timings
    print(
        f"seed {result.seed}, {times['total']:.2f} s (text {times['encode']:.2f}, "
        f"sampling {times['sample']:.2f}, decoding {times['decode']:.2f})",
        file=sys.stderr,
    )
    return 0


def _info(arguments: argparse.Namespace) -> int:
    from sdcpp_py.model_info import summarize

    summary = summarize(Path(arguments.model))
    print(f"{summary.path.name}: {summary.family}, {summary.format}, {len(summary.tensors)} tensors")
    for network, count in summary.networks.items():
        print(f"  {network:32} {count / 1e6:10.2f} M parameters")
    for kind, size in sorted(summary.bytes_by_type.items()):
        print(f"  {kind:32} {plan_command.size_text(size):>12}")
    print("  missing for text to image: " + (", ".join(summary.missing) or "nothing"))
    if arguments.tensors:
        for tensor in summary.tensors:
            print(f"  {tensor.name}  {tensor.type} {list(tensor.shape)}")
    return 0


def _convert(arguments: argparse.Namespace) -> int:
    from sdcpp_py.convert import convert

    path = convert(
        arguments.model,
        arguments.output,
        **_model_options(arguments),
        threads=arguments.threads,
        progress=arguments.progress,
    )
    print(f"{path}  {plan_command.size_text(path.stat().st_size)}")
    return 0


def _devices(arguments: argparse.Namespace) -> int:
    from sdcpp_py.model_info import devices, why_no_gpu

    for device in devices():
        memory = f"{plan_command.size_text(device.free_bytes)} free of {plan_command.size_text(device.total_bytes)}"
        print(f"{device.name:12} {device.description}  ({memory})")
    if advice := why_no_gpu():
        print(advice)
    return 0


def _version(arguments: argparse.Namespace) -> int:
    from sdcpp_py.version import __version__, ggml_version

    print(f"sdcpp_py {__version__}, ggml {ggml_version}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 well, 1 an error that is told, 130 interrupted."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except (CancelledError, KeyboardInterrupt):
        print("sdcpp: stopped", file=sys.stderr)
        return 130
    except SdcppError as error:
        print(f"sdcpp: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"sdcpp: {error}", file=sys.stderr)
        return 1
