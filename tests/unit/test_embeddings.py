"""Textual inversion: files, words in prompts, chunks."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import tiny

from sdcpp_py import Pipeline, _engine
from sdcpp_py._embedded import embedded_model
from sdcpp_py.errors import BadFileError, InvalidArgumentError, ModelNotFoundError
from sdcpp_py.text import _clip_tokenizer, embeddings, prompt

SETTINGS = {"width": 64, "height": 64, "steps": 2, "seed": 5}
PROMPT = "a large red circle on a white background"


def rows_of(word: str) -> np.ndarray:
    """The embedded model's own vectors of a word."""
    file = _engine.PartFile(_engine.path_bytes(embedded_model()), "")
    (name,) = [row["name"] for row in _engine.listing(file)["tensors"] if "token_embedding" in row["name"]]
    return _engine.tensor(file, name)[_clip_tokenizer.encode(word)]


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return rows_of("red circle")


def test_a_word_stands_for_its_vectors(tmp_path: Path, vectors: np.ndarray) -> None:
    tiny.write_safetensors(tmp_path / "MyStyle.safetensors", {"emb_params": vectors})
    with Pipeline(embeddings=[tmp_path / "MyStyle.safetensors"]) as pipe:
        wanted = pipe.generate(PROMPT, **SETTINGS).latents[0]  # type: ignore[arg-type]
        for text in ("a large mystyle on a white background", "a large embedding:MyStyle on a white background"):
            result = pipe.generate(text, **SETTINGS)  # type: ignore[arg-type]
            assert np.array_equal(result.latents[0], wanted), text
        assert 'TI hashes: "MyStyle: ' in result.image.info["parameters"]
        heavy = pipe.generate("a large (MyStyle:1.4) on a white background", **SETTINGS).latents[0]  # type: ignore[arg-type]
        plain = pipe.generate("a large (red circle:1.4) on a white background", **SETTINGS).latents[0]  # type: ignore[arg-type]
        assert np.array_equal(heavy, plain) and not np.array_equal(heavy, wanted)
        negative = pipe.generate(PROMPT, negative_prompt="MyStyle", **SETTINGS).latents[0]  # type: ignore[arg-type]
        same = pipe.generate(PROMPT, negative_prompt="red circle", **SETTINGS).latents[0]  # type: ignore[arg-type]
        assert np.array_equal(negative, same) and not np.array_equal(negative, wanted)
        kept = pipe.encode_prompt("a large mystyle on a white background")
        assert np.array_equal(pipe.generate(conditioning=kept, **SETTINGS).latents[0], wanted)  # type: ignore[arg-type]


def test_streamed_encoders_take_words_too(tmp_path: Path, vectors: np.ndarray) -> None:
    tiny.write_safetensors(tmp_path / "w.safetensors", {"<w>": vectors[0]})
    with Pipeline(embeddings={"w": tmp_path / "w.safetensors"}) as pipe:
        wanted = pipe.generate("a w circle", **SETTINGS).latents[0]  # type: ignore[arg-type]
    with Pipeline(embeddings={"w": tmp_path / "w.safetensors"}, device="simulated:vram=1,link=12", max_vram=0.03) as pipe:
        assert np.array_equal(pipe.generate("a w circle", **SETTINGS).latents[0], wanted)  # type: ignore[arg-type]


def test_a_folder_leaves_out_what_does_not_fit(tmp_path: Path, vectors: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "below").mkdir()
    tiny.write_safetensors(tmp_path / "below" / "fits.safetensors", {"emb_params": vectors})
    tiny.write_safetensors(tmp_path / "other.safetensors", {"emb_params": np.ones((2, 777), np.float32)})
    (tmp_path / "noise.pt").write_bytes(b"no embedding")
    with caplog.at_level(logging.WARNING, "sdcpp_py"), Pipeline(embedding_dir=tmp_path) as pipe:
        assert [word.name for word in pipe._prompts.words.words] == ["fits"]
    assert "other.safetensors is an embedding for another model" in caplog.text and "noise.pt" in caplog.text
    with pytest.raises(InvalidArgumentError, match="for another model: its vectors have 777"):
        Pipeline(embeddings=[tmp_path / "other.safetensors"])


def test_files_that_cannot_be(tmp_path: Path, vectors: np.ndarray) -> None:
    width = vectors.shape[1]
    for name, arrays, problem, words in (
        ("long", np.zeros((76, width), np.float32), InvalidArgumentError, "up to 75"),
        ("nan", np.full((1, width), np.nan, np.float32), BadFileError, "finite"),
        ("empty", np.zeros((0, width), np.float32), BadFileError, "no embedding"),
    ):
        tiny.write_safetensors(tmp_path / f"{name}.safetensors", {"emb_params": arrays})
        with pytest.raises(problem, match=words):
            Pipeline(embeddings=[tmp_path / f"{name}.safetensors"])
    with pytest.raises(ModelNotFoundError, match="no such file"):
        Pipeline(embeddings=[tmp_path / "nowhere.pt"])
    with pytest.raises(ModelNotFoundError, match="does not exist"):
        Pipeline(embedding_dir=tmp_path / "nowhere")
    with pytest.raises(InvalidArgumentError, match="must be a list"):
        Pipeline(embeddings="file.pt")
    with pytest.raises(BadFileError, match="no embedding"):
        Pipeline(embeddings=[embedded_model()])


def table(**words: int) -> embeddings.Table:
    """Words with so many vectors each."""
    made = [
        embeddings.Word(name, Path(name), {"e": np.zeros((count, 4), np.float32)}, tuple(_clip_tokenizer.encode(name)))
        for name, count in words.items()
    ]
    first, number = {}, 49408
    for word in made:
        first[word.name] = number
        number += word.count
    return embeddings.Table(made, {"e": np.zeros((number - 49408, 4), np.float32)}, {"e": first})


def test_a_word_of_n_vectors_takes_n_places_and_stays_in_one_chunk() -> None:
    words = table(wxq=3)
    ids = prompt.tokenize("one wxq two", words=words, encoder="e").ids
    one, two = _clip_tokenizer.encode("one two")
    assert ids[1:6] == (one, 49408, 49409, 49410, two)
    filler = "one " * 73  # two places are left in the first chunk
    tokens = prompt.tokenize(f"{filler}wxq", words=words, encoder="e")
    assert tokens.chunks == 2 and tokens.ids[74] == _clip_tokenizer.END and tokens.ids[78:81] == (49408, 49409, 49410)


def test_the_longest_name_counts() -> None:
    words = table(wxq=1, **{"wxq-more": 2})
    more = prompt.tokenize("a WXQ-more b", words=words, encoder="e").ids
    assert more[2:4] == (49409, 49410)
    assert [word.name for word in words.used_in("wxq, wxq-more")] == ["wxq", "wxq-more"]
