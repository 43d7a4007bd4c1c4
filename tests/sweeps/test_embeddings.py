"""Pictures of vectors: the projections, which vectors are read, and what is said of the rest."""

import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save
from sklearn.decomposition import PCA

from sweeps import embeddings
from sweeps.chapters import chapters
from sweeps.cli import medsweep
from sweeps.embeddings import find_pictures, principal_components, project
from sweeps.errors import StoreError
from sweeps.figures import _embeddings as figure
from sweeps.regenerate import regenerate
from sweeps.store import ResultsStore
from tests.sweeps.fabricate import ARMS, fabricate

NAMES = {"diagnoses": "d.weight", "procedures": "p.weight", "medications": "m.weight"}
DIAGNOSES = ("9:4280", "9:42731", "9:25000", "9:V5861", "10:I5023", "10:E119")
PROCEDURES = ("9:3961", "9:9604", "10:02HV33Z")


def groups(rng, size: int = 30, width: int = 16):
    """Three groups of vectors far from one another, and the group of each."""
    centres = 20 * rng.normal(size=(3, width))
    group = np.arange(3 * size) % 3
    vectors = centres[group] + rng.normal(size=(3 * size, width))
    return vectors.astype(np.float32), group


def tensors(rng, drugs: int = 12, width: int = 8) -> dict[str, np.ndarray]:
    rows = {"d.weight": len(DIAGNOSES) + 2, "p.weight": len(PROCEDURES), "m.weight": drugs + 1}
    return {name: rng.normal(size=(n, width)).astype(np.float32) for name, n in rows.items()}


def put(store: ResultsStore, key: str, weights: bytes) -> None:
    """Replaces the weights of a stored trial."""
    old = store.load(key)
    shutil.rmtree(store.root / "trials" / key)
    rows = [{"epoch": 1.0, "loss": 1.0, "jaccard": 0.5, "seconds": 1.0}]
    store.save(key, old.summary, rows, old.predictions, weights)


def weighted(root, arms=ARMS):
    """A fabricated study whose trials hold vectors; the first seed's are returned by arm."""
    rng = np.random.default_rng(3)
    record = fabricate(root, seeds=2, resamples=20, arms=arms)
    codes = {"diagnoses": DIAGNOSES, "procedures": PROCEDURES}
    record = record.model_copy(update={"vocabulary": codes})
    store = ResultsStore(root)
    store.write_study(record)
    first = {}
    for arm in record.arms:
        for seed, key in arm.trials.items():
            made = tensors(rng)
            first.setdefault(arm.name, made)
            put(store, key, save(made))
            assert seed in ("0", "1")
    return store, record, first


@pytest.fixture
def all_but_popular(monkeypatch):
    monkeypatch.setattr(embeddings, "declared", lambda name: {} if name == "popular" else NAMES)


def test_principal_components_equal_those_of_another_library():
    vectors = np.random.default_rng(0).normal(size=(40, 7)).astype(np.float32)
    expected = PCA(2, svd_solver="full").fit_transform(vectors.astype(np.float64))
    found = principal_components(vectors)
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found, expected * signs, atol=1e-4)
    np.testing.assert_allclose(principal_components(vectors + 5), found, atol=1e-4)
    assert principal_components(vectors[:1]).tolist() == [[0.0, 0.0]]
    assert principal_components(vectors[:, :1]).shape == (40, 2)


