"""What a profile downloads: names, bytes, what is in the cache already, and where each figure comes from."""

from dataclasses import dataclass
from pathlib import Path

from course_utils.profiles import PUBLISHED_DATA, Profile

PAGES = (10_000 + 300) * 5  # published: rows of the recipe, five pages each
# Published: bytes and rows of the English part on the card of llamaindex/vdr-multilingual-train.
PAGE_BYTES = 19_695_589_638 / 94_225
TWO_BILLION = (2 * 2_130_000_000, "computed: 2.13 billion parameters in bf16")
# The architecture of 2B is counted as this course builds it; SigLIP 2's parameters are published.
EXPECTED = {
    "Qwen/Qwen3-VL-Embedding-2B": TWO_BILLION,
    "Qwen/Qwen3-VL-2B-Instruct": TWO_BILLION,
    "Qwen/Qwen3-VL-Reranker-2B": TWO_BILLION,
    "google/siglip2-base-patch16-224": (4 * 375_000_000, "computed: 375 million parameters in float32"),
    "sentence-transformers/all-MiniLM-L6-v2": (91_000_000, "measured: the same weights in the package"),
    PUBLISHED_DATA: (
        int(PAGES * PAGE_BYTES),
        f"computed: {PAGES:,} pages of {PAGE_BYTES / 1e3:.0f} kB, the published mean of their source",
    ),
}
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
        state = f"{self.left / 1e9:.1f} GB of it to fetch" if self.left else "in the cache"
        return f"{self.name} {self.size / 1e9:.1f} GB ({self.source}), {state}"


def downloads(profile: Profile) -> list[Download]:
    """Every repository that the profile names, without asking the Hub."""
    names = (profile.embedder, profile.raw_vlm, profile.reranker, profile.text_tower, profile.image_tower)
    cached = _cached()
    return [
        Download(name, EXPECTED[name][0], cached.get(name, 0), EXPECTED[name][1])
        for name in (*names, profile.dataset)
        if name in EXPECTED
    ]


def cache_folder() -> Path:
    """Where the Hub's files are kept."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _cached() -> dict[str, int]:
    """Bytes in the cache by name of repository."""
    from huggingface_hub import scan_cache_dir

    if not cache_folder().is_dir():
        return {}
    return {repo.repo_id: repo.size_on_disk for repo in scan_cache_dir(cache_folder()).repos}
