"""The judging prompt: a text file with the placeholders {prompt}, {answer_a}, {answer_b} and {format}.

A placeholder is a name in braces; any other brace stands for itself, so that a file may show JSON. All are
filled in one pass: what an answer holds is never taken for a placeholder.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import re
from dataclasses import dataclass
from pathlib import Path

from openrlhf_rad.errors import DataError, did_you_mean

NEEDED = ("prompt", "answer_a", "answer_b")
PLACEHOLDERS = (*NEEDED, "format")
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True)
class JudgingPrompt:
    """A checked judging prompt, and where it came from."""

    text: str
    source: str

    @property
    def sha256(self) -> str:
        """Tells two prompts apart in results."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def render(self, prompt: str, answer_a: str, answer_b: str, instruction: str) -> str:
        """The text that the judge reads; ``instruction`` says how to write the verdict."""
        values = {"prompt": prompt, "answer_a": answer_a, "answer_b": answer_b, "format": instruction}
        return _PLACEHOLDER.sub(lambda found: values[found[1]], self.text)


def load_judging_prompt(path: Path | None = None) -> JudgingPrompt:
    """The prompt of a file, or the shipped one. Raises DataError with every fault of the file."""
    if path is None:
        shipped = importlib.resources.files("openrlhf_rad.judging").joinpath("prompt.txt")
        return JudgingPrompt(shipped.read_text(encoding="utf-8"), "prompt.txt as shipped")
    try:
        content = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; check the path") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: it cannot be read ({error.strerror}); check path and rights") from None
    problems = _problems(content, str(path))
    if problems:
        raise DataError(problems)
    return JudgingPrompt(content, str(path))


def _problems(content: str, source: str) -> list[str]:
    problems, seen = [], set()
    for number, line in enumerate(content.splitlines(), 1):
        for found in _PLACEHOLDER.finditer(line):
            seen.add(found[1])
            if found[1] not in PLACEHOLDERS:
                known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
                hint = did_you_mean(found[1], PLACEHOLDERS) or "remove it"
                place = f"{source}:{number}:{found.start() + 1}"
                problems.append(f"{place}: {found[0]} is no placeholder; they are {known}; {hint}")
    absent = [f"{{{name}}}" for name in NEEDED if name not in seen]
    if absent:
        problems.append(
            f"{source}: {', '.join(absent)} is missing; the judge must see it; add it to the text"
        )
    return problems