@pytest.mark.parametrize("method", embeddings.METHODS)
def test_groups_stay_groups_and_points_are_the_same_each_time(method):
    vectors, group = groups(np.random.default_rng(1))
    placed = project(vectors, method)
    distance = np.linalg.norm(placed[:, None] - placed[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    assert (group[distance.argmin(axis=1)] == group).all()
    np.testing.assert_array_equal(project(vectors, method), placed)


@pytest.mark.parametrize("vectors", [np.ones((50, 4)), np.eye(3)], ids=["equal", "few"])
def test_what_has_no_neighbours_gets_principal_components(vectors):
    vectors = vectors.astype(np.float32)
    np.testing.assert_array_equal(project(vectors, "tsne"), principal_components(vectors))


def test_codes_belong_to_the_chapters_of_the_classification():
    assert chapters("diagnoses", DIAGNOSES) == [
        "ICD-9 390-459 circulation",
        "ICD-9 390-459 circulation",
        "ICD-9 240-279 endocrine, metabolic",
        "ICD-9 V01-V91 factors of health",
        "ICD-10 I circulation",
        "ICD-10 E endocrine, metabolic",
    ]
    assert chapters("procedures", PROCEDURES) == [
        "ICD-9 35-39 cardiovascular system",
        "ICD-9 87-99 Miscellaneous diagnostic and therapeutic procedures",
        "ICD-10 0 Medical and Surgical",
    ]
    assert chapters("medications", ["B01A", "x"]) == ["B blood", "x"]
    assert chapters("procedures", ["cardiovascular|shock", ""]) == ["c", ""]


def test_the_largest_chapters_have_colours():
    names = [c for c, n in zip("abcdefghij", range(1, 11), strict=True) for _ in range(n)]
    tones = figure.colours(names)
    assert list(tones) == list("jihgfedc")
    assert len(set(tones.values())) == 8


def test_points_are_those_of_the_first_seeds_vectors(tmp_path, all_but_popular):
    store, record, first = weighted(tmp_path)
    found = find_pictures(store, record, "pca")
    assert [each.arm for each in found.arms] == [
        "Full model",
        "GAMENet",
        "Full model without DDI loss_&",
        "Full model without graph",
    ]
    assert [each.seed for each in found.arms] == [0] * 4
    assert found.without == (("Most popular", "its model names no vectors of codes"),)
    own = first["full"]
    rows = (own["d.weight"][:6], own["p.weight"], own["m.weight"][:12])  # further rows are ignored
    expected = principal_components(np.concatenate(rows))
    points = found.arms[0].points
    assert list(points) == ["diagnoses", "procedures", "medications"]
    np.testing.assert_array_equal(np.concatenate(list(points.values())), expected)


def test_unusable_weights_are_told(tmp_path, all_but_popular):
    store, record, first = weighted(tmp_path)
    keys = {arm.name: arm.trials for arm in record.arms}
    put(store, keys["gamenet"]["0"], b"weights")
    bad = {**first["full"]}
    bad["d.weight"] = bad["d.weight"][:5]
    del bad["p.weight"]
    put(store, keys["full"]["0"], save(bad))
    bad = {**first["no_ddi"]}
    bad["p.weight"] = bad["p.weight"] * np.float32(np.nan)
    bad["m.weight"] = bad["m.weight"][:, :5].copy()
    put(store, keys["no_ddi"]["0"], save(bad))
    for key in keys["no_graph"].values():
        shutil.rmtree(tmp_path / "trials" / key)
    found = find_pictures(store, record, "pca")
    assert [(each.arm, list(each.points)) for each in found.arms] == [
        ("Full model", ["medications"]),
        ("Full model without DDI loss_&", ["diagnoses"]),
    ]
    assert [why for _, why in found.without] == [
        "diagnoses: d.weight has shape [5, 8], and 6 codes are asked for",
        "procedures: p.weight is not among its weights",
        "its model names no vectors of codes",
        "its stored trial has no weights that can be read",
        "procedures: p.weight has values that are not finite",
        "medications: m.weight has 5 numbers a code, other kinds 8",
        "no trial is stored",
    ]


def test_four_arms_and_two_thousand_codes_at_most(tmp_path, monkeypatch):
    arms = [ARMS[2], *((f"a{i}", f"Arm {i}", f"m{i}", None, True, 0.3) for i in range(5))]
    monkeypatch.setattr(embeddings, "declared", lambda name: {} if name == "m4" else NAMES)
    monkeypatch.setattr(embeddings, "MOST_CODES", 4)
    store, record, _ = weighted(tmp_path, arms)
    found = find_pictures(store, record, "pca")
    assert [each.arm for each in found.arms] == ["Full model", "Arm 0", "Arm 1", "Arm 2"]
    assert found.left_out == ("Arm 3",)
    assert found.vocabulary["diagnoses"] == DIAGNOSES[:4]
    assert len(found.arms[0].points["diagnoses"]) == 4
    assert found.cut == ("diagnoses", "medications")
    drawn = figure.draw(found)
    assert "Left out for space: Arm 3." in drawn.caption
    assert "Of diagnoses and medications only the first" in drawn.caption


def test_a_study_without_vectors_is_refused_before_anything_is_written(tmp_path):
    """The models of this study are no plug-ins here."""
    record = fabricate(tmp_path, resamples=20)
    store = ResultsStore(tmp_path)
    with pytest.raises(StoreError, match=r"before study\.json held the codes"):
        find_pictures(store, record, "pca")
    store.write_study(record.model_copy(update={"vocabulary": {"diagnoses": DIAGNOSES}}))
    with pytest.raises(StoreError, match="Most popular: its model names no vectors") as refused:
        regenerate(tmp_path, ("html",), "pca")
    assert "without --embeddings" in str(refused.value)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("method", embeddings.METHODS)
def test_the_report_has_the_picture_and_the_same_bytes_each_time(
    tmp_path, all_but_popular, method
):
    store, _, _ = weighted(tmp_path)
    paths = regenerate(tmp_path, ("html",), method)
    assert tmp_path / "figures" / "embeddings.svg" in paths
    text = (tmp_path / "report.html").read_text()
    assert 'id="figure-embeddings"' in text
    assert ("t-SNE (scikit-learn" in text) == (method == "tsne")
    assert "Not shown: Most popular: its model names no vectors of codes." in text
    before = {path: path.read_bytes() for path in paths}
    assert regenerate(tmp_path, ("html",), method) == paths
    assert {path: path.read_bytes() for path in paths} == before
    assert store.study().name in text


def test_the_command_takes_the_method_or_none(tmp_path, all_but_popular):
    weighted(tmp_path)
    picture = tmp_path / "figures" / "embeddings.svg"
    for further, made in ([], False), (["--embeddings", "pca"], True), (["--embeddings"], True):
        picture.unlink(missing_ok=True)
        ran = CliRunner().invoke(medsweep, ["report", str(tmp_path), *further])
        assert ran.exit_code == 0, ran.output
        assert picture.is_file() == made
    ran = CliRunner().invoke(medsweep, ["report", str(tmp_path), "--embeddings", "umap"])
    assert ran.exit_code == 2
    assert "pca" in ran.output
