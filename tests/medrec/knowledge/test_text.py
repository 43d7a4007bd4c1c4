"""Vectors of titles: spelling by n-grams, and a tiny random language model."""

import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from medrec.errors import KnowledgeError
from medrec.knowledge import text as module
from medrec.knowledge.text import (
    ModelEncoder,
    NgramEncoder,
    TextEncoder,
    embed_titles,
    open_encoder,
)
from tests.shared_data import shared_data

TITLES = {
    "9:4280": "Congestive heart failure, unspecified",
    "9:42820": "Systolic heart failure, unspecified",
    "10:I5030": "Unspecified diastolic (congestive) heart failure",
    "9:8208": "Closed fracture of unspecified part of neck of femur",
    "10:S72001A": "Fracture of unspecified part of neck of right femur, initial encounter",
    "9:25000": "Diabetes mellitus without mention of complication",
    "10:E119": "Type 2 diabetes mellitus without complications",
    "9:0000": "",
}
ALIKE = [("9:4280", "9:42820", "10:I5030"), ("9:8208", "10:S72001A"), ("9:25000", "10:E119")]


def lookup(titles, *args, **kwargs):
    codes, vectors = embed_titles(titles, *args, **kwargs)
    return dict(zip(codes, np.array(vectors), strict=True))


def assert_alike_is_near(vectors):
    for group in ALIKE:
        others = [code for codes in ALIKE if codes != group for code in codes]
        for code in group:
            near = min(vectors[code] @ vectors[other] for other in group)
            far = max(vectors[code] @ vectors[other] for other in others)
            assert near > far + 0.1, (code, near, far)


@pytest.mark.parametrize("dimension", [4, 7, 128])  # below, at and above the number of titles
def test_like_titles_are_near(dimension):
    assert_alike_is_near(lookup(TITLES, dimension=dimension))


@pytest.mark.parametrize("dimension", [1, 5, 7, 300])
def test_form(dimension):
    codes, vectors = embed_titles(TITLES, dimension=dimension)
    assert codes == tuple(sorted(TITLES))
    assert vectors.shape == (8, dimension)
    assert vectors.dtype == np.float32
    lengths = np.linalg.norm(vectors, axis=1)
    assert lengths.tolist() == pytest.approx([float(bool(TITLES[code])) for code in codes])
    assert not vectors[:, 7:].any()  # seven titles span seven dimensions


def test_with_room_for_all_the_cosines_are_those_of_tfidf():
    texts = [title for title in TITLES.values() if title]
    tfidf = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True)
    expected = tfidf.fit_transform(texts)
    vectors = NgramEncoder(tuple(texts), 7).encode(texts)
    np.testing.assert_allclose(vectors @ vectors.T, (expected @ expected.T).toarray(), atol=1e-5)


def test_few_dimensions_are_the_best_ones():
    """The subspace must keep as much of tf-idf as the exact decomposition's does."""
    words = [
        "acute",
        "chronic",
        "heart",
        "renal",
        "failure",
        "fracture",
        "femur",
        "closed",
        "left",
    ]
    rng = np.random.default_rng(3)
    texts = sorted({" ".join(rng.choice(words, 5)) for _ in range(300)})
    exact = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True)
    matrix = exact.fit_transform(texts).toarray()
    best = (np.linalg.svd(matrix, compute_uv=False)[:10] ** 2).sum()
    axes = NgramEncoder(tuple(texts), 10)._fit[1]
    assert axes.shape[0] == 10
    assert ((matrix @ axes.T) ** 2).sum() == pytest.approx(best, rel=0.01)


def test_order_repetition_and_blanks_change_nothing():
    texts = tuple(TITLES.values())
    one = NgramEncoder(texts, 5)
    other = NgramEncoder((*texts[::-1], *(f" {text}\n" for text in texts)), 5)
    assert one.fingerprint == other.fingerprint
    assert (one.encode(texts) == other.encode(texts)).all()
    assert (one.encode([texts[3]])[0] == one.encode(texts)[3]).all()
    assert (one.encode([f" {texts[3]} "])[0] == one.encode(texts)[3]).all()


