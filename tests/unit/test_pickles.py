"""Checkpoints of PyTorch with all sorts of objects beside the weights: the weights are read, nothing is run."""

import collections
import datetime
import os
import pickle
import struct
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hollow import pickled, torch_state, torch_tensor, torch_zip, zip_file

import sdcpp_py
from sdcpp_py.errors import BadFileError

TENSORS = {"a.weight": ("F32", (2, 3)), "b": ("F16", (4,))}


class Plain:
    def __init__(self):
        self.value = {"x": [1, 2]}


class Slots:
    __slots__ = ("left",)

    def __init__(self):
        self.left = 3


class New:
    def __getnewargs_ex__(self):
        return (), {"key": 1}

    def __new__(cls, key=1):
        return super().__new__(cls)


BESIDE = {
    "numpy number": np.float64(0.5),
    "numpy array": np.arange(3),
    "set": {1, "a"},
    "frozen set": frozenset({2}),
    "bytes": b"\x00\xff" * 300,
    "byte array": bytearray(b"abc"),
    "long integer": 2**3000,
    "negative long": -(2**70),
    "small integers": [0, 255, 256, -1, -(2**31), 2**40],
    "complex": 1 + 2j,
    "date": datetime.datetime(2022, 8, 22),
    "default dict": collections.defaultdict(list, a=[1]),
    "counter": collections.Counter("abc"),
    "ordered": collections.OrderedDict(a=1),
    "deque": collections.deque([1], maxlen=3),
    "fraction": Fraction(1, 3),
    "object": Plain(),
    "object of slots": Slots(),
    "object by keywords": New(),
    "class": Plain,
    "function": os.path.join,
    "keys": {3: None, (1, 2): True, Plain: False},
    "text": "é" * 300,
    "nothing": (None, (), [], {}, True, 1.5),
}


def names(path):
    return {tensor.name: tensor.shape for tensor in sdcpp_py.summarize(path).tensors}


EXPECTED = {"a.weight": (2, 3), "b": (4,)}


def test_parts_in_dictionaries_of_their_own_are_read_as_one(tmp_path):
    """If no name comes twice; else they are versions of one thing, such as averages, and the first one counts."""

    def written(**parts):
        items = b"".join(pickled(name) + torch_state(tensors) for name, tensors in parts.items())
        return zip_file(tmp_path / "x.ckpt", b"\x80\x02}(" + items + b"u.", {"archive/data/0": 24})

    one, two = ({name: kind_shape} for name, kind_shape in TENSORS.items())
    assert names(written(one=one, two=two)) == {"one.a.weight": (2, 3), "two.b": (4,)}
    assert names(written(one=one, two=one)) == {"a.weight": (2, 3)}
    assert names(written(state_dict=one, two=two)) == {"a.weight": (2, 3)}


@pytest.mark.parametrize("kind", BESIDE)
def test_anything_may_lie_beside_the_weights(tmp_path, kind):
    beside = pickled(kind) + pickled(BESIDE[kind]) + pickled("epoch") + pickled(3)
    assert names(torch_zip(tmp_path / "x.ckpt", TENSORS, beside)) == EXPECTED


@pytest.mark.parametrize("protocol", range(6))
def test_all_protocols_are_read(tmp_path, protocol):
    """A whole pickle of each protocol, of which a tensor is put into by a name that stands for it."""
    beside = [value for kind, value in BESIDE.items() if protocol > 1 or kind != "object of slots"]
    whole = pickle.dumps({"state_dict": {"a.weight": "TENSOR"}, "beside": [*beside, "a", "a"]}, protocol)
    assert pickle.loads(whole)["state_dict"] == {"a.weight": "TENSOR"}
    text = {0: b"VTENSOR\n"}.get(protocol, b"X\x06\0\0\0TENSOR" if protocol < 4 else b"\x8c\x06TENSOR")
    assert whole.count(text) == 1
    # its memo slots come again behind each use, so that the tensor's own do not matter
    tensor = torch_tensor("0", "F32", (2, 3)).replace(b"q\x00", b"").replace(b"q\x01", b"").replace(b"q\x02", b"")
    framed = whole.replace(text, tensor, 1)
    assert names(zip_file(tmp_path / "x.ckpt", framed, {"archive/data/0": 24})) == {"a.weight": (2, 3)}


def test_nothing_is_run(tmp_path):
    mark = tmp_path / "mark"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {mark}",)

    path = torch_zip(tmp_path / "x.ckpt", TENSORS, pickled("x") + pickled(Evil()))
    assert names(path) == EXPECTED
    assert not mark.exists()


