"""Titles of codes as vectors: "ngrams", or a language model in a local folder.

n-grams: tf-idf of the pieces of words, 3 or 4 characters long, reduced by a singular value
decomposition. They need no download and know spelling alone: "heart failure" is near "failure of
the heart", far from "cardiac insufficiency".

A language model: a folder as Hugging Face's `save_pretrained` writes it, weights as safetensors.
Nothing is ever downloaded. Needs the optional dependency `medsweep[text]`.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32

from medrec.errors import KnowledgeError
from medrec.knowledge.cache import Entry, cached

NGRAMS = "ngrams"
SCHEMA = 1
_PIECES = (3, 4)  # characters
_LEAST = 1e-6  # a shorter vector is rounding error, and has no direction
_TOKENS = 128  # of a title that a language model reads
_TITLES = 64  # read at once
_MODEL_FILES = (".json", ".safetensors", ".txt", ".model")
_WIDTHS = ("hidden_size", "d_model", "dim", "n_embd")  # what models call their width


@runtime_checkable
class TextEncoder(Protocol):
    """Makes vectors of texts. The same text gives the same vector, in every process."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def fingerprint(self) -> str:
        """sha256 of everything the vectors depend on besides the texts."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""

    def encode(self, texts: Sequence[str]) -> Float32[np.ndarray, "texts dimension"]:
        """Returns a vector of each text, of length 1; 0 for an empty one."""


@dataclass(frozen=True)
class NgramEncoder:
    """tf-idf of character n-grams and a singular value decomposition, fitted on some titles.

    Attributes:
        titles: the titles; their order and repetitions do not matter.
        dimension: of the vectors; zeros fill what few titles leave.
    """

    titles: tuple[str, ...]
    dimension: int
    name: str = NGRAMS

    def __post_init__(self) -> None:
        if self.dimension < 1:
            raise KnowledgeError(
                f"The dimension of title vectors must be at least 1, but it is {self.dimension}."
            )

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of titles, dimension, and the versions that compute."""
        import scipy
        import sklearn

        versions = [np.__version__, scipy.__version__, sklearn.__version__]
        return _digest([SCHEMA, self.name, _PIECES, self.dimension, versions, self._fitted_on])

    def encode(self, texts: Sequence[str]) -> Float32[np.ndarray, "texts dimension"]:
        """Returns a vector of each text, of length 1; 0 where no piece of it is known."""
        vectors = np.zeros((len(texts), self.dimension))
        if self._fitted_on and len(texts):
            vectorizer, axes = self._fit
            vectors[:, : len(axes)] = (
                vectorizer.transform([text.strip() for text in texts]) @ axes.T
            )
        return _normalised(vectors)

    @cached_property
    def _fitted_on(self) -> list[str]:
        return sorted({title.strip() for title in self.titles} - {""})

    @cached_property
    def _fit(self) -> tuple[Any, Float[np.ndarray, "axes pieces"]]:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]

        vectorizer = TfidfVectorizer(
            analyzer="char_wb", ngram_range=_PIECES, sublinear_tf=True, dtype=np.float32
        )
        weights = vectorizer.fit_transform(self._fitted_on)
        with threadpool_limits(1):  # the number of threads would change the rounding
            return vectorizer, _axes(weights, self.dimension)


def _axes(weights: Any, dimension: int) -> Float[np.ndarray, "axes pieces"]:
    """Returns the right singular vectors of the largest singular values, at most `dimension`."""
    from sklearn.utils.extmath import randomized_svd

    if min(weights.shape) > dimension:
        # ARPACK takes twice as long on 20,000 titles.
        _, _, axes = randomized_svd(weights, dimension, n_iter=4, random_state=0)
    else:
        _, values, axes = np.linalg.svd(weights.toarray(), full_matrices=False)
        axes = axes[values > _LEAST * values[0]]
    largest = np.argmax(np.abs(axes), axis=1)  # either sign would do; this one is always the same
    return axes * np.sign(axes[np.arange(len(axes)), largest])[:, None]


