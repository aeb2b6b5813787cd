"""Risk control over the whole distribution of harm, for OpenRLHF.

RAD (Risk-sensitive Alignment via Dominance) constrains a policy's cost distribution to lie stochastically
below a reference policy's, with quantile weights that control any spectral risk measure. Source: Chittepu,
Joshi, Bhattacharjee and Niekum, "Safe RLHF Beyond Expectation: Stochastic Dominance for Universal Spectral
Risk Control"; equation numbers in the docstrings are that paper's.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openrlhf_rad.errors import RadError
    from openrlhf_rad.method.transport import dominance_gap, sinkhorn
    from openrlhf_rad.profile import RiskProfile, load_profile, shipped_profiles

__version__ = "0.2.0.dev0"

__all__ = [
    "RadError",
    "RiskProfile",
    "__version__",
    "dominance_gap",
    "load_profile",
    "shipped_profiles",
    "sinkhorn",
]

_HOMES = {
    "errors": ("RadError",),
    "method.transport": ("dominance_gap", "sinkhorn"),
    "profile": ("RiskProfile", "load_profile", "shipped_profiles"),
}


def __getattr__(name: str) -> Any:
    """What the package offers, imported when it is asked for: ``rad --help`` needs none of it."""
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
