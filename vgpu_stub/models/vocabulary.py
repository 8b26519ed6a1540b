"""A vocabulary that can spell any text: bytes, single characters, and made-up words.

It has the form of a SentencePiece model ("llama" in GGUF): pieces with scores, a space written as
U+2581.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, product
from typing import Final

from gguf import TokenType

BEGIN: Final = 1
END: Final = 2
_SPACE: Final = "\u2581"
_SYLLABLES: Final = [a + b for a in "bdfghjklmnprstvwyz" for b in "aeiou"]


@dataclass(frozen=True)
class Vocabulary:
    """Pieces of text with their scores and kinds, by token number."""

    pieces: list[str]
    scores: list[float]
    kinds: list[TokenType]


def make_vocabulary(size: int) -> Vocabulary:
    """A vocabulary of `size` tokens.

    Raises:
        ValueError: There is no room for the bytes and characters.
    """
    special = [
        ("<unk>", TokenType.UNKNOWN),
        ("<s>", TokenType.CONTROL),
        ("</s>", TokenType.CONTROL),
    ]
    octets = [(f"<0x{value:02X}>", TokenType.BYTE) for value in range(256)]
    characters = [_SPACE, *(chr(code) for code in range(33, 127))]
    fixed = len(special) + len(octets) + len(characters)
    if size < fixed:
        raise ValueError(f"a vocabulary needs {fixed} tokens or more, got {size}")
    words = (
        prefix + "".join(syllables)
        for count in range(1, 4)
        for syllables in product(_SYLLABLES, repeat=count)
        for prefix in ("", _SPACE)
    )
    normal = [(piece, TokenType.NORMAL) for piece in (*characters, *islice(words, size - fixed))]
    pieces = [*special, *octets, *normal]
    # A longer piece is preferred to its parts, as merging takes the best score first.
    scores = [float(len(piece)) if kind is TokenType.NORMAL else 0.0 for piece, kind in pieces]
    return Vocabulary([piece for piece, _ in pieces], scores, [kind for _, kind in pieces])