def test_fingerprints_tell_titles_and_dimensions_apart():
    texts = tuple(TITLES.values())
    encoders = [NgramEncoder(texts, 5), NgramEncoder(texts, 6), NgramEncoder(texts[1:], 5)]
    assert len({encoder.fingerprint for encoder in encoders}) == 3


def test_a_text_of_unknown_pieces_is_zero():
    vectors = NgramEncoder(("heart failure",), 3).encode(["qqqq", "", "heart"])
    assert vectors.any(axis=1).tolist() == [False, False, True]


@pytest.mark.parametrize("titles", [{}, {"A": ""}, {"A": " ", "B": ""}])
def test_nothing_to_read(titles):
    codes, vectors = embed_titles(titles, dimension=3)
    assert codes == tuple(titles)
    assert vectors.tolist() == [[0.0] * 3] * len(titles)


@pytest.mark.parametrize("title", ["x", "é", "a b", "123", "心不全"])
def test_short_and_foreign_titles_have_a_direction(title):
    vectors = lookup({"A": title, "B": "heart failure"}, dimension=4)
    assert vectors["A"] @ vectors["A"] == pytest.approx(1.0)
    assert vectors["A"] @ vectors["B"] == pytest.approx(0.0, abs=1e-6)


def test_other_processes_get_the_same_bits():
    texts = [f"{a} {b} of the {c}" for a in TITLES.values() for b in "xyz" for c in ("hip", "ear")]
    titles = {str(i): text for i, text in enumerate(texts)}
    code = (
        "import hashlib; from medrec.knowledge.text import embed_titles\n"
        "for dimension in (6, 60):\n"  # both ways to decompose
        f"    codes, vectors = embed_titles({titles!r}, dimension=dimension)\n"
        "    print(hashlib.sha256(vectors.tobytes()).hexdigest())"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "OPENBLAS_NUM_THREADS": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(answers) == 1
    assert len(set(answers.pop().split())) == 2


def test_vectors_are_kept(tmp_path, monkeypatch):
    first = lookup(TITLES, dimension=5, cache=tmp_path)
    [folder] = tmp_path.iterdir()
    assert folder.name.startswith("titles-")

    def fail(*args):
        raise AssertionError("computed again")

    monkeypatch.setattr(NgramEncoder, "encode", fail)
    again = lookup(dict(reversed(TITLES.items())), dimension=5, cache=tmp_path)
    assert all((first[code] == again[code]).all() for code in TITLES)
    with pytest.raises(AssertionError, match="computed again"):
        lookup(TITLES | {"9:0000": "other"}, dimension=5, cache=tmp_path)


def test_titles_of_icd_9():
    path = shared_data("knowledge", "open", "icd", "CMS32_DESC_LONG_DX.txt.gz")
    import gzip

    lines = gzip.decompress(path.read_bytes()).decode("latin-1").splitlines()
    pairs = [line.split(maxsplit=1) for line in lines]
    titles = {code: title for code, title in pairs if code[:3] in ("410", "428", "820", "250")}
    vectors = lookup(titles, dimension=32)
    right = 0
    for code, vector in vectors.items():
        near = max(
            (other for other in vectors if other != code), key=lambda o: vectors[o] @ vector
        )
        right += near[:3] == code[:3]
    assert len(titles) > 80
    assert right == len(titles)


@pytest.mark.parametrize("dimension", [0, -1])
def test_a_dimension_is_at_least_1(dimension):
    with pytest.raises(KnowledgeError, match=f"at least 1, but it is {dimension}"):
        embed_titles(TITLES, dimension=dimension)


@pytest.mark.parametrize("spec", ["ngram", "/nowhere", ""])
def test_another_name_is_an_error(spec):
    with pytest.raises(KnowledgeError, match=r"neither 'ngrams' nor the folder.*Give \"ngrams\""):
        embed_titles(TITLES, spec)


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "model").write_text("")
    with pytest.raises(KnowledgeError, match="neither"):
        open_encoder(str(tmp_path / "model"), [])


