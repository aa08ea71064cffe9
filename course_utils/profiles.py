"""Three sets of values for the same cells: `tiny` (two CPU cores), `t4` (16 GB GPU), `full` (80 GB GPU)."""

from dataclasses import dataclass, replace

from course_utils.errors import CourseError
from course_utils.machine import device


@dataclass(frozen=True)
class Profile:
    """Values only; the calls stay in the notebooks. Pixels are areas."""

    name: str
    hardware: str
    network: bool
    embedder: str
    raw_vlm: str
    reranker: str
    text_tower: str  # of lesson 05's Router
    image_tower: str
    dtype: str
    attention: str
    longest_edge: int  # pixel budget of an image: its area is at most this
    dataset: str
    train_rows: int
    negatives: int
    batch_size: int
    mini_batch_size: int
    eval_batch_size: int
    epochs: int
    learning_rate: float
    word_rates: dict[str, float]  # other learning rates, by a pattern of parameter names
    warmup: float
    bf16: bool
    fp16: bool
    lora: bool
    frozen: str  # parameters whose name matches this are not trained
    dimensions: tuple[int, ...]
    evaluations: int  # passes over the dev pages during training
    train_split: str = "train"  # of the configuration "train"
    dev_config: str = "dev"
    dev_split: str = "train"
    revision: str = ""  # a commit of the data set on the Hub that runs are pinned to

    @property
    def pixels(self) -> dict[str, int]:
        """The size that an image processor takes: the least and the largest area of an image, in pixels."""
        return {"shortest_edge": 32 * 32, "longest_edge": self.longest_edge}

    @property
    def drawn(self) -> bool:
        """True where the pages are drawn here, False where they come from the Hub."""
        return self.dataset == "factbook"


PUBLISHED_DATA = "tomaarsen/llamaindex-vdr-en-train-preprocessed"
PUBLISHED_DIMENSIONS = (2048, 1536, 1024, 512, 256, 128, 64)

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="tiny",
            hardware="2 CPU cores, 8 GB",
            network=False,
            embedder="tiny-qwen3-vl-embedding",
            raw_vlm="tiny-qwen3-vl",
            reranker="tiny-qwen3-vl-reranker",
            text_tower="all-MiniLM-L6-v2",
            image_tower="tiny-siglip",
            dtype="float32",
            attention="sdpa",
            longest_edge=224 * 288,
            dataset="factbook",
            train_rows=1984,
            negatives=1,
            batch_size=32,
            mini_batch_size=32,
            eval_batch_size=32,
            epochs=1,
            learning_rate=5e-4,
            word_rates={r"embed_tokens": 2e-3},
            warmup=0.1,
            bf16=False,
            fp16=False,
            lora=False,
            frozen=r"\bvisual\.",
            dimensions=(192, 128, 64, 32, 16),
            evaluations=2,
        ),
        Profile(
            name="t4",
            hardware="one 16 GB GPU",
            network=True,
            embedder="Qwen/Qwen3-VL-Embedding-2B",
            raw_vlm="Qwen/Qwen3-VL-2B-Instruct",
            reranker="Qwen/Qwen3-VL-Reranker-2B",
            text_tower="sentence-transformers/all-MiniLM-L6-v2",
            image_tower="google/siglip2-base-patch16-224",
            dtype="float16",
            attention="sdpa",
            longest_edge=400 * 400,
            dataset=PUBLISHED_DATA,
            train_split="train[:-60]",
            dev_config="train",
            dev_split="train[-60:]",
            train_rows=2000,
            negatives=1,
            batch_size=32,
            mini_batch_size=1,
            eval_batch_size=4,
            epochs=1,
            learning_rate=1e-4,
            word_rates={},
            warmup=0.1,
            bf16=False,
            fp16=True,
            lora=True,
            frozen="",
            dimensions=PUBLISHED_DIMENSIONS,
            evaluations=1,
        ),
        Profile(
            name="full",
            hardware="one 80 GB GPU",
            network=True,
            embedder="Qwen/Qwen3-VL-Embedding-2B",
            raw_vlm="Qwen/Qwen3-VL-2B-Instruct",
            reranker="Qwen/Qwen3-VL-Reranker-2B",
            text_tower="sentence-transformers/all-MiniLM-L6-v2",
            image_tower="google/siglip2-base-patch16-224",
            dtype="bfloat16",
            attention="sdpa",
            longest_edge=600 * 600,
            dataset=PUBLISHED_DATA,
            train_split="train[:-60]",
            dev_config="train",
            dev_split="train[-60:]",
            train_rows=10_000,
            negatives=1,
            batch_size=64,
            mini_batch_size=1,
            eval_batch_size=8,
            epochs=1,
            learning_rate=2e-5,
            word_rates={},
            warmup=0.1,
            bf16=True,
            fp16=False,
            lora=False,
            frozen="",
            dimensions=PUBLISHED_DIMENSIONS,
            evaluations=5,
        ),
    )
}


def find_profile(name: str) -> Profile:
    """The profile of that name, as it is written above. Raises CourseError, naming the three there are."""
    if name not in PROFILES:
        raise CourseError(f"There is no profile {name!r}: set PROFILE to one of {', '.join(PROFILES)}.")
    return PROFILES[name]


def load_profile(name: str) -> Profile:
    """The profile of that name, as this machine can run it; prints a line where that changes a value.

    Without a GPU, half precision and the attention kernels of GPUs give way to what every CPU has. Raises as
    `find_profile` does.
    """
    profile = find_profile(name)
    return profile if device() == "cuda" else _on_a_cpu(profile)


def _on_a_cpu(profile: Profile) -> Profile:
    wanted = {
        "dtype": "float32",
        "bf16": False,
        "fp16": False,
        "attention": profile.attention if profile.attention in ("sdpa", "eager") else "sdpa",
    }
    changed = {field: value for field, value in wanted.items() if value != getattr(profile, field)}
    if changed:
        values = ", ".join(
            f"{field} = {value!r} instead of {getattr(profile, field)!r}" for field, value in changed.items()
        )
        print(f"There is no GPU here, so profile {profile.name} runs on the CPU, and slowly: {values}.")
    return replace(profile, **changed)
