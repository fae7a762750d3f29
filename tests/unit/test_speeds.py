"""Speeds of devices are measured once, then read from the cache folder."""

import json

import pytest

import sdcpp_py
from sdcpp_py import _engine
from sdcpp_py.plan import _speeds


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """The devices that were measured; the cache is empty."""
    calls = []
    monkeypatch.setenv("SDCPP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(_engine, "device_speed", lambda *given: (calls.append(given), (2e10 + len(calls), 3e9))[1])
    return calls


def test_a_device_is_measured_once(measured, tmp_path):
    first = _speeds.device_speed("CPU", 2)
    assert first == _speeds.device_speed("CPU", 2) == (2e10 + 1, 3e9) and len(measured) == 1
    kept = json.loads((tmp_path / "cache" / "devices.json").read_text())
    assert [tuple(speed) for speed in kept.values()] == [first]
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name != "devices.json"]


def test_threads_devices_and_blas_are_kept_apart(measured, monkeypatch):
    found = {_speeds.device_speed(device, threads) for device, threads in (("CPU", 1), ("CPU", 2), ("other", 1))}
    monkeypatch.setenv("SDCPP_BLAS", "0")
    found.add(_speeds.device_speed("CPU", 1))
    assert len(measured) == 4 or not sdcpp_py._blas.choose(True)[0]
    assert len(found) == len(measured)
    _speeds.device_speed("CPU", 2)
    monkeypatch.delenv("SDCPP_BLAS")
    assert _speeds.device_speed("CPU", 2) in found


@pytest.mark.parametrize("content", ["", "[]", "{", '{"CPU": 3}', "\x00"])
def test_a_damaged_cache_is_written_anew(measured, tmp_path, content):
    path = tmp_path / "cache" / "devices.json"
    path.parent.mkdir()
    path.write_text(content)
    assert _speeds.device_speed("CPU", 2) == _speeds.device_speed("CPU", 2)
    assert len(measured) == 1


def test_a_folder_that_cannot_be_written_is_no_error(measured, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SDCPP_CACHE", str(tmp_path / "file" / "below"))
    assert _speeds.device_speed("CPU", 2) != _speeds.device_speed("CPU", 2)
    assert len(measured) == 2


def test_a_budget_takes_the_cached_speed(measured):
    with (
        sdcpp_py.Pipeline(max_vram=0.05, device="CPU", threads=2) as first,
        sdcpp_py.Pipeline(max_vram=0.06, device="CPU", threads=2),
    ):
        assert first.plan().predicted_step_seconds > 0
    assert len(measured) == 1