def test_without_transformers_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"hidden_size": 16}')
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        KnowledgeError, match=r'needs.*transformers.*pip install "medsweep\[text\]"'
    ):
        embed_titles(TITLES, str(tmp_path))


@pytest.mark.parametrize("config", ["", "x", "[]", "{}", '{"hidden_size": "16"}'])
def test_a_config_that_is_no_model_s_is_named(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(KnowledgeError, match=r"config\.json must give the width.*hidden_size"):
        open_encoder(str(tmp_path), [])


@pytest.mark.parametrize("kind", ["ngrams", "model"])
def test_both_kinds_have_one_face(tmp_path, kind):
    (tmp_path / "config.json").write_text('{"n_embd": 16}')
    encoder = open_encoder("ngrams" if kind == "ngrams" else str(tmp_path), ["heart"], 16)
    assert isinstance(encoder, TextEncoder)
    assert encoder.dimension == 16
    assert len(encoder.fingerprint) == 64
    assert encoder.name


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A random BERT of 16 dimensions, in the form that `save_pretrained` writes."""
    transformers = pytest.importorskip("transformers")
    import torch

    folder = tmp_path_factory.mktemp("models") / "tiny"
    words = sorted({word.strip("(),").lower() for t in TITLES.values() for word in t.split()})
    folder.mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ",", "(", ")", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
        hidden_dropout_prob=0.5,
    )
    transformers.BertModel(config).save_pretrained(folder)
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def test_a_model_s_vectors_are_the_means_over_its_tokens(model):
    import torch
    import transformers

    vectors = lookup(TITLES, str(model), dimension=3)  # a model has its own dimension
    network = transformers.AutoModel.from_pretrained(model).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    for code, title in TITLES.items():
        if not title:
            assert not vectors[code].any()
            continue
        with torch.no_grad():  # alone: nothing is padded
            states = network(**tokenizer(title, return_tensors="pt")).last_hidden_state[0]
        expected = states.mean(dim=0).numpy()
        np.testing.assert_allclose(vectors[code], expected / np.linalg.norm(expected), atol=1e-5)


def test_a_model_reads_long_titles_in_part_and_many_in_batches(model, monkeypatch):
    monkeypatch.setattr(module, "_TITLES", 2)
    encoder = ModelEncoder(model)
    texts = ["heart " * 500, "fracture", "", "fracture ", "heart " * 600, "femur", "neck"]
    vectors = encoder.encode(texts)
    assert vectors.shape == (7, encoder.dimension) == (7, 16)
    assert encoder.name == "tiny"
    assert (vectors[1] == vectors[3]).all()
    np.testing.assert_allclose(vectors[0], vectors[4], atol=1e-5)
    assert vectors.any(axis=1).tolist() == [True, True, False, True, True, True, True]
    assert encoder.encode([]).shape == (0, 16)


def test_a_model_s_fingerprint_is_of_its_content(model, tmp_path):
    import shutil

    copy = shutil.copytree(model, tmp_path / "copy")
    assert ModelEncoder(copy).fingerprint == ModelEncoder(model).fingerprint
    (copy / "vocab.txt").write_text((copy / "vocab.txt").read_text() + "more\n")
    assert ModelEncoder(copy).fingerprint != ModelEncoder(model).fingerprint


def test_what_is_kept_needs_no_transformers(model, tmp_path, monkeypatch):
    first = lookup(TITLES, str(model), cache=tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    again = lookup(TITLES, str(model), cache=tmp_path)
    assert all((first[code] == again[code]).all() for code in TITLES)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 100),
        lambda folder: (folder / "config.json").write_text('{"dim": 16}'),
        lambda folder: [
            file.unlink()
            for file in folder.glob("*")
            if "token" in file.name or "vocab" in file.name
        ],
    ],
)
def test_what_transformers_cannot_read_is_named(model, tmp_path, damage):
    import shutil

    copy = shutil.copytree(model, tmp_path / "copy")
    damage(copy)
    with pytest.raises(KnowledgeError, match=r"copy must hold a language model, its tokenizer"):
        embed_titles(TITLES, str(copy))
