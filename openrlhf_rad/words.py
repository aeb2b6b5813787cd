"""Numbers, texts and versions as people read them."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("openrlhf-rad", "openrlhf", "torch", "transformers", "vllm", "ray", "deepspeed", "numpy", "scipy")


def number(value: float) -> str:
    """Three digits, for people, with a true minus sign."""
    text = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return ("0" if float(text) == 0 else text).replace("-", "−")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def one_line(text: str | None, longest: int) -> str:
    """A text on one line, shortened, without the control characters that could steer a terminal."""
    if text is None:
        return "(no text in the table)"
    plain = " ".join("".join(char if char.isprintable() else " " for char in text).split()) or "(empty)"
    return plain if len(plain) <= longest else f"{plain[: longest - 1]}…"
