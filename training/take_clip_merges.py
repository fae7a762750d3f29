"""Take CLIP's byte-pair merges from the PyPI package open_clip_torch (MIT licence) into sdcpp_py/data.

usage: pip download --no-deps open_clip_torch -d DIR && python training/take_clip_merges.py DIR/open_clip_torch-*.whl
"""

import gzip
import sys
import zipfile
from pathlib import Path

DATA = Path(__file__).parent.parent / "sdcpp_py" / "data"
MERGES = 48894  # 49 408 entries less 2 * 256 single bytes and 2 special tokens


def main() -> None:
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        lines = gzip.decompress(wheel.read("open_clip/bpe_simple_vocab_16e6.txt.gz")).decode("utf-8").split("\n")
        licence = next(name for name in wheel.namelist() if name.endswith("licenses/LICENSE"))
        (DATA / "clip_merges.LICENSE.txt").write_bytes(wheel.read(licence))
    merges = "\n".join(lines[1 : 1 + MERGES])  # the first line names the format's version
    (DATA / "clip_merges.txt.gz").write_bytes(gzip.compress(merges.encode("utf-8"), 9, mtime=0))


if __name__ == "__main__":
    main()
