"""Three sets of values for the same cells: `tiny` (two CPU cores), `t4` (16 GB GPU), `full` (80 GB GPU)."""

from dataclasses import dataclass, field, replace

from course_utils.errors import CourseError
from course_utils.machine import device


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Values only; the calls stay in the notebooks. Pixels are areas.

    Models and the data set are names of stand-ins, or of the Hub; `owner/name@commit` pins runs to a commit.
    """

    name: str
    hardware: str
    network: bool
    embedder: str
    raw_vlm: str
    reranker: str
    text_tower: str  # of lesson 05's Router
    image_tower: str
    dtype: str
    attention: str = "sdpa"
    longest_edge: int  # pixel budget of an image: its area is at most this
    dataset: str
    train_split: str  # of the configuration "train"
    dev_config: str
    dev_split: str
    train_rows: int
    negatives: int = 1
    batch_size: int
    mini_batch_size: int
    eval_batch_size: int
    epochs: int = 1
    learning_rate: float
    word_rates: dict[str, float] = field(default_factory=dict)  # other learning rates, by a pattern of parameter names
    warmup: float = 0.1
    bf16: bool = False
    fp16: bool = False
    lora: bool = False
    frozen: str = ""  # parameters whose name matches this are not trained
    dimensions: tuple[int, ...]
    evaluations: int  # passes over the dev pages during training

    @property
    def pixels(self) -> dict[str, int]:
        """The size that an image processor takes: the least and the largest area of an image, in pixels."""
        return {"shortest_edge": 32 * 32, "longest_edge": self.longest_edge}

    @property
    def drawn(self) -> bool:
        """True where the pages are drawn here, False where they come from the Hub."""
        return self.dataset == "factbook"


PUBLISHED_DATA = "tomaarsen/llamaindex-vdr-en-train-preprocessed"

TINY = Profile(
    name="tiny",
    hardware="2 CPU cores, 8 GB",
    network=False,
    embedder="tiny-qwen3-vl-embedding",
    raw_vlm="tiny-qwen3-vl",
    reranker="tiny-qwen3-vl-reranker",
    text_tower="all-MiniLM-L6-v2",
    image_tower="tiny-siglip",
    dtype="float32",
    longest_edge=224 * 288,
    dataset="factbook",
    train_split="train",
    dev_config="dev",
    dev_split="train",
    train_rows=1984,
    batch_size=32,
    mini_batch_size=32,
    eval_batch_size=32,
    learning_rate=5e-4,
    word_rates={r"embed_tokens": 2e-3},
    frozen=r"\bvisual\.",
    dimensions=(192, 128, 64, 32, 16),
    evaluations=4,
)
FULL = Profile(
    name="full",
    hardware="one 80 GB GPU",
    network=True,
    embedder="Qwen/Qwen3-VL-Embedding-2B",
    raw_vlm="Qwen/Qwen3-VL-2B-Instruct",
    reranker="Qwen/Qwen3-VL-Reranker-2B",
    text_tower="sentence-transformers/all-MiniLM-L6-v2",
    image_tower="google/siglip2-base-patch16-224",
    dtype="bfloat16",
    longest_edge=600 * 600,
    dataset=PUBLISHED_DATA,
    train_split="train[:-60]",
    dev_config="train",
    dev_split="train[-60:]",
    train_rows=10_000,
    batch_size=64,
    mini_batch_size=16,  # 80 GB hold 22 pages, computed by `course full-size`
    eval_batch_size=8,
    learning_rate=2e-5,
    bf16=True,
    dimensions=(2048, 1536, 1024, 512, 256, 128, 64),
    evaluations=5,
)
T4 = replace(
    FULL,
    name="t4",
    hardware="one 16 GB GPU",
    dtype="float16",
    longest_edge=400 * 400,
    train_rows=2000,
    batch_size=32,
    mini_batch_size=8,  # 16 GB hold 19, computed as well
    eval_batch_size=4,
    learning_rate=1e-4,
    bf16=False,
    fp16=True,
    lora=True,
    evaluations=1,
)
PROFILES = {profile.name: profile for profile in (TINY, T4, FULL)}


def find_profile(name: str) -> Profile:
    """The profile of that name, as it is written above. Raises CourseError, naming the three there are."""
    if name not in PROFILES:
        raise CourseError(f"There is no profile {name!r}: set PROFILE to one of {', '.join(PROFILES)}.")
    return PROFILES[name]


def load_profile(name: str) -> Profile:
    """The profile of that name, as this machine can run it; prints a line where that changes a value.

    Without a GPU, half precision gives way to float32. Raises as
    `find_profile` does.
    """
    profile = find_profile(name)
    if device() == "cuda":
        return profile
    there = {"dtype": profile.dtype, "bf16": profile.bf16, "fp16": profile.fp16}
    here = {"dtype": "float32", "bf16": False, "fp16": False}
    if changed := [f"{name} = {here[name]!r} instead of {there[name]!r}" for name in here if here[name] != there[name]]:
        print(f"There is no GPU here, so profile {profile.name} runs on the CPU, and slowly: {', '.join(changed)}.")
    return replace(profile, **here)
