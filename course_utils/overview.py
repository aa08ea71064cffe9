"""What lesson 00 shows of the course: is this machine ready, which profiles there are, how long each lesson takes."""

from dataclasses import asdict

import pandas as pd

from course_utils.paths import NOTEBOOKS
from course_utils.profiles import PROFILES
from course_utils.runner.lessons import find_lessons, format_minutes
from course_utils.runner.setup_check import Setup, check_setup

__all__ = ["Setup", "check_setup", "lesson_table", "profile_table"]


def profile_table() -> pd.DataFrame:
    """What each profile needs and runs: a column for each of them."""
    fields = {"hardware": "hardware", "embedder": "model", "dataset": "data", "train_rows": "rows to train on"}
    fields |= {"dtype": "numbers", "lora": "LoRA", "network": "network"}
    values = {name: asdict(profile) for name, profile in PROFILES.items()}
    return pd.DataFrame(
        {name: {label: found[field] for field, label in fields.items()} for name, found in values.items()}
    )


def lesson_table() -> pd.DataFrame:
    """How long each lesson takes in each profile, as its first cell says, and all of them together."""
    headers = [lesson.header() for lesson in find_lessons(NOTEBOOKS)]
    minutes = pd.DataFrame({name: {h.title: h.minutes.get(name) for h in headers} for name in PROFILES})
    minutes.loc["all of them"] = minutes.sum()
    return minutes.map(lambda value: format_minutes(None if pd.isna(value) else value))
