"""Prompts and preference pairs from files, installed packages and hubs, in the shapes of their publishers."""

from __future__ import annotations

from openrlhf_rad.data.load import load_pairs, load_prompts
from openrlhf_rad.data.records import Pair, Prompt

__all__ = ["Pair", "Prompt", "load_pairs", "load_prompts"]
