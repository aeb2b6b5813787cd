"""Numbers, texts and versions as people read them."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("openrlhf-rad", "openrlhf", "torch", "transformers", "vllm", "ray", "deepspeed", "numpy", "scipy")


def number(value: float) -> str:
    """Three digits, for people, with a true minus sign."""
    text = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return ("0" if float(text) == 0 else text).replace("-", "−")


def percent(share: float) -> str:
    """A share in percent, three digits; not parted from its sign at the end of a line."""
    return f"{number(100 * float(share))}\N{NO-BREAK SPACE}%"


def with_interval(share: Mapping[str, float | None], *, signed: bool = False) -> str:
    """A share in percent with its interval, where there is one; ``signed``: a difference of shares."""
    value, low, high = share["value"], share["low"], share["high"]
    sign = "+" if signed else ""
    ends = "" if low is None or high is None else f" [{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"
    return f"{100 * (value or 0.0):{sign}.1f}" + ("" if signed else " %") + ends


def apart(change: float) -> str:
    """How far, and on which side, one number lies of another: `0.09 above`."""
    text = number(abs(change))
    return "no difference" if text == "0" else f"{text} {'above' if change > 0 else 'below'}"


def version_of(distribution: str) -> str | None:
    """The version of a distribution; None where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that are installed."""
    found = {package: held for package in PACKAGES if (held := version_of(package))}
    return {"python": platform.python_version(), **found}


def one_line(text: str | None, longest: int) -> str:
    """A text on one line, shortened, without the control characters that could steer a terminal."""
    if text is None:
        return "(no text in the table)"
    plain = " ".join("".join(char if char.isprintable() else " " for char in text).split()) or "(empty)"
    return plain if len(plain) <= longest else f"{plain[: longest - 1]}…"
