"""What the stand-ins score on the dev and test pages, and the model cards that say so."""

import torch
from datasets import load_dataset
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import Qwen3VLForConditionalGeneration

from .. import paths
from ..corpus import Corpus, build_corpus
from ..documents import build_documents
from ..evaluation import Interval, bootstrap, per_query_ndcg
from ..files import atomic_write
from ..splits import splits
from .texts import caption

VARIANTS, SIGLIP_VARIANTS = 4, 3  # drawings of each general page
VLM, EMBEDDER = "tiny-qwen3-vl", "tiny-qwen3-vl-embedding"
SIGLIP, RERANKER = "tiny-siglip", "tiny-qwen3-vl-reranker"

CARD = """---
library_name: {library}
license: mit
---
# {name}

{what} A small model trained here, of the same class as the published one ({published}); it reads this course's pages and
nothing else; its scores do not predict the published model's scores.

- **Size**: {parameters:.1f} M parameters, stored in bfloat16; load with `dtype=float32` for training on a CPU.
- **Trained on**: {pages:,} general pages of The World Factbook (2015), {variants} drawings each in random layouts, with
  query wordings of their own. No page, layout or query wording of the course's train, dev and test splits was used;
  countries and topics recur.
- **How**: {how} The word table starts from `sentence-transformers/all-MiniLM-L6-v2` (Apache 2.0), which is the teacher too.
- **Made again**: these weights come from a chain of runs. Reading was learned with earlier versions of the strips and
  sheets, in more than an hour; then came 200 steps on sheets and 720 on whole pages as described above.
  `course build-standins` runs all stages in one go, seeded, in about two hours on two CPU cores. It gives other weights,
  and their scores have not been measured yet.
- **Measured here**: {measured}
- **Not for**: any page or any question outside this course.
"""
HOW = (
    "It first learns to read: each image token names the words in its 32 x 32 pixels, on strips and sheets of headings. "
    "Then four losses together on parts of pages and whole pages: reading, describing the page (next token), matching it "
    "with queries among look-alikes (contrastive), and imitating where all-MiniLM-L6-v2 puts its headings. From the first step, "
    "texts imitate that teacher too: general queries, and plain words put together by chance."
)


def score(model: SentenceTransformer, corpus: Corpus) -> Interval:
    """NDCG@10 over the corpus, with its interval."""
    options = {"convert_to_tensor": True, "batch_size": 32}
    queries = model.encode_query(list(corpus.queries.values()), **options)
    pages = model.encode_document(list(corpus.corpus.values()), **options)
    return bootstrap(per_query_ndcg(queries, pages, list(corpus.queries), list(corpus.corpus), corpus.relevant))


def described(model: Qwen3VLForConditionalGeneration, processor, corpus: Corpus, table) -> Interval:
    """Share of the first 100 pages whose greedy description is right to the letter."""
    from ..facts import pages

    right = []
    for page_id, path in list(corpus.paths.items())[:100]:
        messages = [{"role": "user", "content": [{"type": "image", "image": path}]}]
        inputs = processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        said = model.generate(**inputs, max_new_tokens=24, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        wanted = processor.tokenizer(caption(pages()[page_id], table.loc[path, "form"]), add_special_tokens=False)["input_ids"]
        right.append(float(said.tolist()[: len(wanted)] == wanted))
    return bootstrap(right)


def write_cards() -> None:
    """Measure both stand-ins on the dev and test pages and write their model cards."""
    documents = build_documents()
    files = {"dev": documents.dev, "test": documents.test}
    data = load_dataset("parquet", data_files=files)
    corpora = {split: build_corpus(data[split]) for split in files}
    embedder = SentenceTransformer(str(paths.MODELS / EMBEDDER), model_kwargs={"dtype": "float32"})
    found = {split: score(embedder, corpus) for split, corpus in corpora.items()}
    vlm = Qwen3VLForConditionalGeneration.from_pretrained(paths.MODELS / VLM, dtype=torch.float32)
    processor = embedder[0].processor
    said = described(vlm, processor, corpora["dev"], documents.side_table())
    common = {"pages": len(splits().general), "variants": VARIANTS}
    parameters = sum(p.numel() for p in vlm.parameters()) / 1e6
    cards = {
        VLM: common | {
            "library": "transformers", "what": "A tiny Qwen3-VL that describes a page.",
            "published": "`Qwen/Qwen3-VL-2B-Instruct`, `Qwen3VLForConditionalGeneration`", "parameters": parameters,
            "how": f"{HOW} The weights are those of {EMBEDDER}, saved as a raw VLM: without pooling, with its language head.",
            "measured": f"exact descriptions of the course's dev pages, whose layouts it never saw: {said}.",
        },
        EMBEDDER: common | {
            "library": "sentence-transformers", "what": "A tiny multimodal embedding model for queries and page images.",
            "published": "`Qwen/Qwen3-VL-Embedding-2B`: `Transformer`, `Pooling(\"lasttoken\")`, `Normalize`",
            "parameters": sum(p.numel() for p in embedder.parameters()) / 1e6,
            "how": HOW,
            "measured": f"NDCG@10 on the course's test pages {found['test']}; on its dev pages {found['dev']}.",
        },
    }
    for name, values in cards.items():
        atomic_write(paths.MODELS / name / "README.md", CARD.format(name=name, **values))

