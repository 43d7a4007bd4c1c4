"""What trained models place near each other: vectors of codes, brought to two dimensions.

As in KindMed's and DKINet's pictures of node embeddings (Fig. 5 of each). The vectors come from
the stored weights; codes are public names, so nothing here is of a patient.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32

from medrec import plugins
from medrec.cohort import KINDS, Kind
from medrec.errors import UnknownPluginError
from sweeps.errors import StoreError
from sweeps.record import Arm, StudyRecord
from sweeps.store import ResultsStore

Method = Literal["tsne", "pca"]
METHODS: tuple[Method, ...] = ("tsne", "pca")
MOST_ARMS = 4
MOST_CODES = 2000  # of a kind
PERPLEXITY = 30.0
ITERATIONS = 500  # the library's 1,000 take twice the time; the divergence is hardly smaller
ANGLE = 0.8  # of the approximation; a quarter faster than the library's 0.5, divergence + 0.1 %
SEED = 0
_FEWEST = 5  # points below which t-SNE means nothing


@dataclass(frozen=True)
class Picture:
    """One trained model's codes in the plane.

    Attributes:
        arm: title of the arm.
        seed: of the trial; None where training needs none.
        points: place of each code by kind, in the order of the vocabulary.
    """

    arm: str
    seed: int | None
    points: Mapping[Kind, Float32[np.ndarray, "codes 2"]]


@dataclass(frozen=True)
class Pictures:
    """The pictures and what their reader must know.

    Attributes:
        method: how vectors became points.
        arms: a picture each, the study's reference first.
        vocabulary: the codes that are shown, by kind.
        cut: kinds of which only the first `MOST_CODES` codes are shown.
        left_out: titles of arms beyond the number that is shown.
        without: title of an arm, and why it has no picture or lacks a kind.
    """

    method: Method
    arms: tuple[Picture, ...]
    vocabulary: Mapping[Kind, tuple[str, ...]]
    cut: tuple[Kind, ...]
    left_out: tuple[str, ...]
    without: tuple[tuple[str, str], ...]


def find_pictures(store: ResultsStore, record: StudyRecord, method: Method) -> Pictures:
    """Returns a picture of each arm whose model says where its vectors are, at most four.

    Args:
        store: the results directory.
        record: its study record.
        method: `tsne`, or `pca` which is quick.

    Raises:
        StoreError: no arm has a picture; the message says why of each.
        DamagedTrialError: a stored trial does not match its manifest.
    """
    whole = _vocabulary(record)
    vocabulary = {kind: found[:MOST_CODES] for kind, found in whole.items()}
    without: list[tuple[str, str]] = []
    usable: list[tuple[str, int | None, dict[Kind, np.ndarray]]] = []
    beyond: list[str] = []
    for arm in sorted(record.arms, key=lambda arm: arm.name != record.reference):
        if len(usable) == MOST_ARMS:
            beyond += [arm.title] if declared(arm.model) else []
            continue
        vectors, seed, why_not = _vectors(store, arm, vocabulary)
        without += [(arm.title, why) for why in why_not]
        if vectors:
            usable.append((arm.title, seed, vectors))
    if not usable:
        reasons = "; ".join(f"{title}: {why}" for title, why in without)
        raise StoreError(
            f"No arm has vectors of codes to picture ({reasons}). Make the report without "
            "--embeddings, or add an arm whose model has them."
        )
    placed = _all_points([vectors for _, _, vectors in usable], method)
    return Pictures(
        method=method,
        arms=tuple(
            Picture(title, seed, points)
            for (title, seed, _), points in zip(usable, placed, strict=True)
        ),
        vocabulary=vocabulary,
        cut=tuple(kind for kind in KINDS if len(whole[kind]) > MOST_CODES),
        left_out=tuple(beyond),
        without=tuple(without),
    )


def declared(model: str) -> Mapping[Kind, str]:
    """Returns the tensor's name by kind of code; none for a model that has no such vectors."""
    from medrec.models._base import Model  # imports torch

    try:
        plugin: Model = plugins.load_model(model)
    except UnknownPluginError:  # the study was run with a plug-in that is not here
        return {}
    return plugin.embeddings


def _vocabulary(record: StudyRecord) -> dict[Kind, tuple[str, ...]]:
    if not record.vocabulary:
        raise StoreError(
            "This study was run before study.json held the codes, so vectors have no names. Run "
            "the same study again, which writes it anew; stored trials are kept."
        )
    return {
        "diagnoses": record.vocabulary.get("diagnoses", ()),
        "procedures": record.vocabulary.get("procedures", ()),
        "medications": record.medications,
    }


