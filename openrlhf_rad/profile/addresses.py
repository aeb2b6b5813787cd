"""Addresses of cost servers without secrets in them: ``https://user:${COST_PASSWORD}@host/score?key=${KEY}``.

``${NAME}`` stands for an environment variable. It is put in where the server is asked, and written nowhere. A
password that a profile holds as it is gets such a name of its own before the profile is written to a file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from urllib.parse import urlsplit, urlunsplit

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.method.settings import CostSource
from openrlhf_rad.profile.profile import RiskProfile

_NAME = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NAMES_ONLY = re.compile(rf"(?:{_NAME.pattern})*")
#: Variables that stand for what a profile held itself are called so, with a number.
GIVEN = "OPENRLHF_RAD_SECRET_"


def addresses(location: str) -> list[str]:
    """Each address of a cost that names several, with commas between them."""
    return re.split(r",(?=https?://|\$\{)", location)


def variables(profile: RiskProfile) -> list[str]:
    """The environment variables that its addresses and keys name, each once."""
    return list(dict.fromkeys(name for address in _addresses(profile) for name in _NAME.findall(address)))


def filled(address: str, environment: Mapping[str, str] | None = None) -> str:
    """The address with the values of its variables; by default those of this process.

    Raises:
        ConfigError: naming the variables that are not set, or that there is no address in the end.
    """
    values = os.environ if environment is None else environment
    missing = [f"${{{name}}}" for name in dict.fromkeys(_NAME.findall(address)) if name not in values]
    if missing:
        raise ConfigError(
            f"the address of a cost server, {address}, needs {' and '.join(missing)}, which is not set in the"
            " environment; export it before the command"
        )
    whole = _NAME.sub(lambda name: values[name[1]], address)
    if whole != address and not re.match(r"^https?://\S+$", whole):
        raise ConfigError(
            f"{address} gives no address of a cost server; it must start with http:// or https://"
        )
    return whole


def sealed(profile: RiskProfile) -> tuple[RiskProfile, dict[str, str]]:
    """The profile with names in place of secrets, and what they stand for.

    Users, passwords, values of a query and fragments count as secrets. Equal ones get equal names, so that
    two sources stay two, and a sealed profile is left as it is.
    """
    names: dict[str, str] = {}

    def name_of(secret: str) -> str:
        if _NAMES_ONLY.fullmatch(secret):
            return secret
        return f"${{{names.setdefault(secret, f'{GIVEN}{len(names) + 1}')}}}"

    def seal(cost: CostSource | None) -> CostSource | None:
        if cost is None or cost.kind != "remote_url":
            return cost
        parts = [_sealed(address, name_of) for address in addresses(cost.location)]
        return replace(cost, location=",".join(parts))

    constraints = tuple(replace(one, cost=seal(one.cost)) for one in profile.constraints)
    shared = profile.shared and replace(profile.shared, cost=seal(profile.shared.cost))
    safe = replace(profile, constraints=constraints, shared=shared)
    return safe, {name: secret for secret, name in names.items()}


def _sealed(address: str, name_of: Callable[[str], str]) -> str:
    try:
        parts = urlsplit(address)
        whole = urlunsplit(parts) == address
    except ValueError:
        whole = False
    if not whole:  # an address with odd parts, such as an empty query, would not come back as it was
        scheme, _, rest = address.partition("://")
        return f"{scheme}://{name_of(rest)}"
    user, at, host = parts.netloc.rpartition("@")
    place = ":".join(name_of(part) for part in user.split(":", 1)) + at + host
    pairs = (pair.partition("=") for pair in re.split(r"(?<=[&;])", parts.query))
    query = "".join(_pair(pair, name_of) for pair in pairs)
    return urlunsplit((parts.scheme, place, parts.path, query, name_of(parts.fragment)))


def _pair(pair: tuple[str, str, str], name_of: Callable[[str], str]) -> str:
    """``key=value&`` with the value's name; a word without a value may be the secret itself."""
    key, equals, value = pair
    held = value if equals else key
    end = held[-1:] if held[-1:] in ("&", ";") else ""
    return f"{key if equals else ''}{equals}{name_of(held.removesuffix(end))}{end}"


def _addresses(profile: RiskProfile) -> list[str]:
    costs = [one.cost for one in profile.constraints if one.cost is not None]
    held = [cost.location for cost in costs if cost.kind == "remote_url"]
    judges = [cost.settings for cost in costs if cost.kind == "judge"]
    return held + [text for judge in judges for text in (judge.base_url, judge.api_key or "")]
