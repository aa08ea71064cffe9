"""What a profile downloads: names, bytes, what is in the cache already, and where each figure comes from."""

from dataclasses import dataclass
from pathlib import Path

from course_utils.profiles import PUBLISHED_DATA, Profile

PAGE_BYTES = (
    19_695_589_638 / 94_225
)  # published: bytes and rows of the English part on the card of llamaindex/vdr-multilingual-train
PAGES = (10_000 + 300) * 5  # published: rows of the recipe, five pages each
CONFIGS = ("train", "eval")  # the repository has all 53,512 rows once more, as config `full`
ENOUGH = 0.9  # of a repository's bytes: the cache holds what is used, not every file


@dataclass(frozen=True)
class Download:
    """One repository: its bytes, those in the cache, and `source`, where the first figure comes from."""

    name: str
    size: int
    cached: int
    source: str

    @property
    def left(self) -> int:
        """Bytes still to fetch; 0 where nearly all is there."""
        return 0 if self.cached >= ENOUGH * self.size else self.size - self.cached

    def __str__(self) -> str:
        state = (
            "in the cache"
            if not self.left
            else f"{self.cached / 1e9:.1f} GB of it in the cache"
            if self.cached
            else "to fetch"
        )
        return f"{self.name} {self.size / 1e9:.1f} GB ({self.source}), {state}"


# Without an answer from the Hub. Parameters of the 2B architecture as built by this course; published ones of SigLIP 2.
EXPECTED = {
    "Qwen/Qwen3-VL-Embedding-2B": (2 * 2_130_000_000, "computed: 2.13 billion parameters in bf16"),
    "Qwen/Qwen3-VL-2B-Instruct": (2 * 2_130_000_000, "computed: 2.13 billion parameters in bf16"),
    "Qwen/Qwen3-VL-Reranker-2B": (2 * 2_130_000_000, "computed: 2.13 billion parameters in bf16"),
    "google/siglip2-base-patch16-224": (4 * 375_000_000, "computed: 375 million parameters in float32"),
    "sentence-transformers/all-MiniLM-L6-v2": (91_000_000, "measured: the same weights in the package"),
    PUBLISHED_DATA: (
        int(PAGES * PAGE_BYTES),
        f"computed: {PAGES:,} pages of {PAGE_BYTES / 1e3:.0f} kB, the published mean of their source",
    ),
}


def downloads(profile: Profile, ask: bool) -> list[Download]:
    """Every repository that the profile names; with `ask`, sizes are the Hub's own where it answers."""
    names = dict.fromkeys(
        [profile.embedder, profile.raw_vlm, profile.reranker, profile.text_tower, profile.image_tower, profile.dataset]
    )
    cached = _cached()
    found = []
    for name in filter(lambda name: "/" in name, names):
        kind = "dataset" if name == profile.dataset else "model"
        size, source = (_published_size(name, kind) if ask else None, "published: the Hub's own figure")
        if size is None:
            size, source = EXPECTED[name]
        found.append(Download(name, size, cached.get((kind, name), 0), source))
    return found


def cache_folder() -> Path:
    """Where the Hub's files are kept."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _cached() -> dict[tuple[str, str], int]:
    """Bytes in the cache by kind and name."""
    from huggingface_hub import scan_cache_dir

    if not cache_folder().is_dir():
        return {}
    return {(repo.repo_type, repo.repo_id): repo.size_on_disk for repo in scan_cache_dir().repos}


def _published_size(name: str, kind: str) -> int | None:
    """Bytes of a repository's files, of a data set those of the configs that lessons load; None where the Hub does not say."""
    from huggingface_hub import HfApi

    try:
        files = HfApi().repo_info(name, repo_type=kind, files_metadata=True, timeout=3).siblings
    except Exception:  # no answer, no such repository, no access: there is another figure
        return None
    used = [file for file in files or [] if kind == "model" or file.rfilename.split("/")[0] in CONFIGS]
    return sum(file.size or 0 for file in used) or None
