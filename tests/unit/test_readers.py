"""No file, however damaged, does more than raise an error of ours (hypothesis; SDCPP_FUZZ_EXAMPLES sets how many are tried)."""

import json
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sdcpp_py
from sdcpp_py.errors import BadFileError

sys.path.insert(0, str(Path(__file__).parent))
from test_formats import write_gguf, write_torch_zip

EXAMPLES = int(os.environ.get("SDCPP_FUZZ_EXAMPLES", "300"))
TENSORS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.float32)}
ANY = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)


def attempt(path, content):
    path.write_bytes(content)
    try:
        summary = sdcpp_py.summarize(path)
    except BadFileError as error:
        assert str(error)
        return
    for tensor in summary.tensors:
        assert tensor.bytes <= len(content)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readers")
    return {
        "safetensors": tiny.write_safetensors(folder / "a.safetensors", TENSORS, {"k": "v"}).read_bytes(),
        "gguf": write_gguf(folder / "a.gguf", TENSORS, {"general.name": "x"}).read_bytes(),
        "torch": write_torch_zip(folder / "a.pt", TENSORS).read_bytes(),
    }


@pytest.mark.parametrize("kind", ["safetensors", "gguf", "torch"])
def test_the_seeds_are_read(tmp_path, files, kind):
    path = tmp_path / "seed"
    path.write_bytes(files[kind])
    assert {tensor.name for tensor in sdcpp_py.summarize(path).tensors} == set(TENSORS)


@pytest.mark.parametrize("kind", ["safetensors", "gguf", "torch"])
def test_mutated_bytes(tmp_path_factory, files, kind):
    path = tmp_path_factory.mktemp("mutated") / "x"
    whole = files[kind]
    extreme = st.sampled_from([0, 1, 127, 128, 255])

    @ANY
    @given(
        st.lists(st.tuples(st.integers(0, len(whole) - 1), st.one_of(extreme, st.integers(0, 255))), max_size=8),
        st.integers(0, 40),
    )
    def run(changes, cut):
        content = bytearray(whole)
        for place, value in changes:
            content[place] = value
        attempt(path, bytes(content[: len(content) - cut]))

    run()


@pytest.mark.parametrize("kind", ["safetensors", "gguf", "torch"])
def test_mutated_numbers(tmp_path_factory, files, kind):
    """Lengths, offsets and counts replaced by numbers that overflow."""
    path = tmp_path_factory.mktemp("numbers") / "x"
    whole = files[kind]
    numbers = st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**48, 2**63 - 1, 2**63, 2**64 - 1, 2**64 - 8])

    @ANY
    @given(st.integers(0, max(0, len(whole) - 8)), numbers, st.sampled_from(["<Q", "<I"]))
    def run(place, number, form):
        packed = struct.pack(form, number % 2 ** (8 * struct.calcsize(form)))
        attempt(path, whole[:place] + packed + whole[place + len(packed) :])

    run()


def test_random_headers(tmp_path_factory):
    path = tmp_path_factory.mktemp("headers") / "x"
    number = st.one_of(st.integers(-2, 20), st.sampled_from([2**31, 2**32, 2**62, 2**63, -(2**63), 1.5]))
    entry = st.fixed_dictionaries(
        {},
        optional={
            "dtype": st.sampled_from(["F32", "F16", "BF16", "F8_E4M3", "I64", "BOOL", "X", 3]),
            "shape": st.one_of(st.lists(number, max_size=10), number),
            "data_offsets": st.lists(number, max_size=3),
        },
    )

    @ANY
    @given(st.dictionaries(st.text(max_size=5), st.one_of(entry, number, st.none()), max_size=4), st.integers(0, 64))
    def run(header, data):
        text = json.dumps(header).encode()
        attempt(path, struct.pack("<Q", len(text)) + text + b"\0" * data)

    run()


def test_random_bytes_behind_each_magic(tmp_path_factory):
    path = tmp_path_factory.mktemp("magic") / "x"
    magic = st.sampled_from([b"GGUF\x03\0\0\0", b"PK\x03\x04", struct.pack("<Q", 20) + b"{", b"\x80\x02", b""])

    @ANY
    @given(magic, st.binary(max_size=200))
    def run(start, rest):
        if start + rest:
            attempt(path, start + rest)

    run()
