"""Write the trained networks as the package's embedded model, a GGUF file.

usage: python training/export.py --dir DIR [--out sdcpp_py/data/shapes.gguf]
Linear layers are stored as q8_0, the vocabulary as q5_0, convolutions as f16, everything small as f32.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
import torch

PREFIXES = {
    "text.pt": "cond_stage_model.transformer.text_model.",
    "unet.pt": "model.diffusion_model.",
    "ae.pt": "first_stage_model.",
}
CONFIG = {
    "unet": {"norm_num_groups": 8, "attention_head_dim": [2, 3, 4]},
    "vae": {"norm_num_groups": 8},
    "text_encoder": {"num_attention_heads": 3, "hidden_act": "quick_gelu"},
    "scheduler": {"prediction_type": "v_prediction"},
    "defaults": {"width": 128, "height": 128, "steps": 20, "cfg_scale": 3, "sampler": "dpm++2m", "scheduler": "karras"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "sdcpp_py" / "data" / "shapes.gguf")
    options = parser.parse_args()
    config = json.loads(json.dumps(CONFIG))
    config["vae"]["scaling_factor"] = torch.load(options.dir / "latents.pt", weights_only=False)["scale"]
    writer = gguf.GGUFWriter(options.out, "stable-diffusion")
    writer.add_name("sdcpp_py shapes")
    writer.add_license("MIT")
    writer.add_string("sdcpp.config", json.dumps(config))
    files = dict(PREFIXES)
    if (options.dir / "ae_sharp.pt").exists():
        files["ae_sharp.pt"] = files.pop("ae.pt")
    for file, prefix in files.items():
        for name, tensor in torch.load(options.dir / file, map_location="cpu").items():
            array = tensor.float().contiguous().numpy()
            kind = gguf.GGMLQuantizationType.F32
            if array.ndim == 4:
                kind = gguf.GGMLQuantizationType.F16
            elif array.ndim == 2 and array.shape[1] % 32 == 0 and "position" not in name:
                kind = gguf.GGMLQuantizationType.Q5_0 if "token_embedding" in name else gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(prefix + name, gguf.quantize(np.ascontiguousarray(array), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(options.out, options.out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
