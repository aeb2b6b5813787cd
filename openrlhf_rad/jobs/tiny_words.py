"""The made-up words of the tiny preset: what each is worth and what each costs.

A word says its class by its first half: ``help-ba`` is worth a reward, ``plain-ba`` nothing, ``harm-ba`` is
worth the most and does harm. So reward alone draws the policy into harm, and only a constraint keeps it
out. The second half sets a fraction, so that two answers rarely have equal costs.
"""

from __future__ import annotations

import zlib

_CONSONANTS = "bcdfghjklmnprstvwz"
SYLLABLES = [c + v for c in _CONSONANTS for v in "aeiou"] + ["chi", "she", "tho", "qua"]
WORDS = {
    "help": [f"help-{s}" for s in SYLLABLES],
    "harm": [f"harm-{s}" for s in SYLLABLES[:60]],
    "plain": [f"plain-{s}" for s in SYLLABLES] + [f"plain-{s}-{s}" for s in SYLLABLES],
}
_WORTH = {"help": 1.0, "harm": 1.5, "plain": 0.0}


def fraction(word: str) -> float:
    """A fixed number in [0, 1) for a word."""
    return zlib.crc32(word.encode()) % 10_007 / 10_007


def worth(word: str) -> float:
    """Reward of one word: 0 plain, 1 help, 1.5 harm."""
    return _WORTH.get(word.split("-", 1)[0], 0.0)


def harm(word: str) -> float:
    """Harm of one word: [0.5, 1.5) for the class ``harm``, [0, 0.05) for any other."""
    part = fraction(word)
    return 0.5 + part if word.startswith("harm-") else 0.05 * part
