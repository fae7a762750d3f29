"""Turn the embedded model back into checkpoints, to go on with training if its own are lost.

usage: python training/unpack.py --dir DIR [--model sdcpp_py/data/shapes.gguf]
Writes ae.pt, text.pt, unet.pt and the scale of latents; then run the stages `latents` and, with `--init DIR/unet.pt` and the
like, those to improve.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import gguf
import torch
from export import PREFIXES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=Path(__file__).parent.parent / "sdcpp_py" / "data" / "shapes.gguf")
    options = parser.parse_args()
    options.dir.mkdir(parents=True, exist_ok=True)
    reader = gguf.GGUFReader(options.model)
    config = reader.fields["sdcpp.config"]
    scale = json.loads(bytes(config.parts[config.data[0]]))["vae"]["scaling_factor"]
    (options.dir / "scale.txt").write_text(str(scale))
    tensors = reader.tensors
    for file, prefix in PREFIXES.items():
        state = {}
        for tensor in tensors:
            if tensor.name.startswith(prefix):
                values = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).copy())
                state[tensor.name[len(prefix) :]] = values.reshape([int(side) for side in tensor.shape[::-1]])
        torch.save(state, options.dir / file)
        print(options.dir / file, len(state), "tensors")


if __name__ == "__main__":
    main()
