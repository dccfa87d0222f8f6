"""Byte-level byte-pair encoding in its plainest form, and the file that holds it.

A text is cut into words, a word is bytes, and pairs of neighbours are merged in the order in which they were learned.
Token 0 to 255 are the bytes; line i of `tokenizer.txt` holds the two tokens that token 256 + i stands for.
Source: Sennrich, Haddow, Birch, "Neural machine translation of rare words with subword units" (2016).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

BYTES = 256
_WORD = re.compile(r" ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+")
Pair = tuple[int, int]


@dataclass(frozen=True)
class Tokenizer:
    """Turns text into tokens and back.

    Attributes:
        merges: the pair that each token from 256 on stands for.
    """

    merges: Sequence[Pair]
    _ranks: dict[Pair, int] = field(default_factory=dict, repr=False)
    _cache: dict[bytes, tuple[int, ...]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._ranks.update({tuple(pair): BYTES + index for index, pair in enumerate(self.merges)})

    @property
    def size(self) -> int:
        """The number of different tokens."""
        return BYTES + len(self.merges)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text."""
        return [token for word in words(text) for token in self._word(word)]

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens; bytes that are no UTF-8 show as replacement characters."""
        pieces = [bytes([value]) for value in range(BYTES)]
        for left, right in self.merges:
            pieces.append(pieces[left] + pieces[right])
        return b"".join(pieces[token] for token in tokens).decode("utf-8", errors="replace")

    def save(self, path: Path) -> None:
        """Writes the plain file."""
        path.write_text("".join(f"{left} {right}\n" for left, right in self.merges), encoding="ascii")

    @staticmethod
    def load(path: Path) -> Tokenizer:
        """Reads what `save` wrote."""
        lines = path.read_text(encoding="ascii").split("\n")
        return Tokenizer([(int(a), int(b)) for a, b in (line.split() for line in lines if line)])

    @staticmethod
    def learn(text: str, size: int) -> Tokenizer:
        """The tokenizer with `size` tokens for a text; the most frequent pair is merged first, the smaller on a tie."""
        counts = Counter(words(text))
        spelled = {word: tuple(word) for word in counts}
        merges: list[Pair] = []
        while len(merges) < size - BYTES:
            pairs: Counter[Pair] = Counter()
            for word, tokens in spelled.items():
                for pair in pairwise(tokens):
                    pairs[pair] += counts[word]
            best = min(pairs, key=lambda pair: (-pairs[pair], pair))
            for word, tokens in spelled.items():
                if best[0] in tokens:
                    spelled[word] = _merged(tokens, best, BYTES + len(merges))
            merges.append(best)
        return Tokenizer(merges)

    def _word(self, word: bytes) -> tuple[int, ...]:
        if word not in self._cache:
            tokens = tuple(word)
            while pairs := [pair for pair in pairwise(tokens) if pair in self._ranks]:
                best = min(pairs, key=self._ranks.__getitem__)
                tokens = _merged(tokens, best, self._ranks[best])
            self._cache[word] = tokens
        return self._cache[word]


def words(text: str) -> list[bytes]:
    """A text in pieces that merges do not cross; a space belongs to what follows it."""
    return [word.encode() for word in _WORD.findall(text)]


def _merged(tokens: tuple[int, ...], pair: Pair, token: int) -> tuple[int, ...]:
    found: list[int] = []
    index = 0
    while index < len(tokens):
        if tokens[index : index + 2] == pair:
            found.append(token)
            index += 2
        else:
            found.append(tokens[index])
            index += 1
    return tuple(found)
