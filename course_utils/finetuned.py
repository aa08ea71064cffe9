"""What lesson 07 leaves for other lessons: embeddings before and after, the model, and other trainings.

The learner's own run in `build/` comes first; where there is none, what the course ships in
`data/precomputed/` takes its place and is labelled "precomputed".
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from course_utils import paths
from course_utils.checkpoints import fingerprint
from course_utils.errors import CourseError
from course_utils.files import atomic_write
from course_utils.pages.build import pages_folder
from course_utils.profiles import Profile, find_profile

LESSON = "07_finetune_qwen3_vl_embedding"
FILE = "embeddings.safetensors"


@dataclass(frozen=True)
class Finetuned:
    """Unit vectors (rows, dimensions), float32, before and after finetuning, in the order of the ids.

    `dev_*` are those of the dev rows, in the order that `build_corpus` gives them.
    `unseen_*` are the queries in unseen wordings and `natural_*` those in natural ones, None where the data has none.
    `model` is the folder of the finetuned model, None where only embeddings are there. `label` is "precomputed" for
    what the course ships and "" for the learner's own: show it with every figure.
    """

    queries_before: torch.Tensor
    pages_before: torch.Tensor
    queries_after: torch.Tensor
    pages_after: torch.Tensor
    dev_queries_after: torch.Tensor
    dev_pages_after: torch.Tensor
    query_ids: list[str]
    page_ids: list[str]
    model: str | None
    label: str
    unseen_before: torch.Tensor | None = None
    unseen_after: torch.Tensor | None = None
    natural_before: torch.Tensor | None = None
    natural_after: torch.Tensor | None = None

    def title(self, text: str) -> str:
        """`text` with the label behind it, for the title of a plot."""
        return f"{text} ({self.label})" if self.label else text


def save_embeddings(
    path: Path, profile: Profile, query_ids: Sequence[str], page_ids: Sequence[str], **vectors: torch.Tensor
) -> Path:
    """Write the file that `finetuned` reads, in float16, whole or not at all.

    vectors: queries_before and queries_after (q, d), pages_before and pages_after (n, d), dev_queries_after (p, d) and
    dev_pages_after (m, d) and, where the pages are drawn here, unseen_before and unseen_after (u, d), of the queries in
    unseen wordings, and natural_before and natural_after (v, d), of those in natural ones. Raises CourseError where
    some of them are not finite.
    """
    if not all(torch.isfinite(rows).all() for rows in vectors.values()):
        raise CourseError("These embeddings are not finite: look at the loss, and lower the learning rate.")
    notes = _made_with(profile) | {"query_ids": json.dumps(list(query_ids)), "page_ids": json.dumps(list(page_ids))}
    halves = {name: rows.detach().cpu().to(torch.float16).contiguous() for name, rows in vectors.items()}
    return atomic_write(Path(path), save(halves, notes))


def finetuned(profile: Profile | str = "tiny") -> Finetuned:
    """The embeddings of lesson 07 in this profile: the learner's own, else the ones that the course ships.

    A file that is damaged, or was made with another checkpoint or other pages, does not count. Raises
    CourseError where none is left.
    """
    profile = find_profile(profile) if isinstance(profile, str) else profile
    made_with = _made_with(profile)
    for folder, label in ((paths.BUILD / LESSON, ""), (paths.DATA / "precomputed", "precomputed")):
        vectors, notes = _read(folder / FILE)
        if made_with.items() <= notes.items():
            units = {name: torch.nn.functional.normalize(rows.float()) for name, rows in vectors.items()}
            model = str(folder / "model") if (folder / "model" / "modules.json").exists() else None
            ids = {name: json.loads(notes[name]) for name in ("query_ids", "page_ids")}
            return Finetuned(**units, **ids, model=model, label=label)
    if profile.name != "tiny":
        command = f"course run 07 --profile {profile.name}"
        raise CourseError(f"There are no embeddings from lesson 07 with profile {profile.name}: run `{command}` first.")
    raise CourseError(
        f"data/precomputed/{FILE} is missing, damaged or not of these checkpoints and pages: restore it with "
        "`git checkout data`, or make your own with `course run 07`."
    )


def trials() -> dict[str, dict[str, float]]:
    """Figures of lesson 07 with other seeds, learning rates and amounts of training, precomputed: metrics by trial.

    `seed-0` is the lesson as it stands. `phrases` counts the wordings of the training queries.
    """
    return json.loads((paths.DATA / "precomputed" / "trials.json").read_text(encoding="utf-8"))


def _made_with(profile: Profile) -> dict[str, str]:
    """What embeddings stand for: the profile, its model, and the version of the drawn pages or the published set."""
    documents = pages_folder().name if profile.drawn else profile.dataset
    return {"profile": profile.name, "embedder": fingerprint(profile.embedder), "documents": documents}


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and notes of a file; both empty where it is missing or not whole."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in list(file.keys())}, file.metadata() or {}
    except (OSError, SafetensorError):
        return {}, {}