def test_a_tensor_that_needs_something_unknown_is_refused(tmp_path):
    odd = b"ctorch._utils\n_rebuild_sparse_tensor\n(K\x01tR"
    path = zip_file(tmp_path / "x.ckpt", b"\x80\x02}(" + pickled("s.weight") + odd + b"u.", {})
    with pytest.raises(BadFileError, match=r"s\.weight is made by torch\._utils _rebuild_sparse_tensor"):
        sdcpp_py.summarize(path)
    storage = torch_tensor("0", "F32", (2, 3)).replace(b"FloatStorage", b"ComplexDoubleStorage")
    path = zip_file(tmp_path / "x.ckpt", b"\x80\x02}(" + pickled("s.weight") + storage + b"u.", {"archive/data/0": 24})
    with pytest.raises(BadFileError, match=r"s\.weight is made by torch ComplexDoubleStorage"):
        sdcpp_py.summarize(path)
    beside = pickled("optimizer") + b"}(" + pickled("s") + storage + pickled("t") + odd + b"u"
    assert names(torch_zip(tmp_path / "x.ckpt", TENSORS, beside)) == EXPECTED


def test_parameters_and_newer_tensors_are_read(tmp_path):
    plain = torch_tensor("0", "F32", (2, 3))
    parameter = b"ctorch._utils\n_rebuild_parameter\n(" + plain + b"\x89ccollections\nOrderedDict\n)RtR"
    newer = plain.replace(b"_rebuild_tensor_v2", b"_rebuild_tensor_v3").replace(b"FloatStorage", b"UntypedStorage")
    newer = newer.replace(b"torch\nUntypedStorage", b"torch.storage\nUntypedStorage")
    newer = newer.removesuffix(b"tR") + b"ctorch\nfloat8_e4m3fn\n}tR"
    kind = b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_tensor_v2\ncmine\nTensor\n"
    typed = kind + plain[plain.index(b"(") :].removesuffix(b"R") + b"}tR"
    whole = b"\x80\x02}(" + b"".join(pickled(n) + t for n, t in (("p", parameter), ("n", newer), ("t", typed))) + b"u."
    found = sdcpp_py.summarize(zip_file(tmp_path / "x.ckpt", whole, {"archive/data/0": 24})).tensors
    assert {t.name: (t.type, t.shape) for t in found} == {
        "p": ("f32", (2, 3)),
        "n": ("f8_e4m3", (2, 3)),
        "t": ("f32", (2, 3)),
    }


HEAVY = {
    "nothing": b"(" + b"N" * (6 << 20) + b"t.",
    "empty lists": b"(" + b"]" * (6 << 20) + b"t.",
    "one list": b"]" + (b"(" + b"N" * 1000 + b"e") * 12_000 + b".",
    "lists in lists": b"]" * (6 << 20) + b"a" * (6 << 20) + b".",
    "numbers": (b"K\x010" * (5 << 20)) + b"N.",
    "memo": b"N" + b"\x94" * (6 << 20) + b".",
    "names": b"".join(b"cm\nn%d\n0" % n for n in range(1 << 19)) + b"N.",
    "marks": b"(" * (6 << 20) + b".",
    "ordered": b"](" + b"N" * 100_000 + b"e\x94" + (b"0ccollections\nOrderedDict\n(h\x00tR") * 1000 + b".",
}


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
def test_a_pickle_takes_bounded_memory(tmp_path):
    source = "import sys, sdcpp_py\n"
    source += (
        "def peak():\n    return int(next(x for x in open('/proc/self/status') if x.startswith('VmHWM')).split()[1]) >> 10\n"
    )
    source += "start = peak()\nfor path in sys.argv[1:]:\n    try:\n        sdcpp_py.summarize(path)\n"
    source += "    except sdcpp_py.errors.BadFileError:\n        pass\n    print(peak() - start)"
    paths = [zip_file(tmp_path / kind, b"\x80\x02" + content, {}) for kind, content in HEAVY.items()]
    out = subprocess.run([sys.executable, "-c", source, *paths], check=True, capture_output=True, text=True, cwd=tmp_path).stdout
    most = [int(line) for line in out.split()]
    assert len(most) == len(HEAVY) and max(most) < 250, dict(zip(HEAVY, most))


def test_damaged_pickles_are_told(tmp_path):
    for content in (
        b"t.",
        b"h\x00.",
        b"]s.",
        b"0.",
        b"R.",
        b"N",
        b"K",
        b"X\xff\xff\xff\xff.",
        b"\x8d" + struct.pack("<Q", 2**63) + b".",
        b"c\n",
    ):
        with pytest.raises(BadFileError):
            sdcpp_py.summarize(zip_file(tmp_path / "x.ckpt", b"\x80\x02" + content, {}))