@dataclass(frozen=True)
class ModelEncoder:
    """A language model: the mean over its last layer at the tokens of a text.

    Attributes:
        folder: holds config.json, tokenizer files and weights as safetensors.

    Raises:
        KnowledgeError: the folder is missing or its config.json is not a model's; when texts are
            encoded, also if `transformers` is not installed or cannot read the model.
    """

    folder: Path

    def __post_init__(self) -> None:
        if not (self.folder / "config.json").is_file():
            raise KnowledgeError(
                f"{self.folder} is neither {NGRAMS!r} nor the folder of a language model (with "
                f'config.json in it). Give "{NGRAMS}", or the folder of a model downloaded before.'
            )
        _ = self.dimension  # a wrong config.json is noticed now, not after the titles are read

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.resolve().name

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the files, wherever they are."""
        files = sorted(path for path in self.folder.iterdir() if path.suffix in _MODEL_FILES)
        try:
            content = [(path.name, _checksum(path)) for path in files]
        except OSError as error:
            raise KnowledgeError(f"{error.filename} cannot be read: {error.strerror}.") from error
        return _digest([SCHEMA, _TOKENS, content])

    @cached_property
    def dimension(self) -> int:
        """Width of the model's layers."""
        path = self.folder / "config.json"
        try:
            config = json.loads(path.read_bytes())
            return next(config[name] for name in _WIDTHS if isinstance(config.get(name), int))
        except (OSError, ValueError, AttributeError, StopIteration) as error:
            raise KnowledgeError(
                f"{path} must give the width of a language model ({' or '.join(_WIDTHS)}), as "
                "Hugging Face's save_pretrained writes it. Save or download the model again."
            ) from error

    def encode(self, texts: Sequence[str]) -> Float32[np.ndarray, "texts dimension"]:
        """Returns a vector of each text, of length 1; 0 for an empty one."""
        vectors = np.zeros((len(texts), self.dimension))
        rows: dict[str, list[int]] = {}
        for row, text in enumerate(texts):
            rows.setdefault(text.strip(), []).append(row)
        # Texts of like length together: little padding.
        distinct = sorted(set(rows) - {""}, key=lambda text: (len(text), text))
        for start in range(0, len(distinct), _TITLES):
            some = distinct[start : start + _TITLES]
            for text, vector in zip(some, self._read(some), strict=True):
                vectors[rows[text]] = vector
        return _normalised(vectors)

    def _read(self, texts: list[str]) -> Float[np.ndarray, "texts dimension"]:
        tokenizer, model = self._loaded
        longest = min(_TOKENS, getattr(model.config, "max_position_embeddings", _TOKENS))
        tokens = tokenizer(
            texts, padding=True, truncation=True, max_length=longest, return_tensors="pt"
        )
        states = model(**tokens).last_hidden_state.numpy().astype(np.float64)
        mask = tokens["attention_mask"].numpy()[:, :, None]
        return (states * mask).sum(axis=1) / mask.sum(axis=1)

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """Tokenizer and model, for inference."""
        from safetensors import SafetensorError

        try:
            from transformers import (  # type: ignore[import-not-found,unused-ignore]
                AutoModel,
                AutoTokenizer,
            )
        except ImportError as error:
            raise KnowledgeError(
                f"The language model {self.folder} needs the package transformers. Install it "
                f'with `pip install "medsweep[text]"`, or use "{NGRAMS}".'
            ) from error
        local = {"local_files_only": True, "trust_remote_code": False}
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(self.folder), **local)
            model = AutoModel.from_pretrained(str(self.folder), use_safetensors=True, **local)
            if len(tokenizer) <= len(tokenizer.all_special_ids):  # made up where its files lack
                raise ValueError("the tokenizer knows no words")
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise KnowledgeError(
                f"{self.folder} must hold a language model, its tokenizer, and weights as "
                f"safetensors, but transformers cannot read it: {str(error).strip()[:300]}"
            ) from error
        return tokenizer, model.eval().requires_grad_(False)


def open_encoder(spec: str, titles: Sequence[str], dimension: int = 128) -> TextEncoder:
    """Returns the encoder of a name or path; nothing is computed or loaded yet.

    Args:
        spec: "ngrams", or the folder of a language model.
        titles: what n-grams are fitted on.
        dimension: of n-grams; a language model has its own.

    Raises:
        KnowledgeError: the folder is missing or holds no model, or the dimension is below 1.
    """
    if spec == NGRAMS:
        return NgramEncoder(tuple(titles), dimension)
    return ModelEncoder(Path(spec).expanduser())


def embed_titles(
    titles: dict[str, str],
    encoder_spec: str = NGRAMS,
    dimension: int = 128,
    cache: Path | None = None,
) -> tuple[tuple[str, ...], Float32[np.ndarray, "titles dimension"]]:
    """Returns the codes, sorted, and the vector of each one's title.

    The vectors have length 1, or 0 where the title is empty. The array cannot be written to: it
    may be one that all processes of a node share.

    Args:
        titles: English title of each code.
        encoder_spec: "ngrams", or the folder of a language model.
        dimension: of n-grams; a language model has its own.
        cache: folder that keeps the vectors; None computes them anew.

    Raises:
        KnowledgeError: the language model is missing or cannot be read, or `transformers`, which
            it needs, is not installed; a result in the cache needs neither the package.

    Example:
        >>> codes, vectors = embed_titles({"B": "heart failure", "A": ""}, dimension=2)
        >>> codes, vectors.tolist()
        (('A', 'B'), [[0.0, 0.0], [1.0, 0.0]])
    """
    codes = tuple(sorted(titles))
    texts = [titles[code] for code in codes]
    encoder = open_encoder(encoder_spec, texts, dimension)
    key = [SCHEMA, encoder.fingerprint, texts]
    entry = cached(cache, "titles", key, lambda: Entry({"vectors": encoder.encode(texts)}))
    return codes, entry.arrays["vectors"]


def _normalised(
    vectors: Float[np.ndarray, "texts dimension"],
) -> Float32[np.ndarray, "texts dimension"]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > _LEAST)
    return directions.astype(np.float32)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
