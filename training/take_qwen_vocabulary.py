"""Take the Qwen models' byte-pair vocabulary from the PyPI package dashscope (Apache 2.0 licence) into sdcpp_py/data.

usage: pip download --no-deps dashscope -d DIR && python training/take_qwen_vocabulary.py DIR/dashscope-*.whl

The package lists every token's bytes by rank. A byte-pair model wants the two tokens each one is merged from: what is left when
all merges of lower rank are done. Packed are the 256 bytes in their order, then for every further token its left part's and its
right part's number, 3 bytes each, all left parts before all right parts.
"""

import base64
import lzma
import sys
import zipfile
from pathlib import Path

DATA = Path(__file__).parent.parent / "sdcpp_py" / "data"


def parts(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    pieces = [token[i : i + 1] for i in range(len(token))]
    while len(pieces) > 2:
        pairs = [ranks.get(a + b, len(ranks)) for a, b in zip(pieces, pieces[1:])]
        at = pairs.index(min(pairs))
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    return pieces[0], pieces[1]


def main() -> None:
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        lines = wheel.read("dashscope/resources/qwen.tiktoken").split()
        licence = next(name for name in wheel.namelist() if name.endswith("licenses/LICENSE"))
        (DATA / "qwen_vocabulary.LICENSE.txt").write_bytes(wheel.read(licence))
    tokens = [base64.b64decode(text) for text in lines[0::2]]
    assert [int(rank) for rank in lines[1::2]] == list(range(len(tokens)))
    assert sorted(tokens[:256]) == [bytes([byte]) for byte in range(256)]
    ranks = {token: rank for rank, token in enumerate(tokens)}
    pairs = [parts(token, ranks) for token in tokens[256:]]
    numbers = [ranks[left] for left, _ in pairs] + [ranks[right] for _, right in pairs]
    columns = b"".join(bytes((number >> shift) & 255 for number in numbers) for shift in (0, 8, 16))
    packed = lzma.compress(b"".join(tokens[:256]) + columns, preset=9 | lzma.PRESET_EXTREME)
    (DATA / "qwen_vocabulary.xz").write_bytes(packed)


if __name__ == "__main__":
    main()
