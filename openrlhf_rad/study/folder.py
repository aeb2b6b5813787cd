"""A study's folder: what was asked, what is done, and the data that came of it.

``study.json`` holds what runs depend on, ``runs/MODEL/SEED`` each run, ``data/`` the tables. A study goes on
by the same command; seeds and models may be added, and nothing else may change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from openrlhf_rad.errors import ConfigError
from openrlhf_rad.files import explained, write_atomically
from openrlhf_rad.study.spec import Model, Study

RECORD, RUNS, DATA = "study.json", "runs", "data"


class StudyFolder:
    """The folder of one study."""

    def __init__(self, study: Study) -> None:
        self.path = study.out.absolute()

    def open(self, study: Study) -> None:
        """Make the folder, or go on in it.

        Raises:
            ConfigError: it holds runs of another job, other files, or a study that began with other settings.
        """
        if problem := self.problem(study):
            raise ConfigError(problem)
        known = self._known()
        held = known["models"] if known else {}
        record = _record(study)
        record["models"] = held | record["models"]
        with explained(self.path, "nothing was changed"):
            self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")

    def problem(self, study: Study) -> str:
        """Why the study may not go on here; empty where it may."""
        known = self._known()
        if known is None:
            if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
                return (
                    f"{self.path}: it holds other things than a study; a study writes only to an empty folder"
                    " or its own; name another by out:"
                )
            return ""
        record = _record(study)
        for key in ("job", "world"):
            if known[key] != record[key]:
                return (
                    f"{self.path}: it holds runs of another {key} ({_changed(known[key], record[key])}); all"
                    f" runs of a study are of one {key}; name another folder by out:, or set the {key} back"
                )
        changed = [
            f"{name}: {_changed(held, record['models'][name])}"
            for name, held in known["models"].items()
            if name in record["models"] and held != record["models"][name]
        ]
        changed += [
            f"{key} {_shown(known[key])} → {_shown(record[key])}"
            for key in ("ask", "evaluation", "feasibility")
            if known[key] != record[key]
        ]
        if not changed:
            return ""
        return (
            f"{self.path}: the study there began with other settings ({'; '.join(changed)}); only seeds and"
            " models may be added to it; name another folder by out:, or set them back"
        )

    def run(self, model: Model, seed: int) -> Path:
        """The folder of one run."""
        return self.path / RUNS / model.name / str(seed)

    @property
    def data(self) -> Path:
        """The folder of the tables."""
        return self.path / DATA

    def _known(self) -> dict[str, Any] | None:
        path = self.path / RECORD
        if not path.is_file():
            return None
        try:
            known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ConfigError(
                f"{path}: it is not JSON ({error.msg}); it is what the study began with; restore it, or name"
                " another folder by out:"
            ) from None
        return known


def _record(study: Study) -> dict[str, Any]:
    """What runs depend on, as JSON values."""
    evaluation = asdict(study.evaluation)
    plain: dict[str, Any] = json.loads(
        json.dumps(
            {
                "ask": study.ask.plain(),
                "world": asdict(study.world) if study.world else None,
                "job": asdict(study.job) if study.job else None,
                "evaluation": evaluation,
                "feasibility": asdict(study.feasibility),
                "models": {model.name: model.recorded() for model in study.models},
            }
        )
    )
    return plain


def _changed(old: Any, new: Any) -> str:
    """Which values of two mappings differ."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return f"{_shown(old)} → {_shown(new)}"
    parts = []
    for key in dict.fromkeys([*old, *new]):
        if old.get(key) != new.get(key):
            nested = isinstance(old.get(key), Mapping) and isinstance(new.get(key), Mapping)
            text = _changed(old.get(key), new.get(key))
            parts.append(f"{key}.{text}" if nested else f"{key} {text}")
    return ", ".join(parts)


def _shown(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
