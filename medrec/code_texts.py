"""Texts of diagnosis and procedure codes as word numbers, and a Transformer that reads them.

The text of a code is its English title. A code without one (the built-in knowledge has none for
ICD codes) is described by where it stands: its own name, then for each ancestor, nearest first,
the words of its title or, without one, its name; so codes of one family share words, as titles do.
"""

import re
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from medrec.cohort import Kind
from medrec.knowledge.base import Knowledge
from medrec.knowledge.bundle import Bundle
from medrec.knowledge.relations import node
from medrec.layers import Dropout

LONGEST = 32  # words of a text that are read; titles of ICD codes have 7 on average


@dataclass(frozen=True)
class CodeTexts:
    """The distinct texts of a cohort's codes, shortest first.

    Attributes:
        words: number of distinct words; word ids are 0..words-1, alphabetical.
        tokens: word ids of each text; beyond its length 0.
        lengths: words of each text, at least 1, ascending.
        text: text of each code: the diagnoses, then the procedures.
    """

    words: int
    tokens: Int64[np.ndarray, "texts longest"]
    lengths: Int64[np.ndarray, " texts"]
    text: Int64[np.ndarray, " codes"]


def code_texts(knowledge: Knowledge) -> CodeTexts:
    """Returns the texts of a cohort's diagnoses and procedures; the same in every process."""
    bundle = knowledge.bundle
    titles = dict(zip(bundle.nodes, bundle.titles, strict=True))
    kinds: tuple[Kind, ...] = ("diagnoses", "procedures")
    spelt = [
        _spell(node(kind, code), bundle, titles)
        for kind in kinds
        for code in knowledge.vocabulary[kind]
    ]
    texts = sorted(set(spelt), key=lambda text: (len(text), text))
    row = {text: i for i, text in enumerate(texts)}
    word = {each: i for i, each in enumerate(sorted({w for text in texts for w in text}))}
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    tokens = np.zeros((len(texts), max(lengths, default=1)), dtype=np.int64)
    for i, text in enumerate(texts):
        tokens[i, : len(text)] = [word[each] for each in text]
    return CodeTexts(
        words=len(word),
        tokens=tokens,
        lengths=lengths,
        text=np.array([row[text] for text in spelt], dtype=np.int64),
    )


def _spell(name: str, bundle: Bundle, titles: dict[str, str]) -> tuple[str, ...]:
    own = _words(titles.get(name, ""))
    if not own:
        above = bundle.ancestors(name)
        own = [name, *(word for each in above for word in _words(titles[each]) or [each])]
    return tuple(own[:LONGEST])


def _words(title: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", title.lower())


class CodeTextEncoder(nn.Module):
    """A Transformer encoder over the words of each code's text; a code is the mean of its words.

    Only texts of codes that occur are read, each once. Texts of one length are attended to
    together: no padding and no mask.
    """

    tokens: Tensor
    lengths: Tensor
    text: Tensor

    def __init__(
        self,
        texts: CodeTexts,
        dim: int,
        feed_forward: int,
        layers: int,
        heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        for name in ("tokens", "lengths", "text"):
            values = torch.from_numpy(getattr(texts, name))
            self.register_buffer(name, values, persistent=False)
        self.words = nn.Embedding(texts.words, dim)
        self.positions = nn.Embedding(texts.tokens.shape[1], dim)
        for table in (self.words, self.positions):
            nn.init.normal_(table.weight, std=0.02)  # as BERT
        self.norm = nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(
            _Layer(dim, feed_forward, heads, dropout) for _ in range(layers)
        )

    def forward(self, codes: Int64[Tensor, " occurrences"]) -> Float[Tensor, "occurrences dim"]:
        """Returns the vector of each code.

        Args:
            codes: diagnoses as in the vocabulary, procedures behind them.
        """
        if not len(codes):
            return self.words.weight.new_zeros(0, self.words.embedding_dim)
        read, row = torch.unique(self.text[codes], return_inverse=True)
        lengths = self.lengths[read]
        position = torch.arange(self.tokens.shape[1], device=codes.device)
        exists = position < lengths[:, None]
        tokens = self.tokens[read][exists]  # [words], text by text, shortest texts first
        x = self.words(tokens) + self.positions(position.expand(len(read), -1)[exists])
        x = self.dropout(self.norm(x))
        length, texts = torch.unique_consecutive(lengths, return_counts=True)
        runs = list(zip(texts.tolist(), length.tolist(), strict=True))
        for layer in self.layers:
            x = layer(x, runs)
        parts = x.split([count * words for count, words in runs])
        means = [
            part.view(count, words, -1).mean(dim=1)
            for part, (count, words) in zip(parts, runs, strict=True)
        ]
        return torch.cat(means).index_select(0, row)


class _Layer(nn.Module):
    """Self-attention among the words of a text, then two linear layers; norm after each."""

    def __init__(self, dim: int, feed_forward: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(dim, 3 * dim)
        self.mix = nn.Linear(dim, dim)
        self.first_norm = nn.LayerNorm(dim)
        self.inner = nn.Linear(dim, feed_forward)
        self.outer = nn.Linear(feed_forward, dim)
        self.second_norm = nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "words dim"], runs: list[tuple[int, int]]
    ) -> Float[Tensor, "words dim"]:
        """Returns the words once more; `runs` are (texts, words of each), in the order of x."""
        mixed = self.mix(self._attend(self.project(x), runs))
        x = self.first_norm(x + self.dropout(mixed))
        return self.second_norm(x + self.dropout(self.outer(torch.relu(self.inner(x)))))

    def _attend(
        self, projected: Float[Tensor, "words triple"], runs: list[tuple[int, int]]
    ) -> Float[Tensor, "words dim"]:
        found = []
        for part, (texts, words) in zip(
            projected.split([texts * words for texts, words in runs]), runs, strict=True
        ):
            # [3, texts, heads, words, head]
            split = part.view(texts, words, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            query, key, value = split.unbind()
            weights = torch.softmax(query @ key.transpose(2, 3) * query.shape[-1] ** -0.5, dim=-1)
            found.append((weights @ value).transpose(1, 2).flatten(0, 1).flatten(1))
        return torch.cat(found)
