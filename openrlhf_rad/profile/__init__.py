"""Risk profiles: one YAML file that says which risk is bounded, how strictly, and against what."""

from openrlhf_rad.method.settings import (
    Constraint,
    ConstraintSettings,
    CostSource,
    DualSettings,
    Level,
    TransportSettings,
    cost_name,
    cost_names,
)
from openrlhf_rad.profile.locate import load_profile, shipped_profiles
from openrlhf_rad.profile.model import EvaluateSettings, ReferenceSettings
from openrlhf_rad.profile.risk_profile import RiskProfile
from openrlhf_rad.profile.schema import profile_schema
from openrlhf_rad.profile.watch_settings import Severity, WatchSettings

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
    "cost_names",
    "load_profile",
    "profile_schema",
    "shipped_profiles",
]