def _vectors(
    store: ResultsStore, arm: Arm, vocabulary: Mapping[Kind, tuple[str, ...]]
) -> tuple[dict[Kind, np.ndarray], int | None, list[str]]:
    """Returns vectors by kind, the trial's seed, and what is wrong with the arm or a kind."""
    names = declared(arm.model)
    if not names:
        return {}, None, ["its model names no vectors of codes"]
    ordered = sorted((int(seed), key) for seed, key in arm.trials.items())
    stored = [(seed, key) for seed, key in ordered if store.has(key)]
    if not stored:
        return {}, None, ["no trial is stored"]
    tensors = _tensors(store, stored[0][1])
    if not tensors:
        return {}, None, ["its stored trial has no weights that can be read"]
    found: dict[Kind, np.ndarray] = {}
    wrong = []
    for kind in [kind for kind in KINDS if kind in names and vocabulary[kind]]:
        tensor = tensors.get(names[kind])
        width = next(iter(found.values())).shape[1] if found else None
        why_not = _unusable(tensor, len(vocabulary[kind]), width)
        if why_not or tensor is None:
            wrong.append(f"{kind}: {names[kind]} {why_not}")
        else:
            found[kind] = tensor[: len(vocabulary[kind])].astype(np.float32)
    return found, stored[0][0] if arm.seeded else None, wrong


def _tensors(store: ResultsStore, key: str) -> dict[str, np.ndarray]:
    """Returns the trial's weights; none where they are in no form that NumPy can hold."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(load(store.weights(key)))
    except (SafetensorError, KeyError, TypeError):
        return {}


def _unusable(tensor: np.ndarray | None, codes: int, width: int | None) -> str:
    """Returns why a tensor cannot be pictured; empty if it can."""
    if tensor is None:
        return "is not among its weights"
    if tensor.ndim != 2 or len(tensor) < codes:
        return f"has shape {list(tensor.shape)}, and {codes} codes are asked for"
    if not np.isfinite(tensor[:codes]).all():
        return "has values that are not finite"
    if width is not None and tensor.shape[1] != width:
        return f"has {tensor.shape[1]} numbers a code, other kinds {width}"
    return ""


def _all_points(
    arms: Sequence[Mapping[Kind, np.ndarray]], method: Method
) -> list[dict[Kind, np.ndarray]]:
    """Returns every arm's points; arms share the cores, each on one of them."""
    from threadpoolctl import threadpool_limits

    # The limit on BLAS is the process's: it must hold until the last arm is done.
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda vectors: _points(vectors, method), arms))


def _points(vectors: Mapping[Kind, np.ndarray], method: Method) -> dict[Kind, np.ndarray]:
    together = np.concatenate(list(vectors.values()))
    placed = project(together, method)
    ends = np.cumsum([len(each) for each in vectors.values()])
    return dict(zip(vectors, np.split(placed, ends[:-1]), strict=True))


def project(
    vectors: Float32[np.ndarray, "codes width"], method: Method
) -> Float32[np.ndarray, "codes 2"]:
    """Returns the vectors in two dimensions; the same points each time on a machine.

    t-SNE starts from the two principal components and runs on one thread, because the order of
    its sums would otherwise depend on threads. Few or equal vectors get principal components.
    """
    start = principal_components(vectors)
    spread = float(start[:, 0].std())
    if method == "pca" or len(vectors) < _FEWEST or spread == 0.0:
        return start
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        placed = TSNE(
            perplexity=min(PERPLEXITY, (len(vectors) - 1) / 3),
            max_iter=ITERATIONS,
            angle=ANGLE,
            init=(start / spread * 1e-4).astype(np.float32),  # the library's own scale
            random_state=SEED,
        ).fit_transform(vectors)
    return np.asarray(placed, dtype=np.float32)


def principal_components(
    vectors: Float32[np.ndarray, "codes width"],
) -> Float32[np.ndarray, "codes 2"]:
    """Returns the first two principal components; each axis' largest loading is positive."""
    from threadpoolctl import threadpool_limits

    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    with threadpool_limits(1):
        _, _, axes = np.linalg.svd(centred, full_matrices=False)
        axes = axes[:2]
        largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
        placed = centred @ (axes * np.where(largest < 0, -1.0, 1.0)).T
    missing = 2 - placed.shape[1]  # one code, or vectors of one number
    return np.pad(placed, ((0, 0), (0, missing))).astype(np.float32)
