"""Prompts, pairs and labelled answers from files, packages and hubs, in the shapes of their publishers."""

from __future__ import annotations

from openrlhf_rad.data.labels import Labels, load_labels
from openrlhf_rad.data.load import load_pairs, load_prompts
from openrlhf_rad.data.records import Pair, Prompt

__all__ = ["Labels", "Pair", "Prompt", "load_labels", "load_pairs", "load_prompts"]
