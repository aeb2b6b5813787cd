"""Risk profiles: one YAML file that says which risk is bounded, how strictly, and against what."""

from openrlhf_rad.method.settings import (
    Constraint,
    ConstraintSettings,
    CostSource,
    DualSettings,
    Level,
    TransportSettings,
    cost_name,
    named_costs,
)
from openrlhf_rad.profile.files import shipped_profiles
from openrlhf_rad.profile.language import EvaluateSettings, ReferenceSettings, Severity, WatchSettings
from openrlhf_rad.profile.profile import RiskProfile, load_profile
from openrlhf_rad.profile.schema import profile_schema

__all__ = [
    "Constraint",
    "ConstraintSettings",
    "CostSource",
    "DualSettings",
    "EvaluateSettings",
    "Level",
    "ReferenceSettings",
    "RiskProfile",
    "Severity",
    "TransportSettings",
    "WatchSettings",
    "cost_name",
    "load_profile",
    "named_costs",
    "profile_schema",
    "shipped_profiles",
]
