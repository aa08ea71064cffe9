# %% [markdown]
# # 10 · Retrieve, rerank, serve
#
# **You will be able to**
# - turn vectors into int8 codes and bits, and say what each costs in score, bytes and milliseconds
# - keep vectors in an index on disk, and measure at what size an approximate one becomes faster
# - fuse two rankings by their ranks, and see which queries gain and which lose
# - serve retrieval, fusion and reranking as a page in the browser, and measure the time of each stage
# - test that a server makes the same vectors as your training code, and find what makes them differ
#
# **Time** tiny 2 min · t4 about 20 min · full about 20 min (estimates on a GPU)
#
# **Learning time** about 45 min
#
# **Memory** tiny 3 GB · t4 16 GB of GPU memory · full 80 GB of GPU memory
#
# **Read first** nothing; the vectors are those of lesson 07, and lesson 09 trains a reranker

# %% tags=["parameters"]
PROFILE = "tiny"
SEED = 0
ROWS = 0

# %%
from course_utils.machine import device, quiet

quiet()  # drops library messages that ask nothing of you
import gc
import time
from concurrent.futures import ThreadPoolExecutor
import httpx
import lancedb
import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from datasets import load_dataset
from lancedb.index import FTS, IvfRq
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.util.quantization import quantize_embeddings
from sklearn.linear_model import LogisticRegression
from course_utils import evaluation, finetuned, plots, search
from course_utils.checkpoints import checkpoint
from course_utils.corpus import build_corpus
from course_utils.dataset import page_table, prepare_dataset
from course_utils.exercises import check, close
from course_utils.profiles import load_profile
from course_utils.recording import Run

# %% [markdown]
# ## 1. Vectors become codes
#
# A search engine keeps one vector for each page. Each component is a float32 number of four bytes. Three ways use
# fewer bytes; the first two are called **quantisation**, and the third combines with both:
#
# - **int8**: cut each component's range into steps, and keep only the number of the step: one byte.
# - **bits**: keep only the sign: eight components in one byte.
# - **truncation**: keep only the first components (Matryoshka, lesson 07).
#
# ![A float32 vector of 192 components takes 768 bytes; as int8 codes 192 bytes, as bits 24 bytes. The query stays in
# float32 and rescores the pages whose bits are nearest.](images/10_codes.svg)
#
# The vectors are those of lesson 07 after finetuning: your own if you have run it here, otherwise those that come with
# the course, labelled **precomputed**.

# %%
P = load_profile(PROFILE)
FULL, CUT = P.dimensions[0], P.dimensions[2]  # all components; those that section 4 keeps
run = Run("10_retrieve_rerank_serve", profile=PROFILE, seed=SEED)
kwargs = {"dtype": P.dtype, "attn_implementation": P.attention}
dataset = prepare_dataset(P)
test = build_corpus(load_dataset(dataset, "eval", split="train"))
found = finetuned.finetuned(P)
query_ids, page_ids = found.query_ids[: ROWS or None], found.page_ids
queries = found.queries_after[: len(query_ids)].numpy()
pages = found.pages_after.numpy()
answer = np.array([page_ids.index(min(test.relevant[query])) for query in query_ids])  # one right page each
run.record("queries", len(query_ids))
run.record("pages", len(page_ids))
run.record("precomputed", int(found.label == "precomputed"))
print(f"vectors: {found.label or 'your own'}; queries {queries.shape}, pages {pages.shape}, {pages.dtype}")


# %% [markdown]
# The score is NDCG@10: with one right page 1/log₂(rank + 1), and 0 beyond rank 10 (lesson 04). If pages **tie** (have
# equal similarities), their ranks depend on how a program sorts them. So `ndcg` gives three scores for each query: in
# the worst order of the tied pages, on average over all orders, and in the best.


# %%
def unit(vectors, dimension=None):
    """The first components, at length one again."""
    kept = vectors[:, :dimension]
    return kept / np.linalg.norm(kept, axis=1, keepdims=True)


def ndcg(similarity, answer):
    """NDCG@10 of each query of `similarity` (q, n), for the worst, mean and best order of ties: (3, q)."""
    own = similarity[np.arange(len(answer)), answer][:, None]
    better = (similarity > own).sum(axis=1)
    equal = (similarity == own).sum(axis=1)  # counts the right page, too
    gain = 1 / np.log2(np.arange(2, similarity.shape[1] + 2))
    gain[10:] = 0
    total = np.concatenate([[0], gain.cumsum()])
    mean = (total[better + equal] - total[better]) / equal
    return np.stack([gain[better + equal - 1], mean, gain[better]])


exact = ndcg(queries @ pages.T, answer)
print(f"full precision: {evaluation.bootstrap(exact[1])}")

# %% [markdown]
# **int8 by hand.** For each component, the lowest value and the width of a step come from the *pages*. To decode a
# code, take the middle of its step. The library's
# [`quantize_embeddings`](https://sbert.net/docs/package_reference/util/quantization.html) must give the same codes.
#
# And if the range comes from a single query?


# %%
def int8_codes(vectors, low, step):
    return (np.clip(np.floor((vectors - low) / step), 0, 255) - 128).astype(np.int8)


def decode(codes, low, step):
    return low + (codes.astype(np.float32) + 128.5) * step


low, step = pages.min(axis=0), (pages.max(axis=0) - pages.min(axis=0)) / np.float32(255)
codes = int8_codes(pages, low, step)
library = quantize_embeddings(pages, "int8", ranges=np.stack([pages.min(axis=0), pages.max(axis=0)]))
run.record("int8/same-as-library", np.mean(codes == library))
print(f"codes equal to the library's: {np.mean(codes == library):.4%}; a page takes {codes[0].nbytes} bytes")
largest = np.abs(decode(codes, low, step) - pages).max()
print(f"largest error after decoding: {largest:.4f}; half of the widest step: {step.max() / 2:.4f}")

alone = queries[0]  # a range made from one query: lowest and highest are the same
print("codes of one query on its own range:", set(int8_codes(alone, alone, np.ones_like(alone)).tolist()))
try:
    quantize_embeddings(queries[:1], "int8")
except ValueError as error:
    print("the library:", str(error).splitlines()[0])

# %% [markdown]
# ### Exercise 1: compare bits
# You saw one code for all components: the range of **one query alone** has no width, so nothing of the query is left.
# The library refuses to do that. Keep the query in float32, or give it the pages' range (`ranges=`).
#
# Now **bits by hand**: `packbits` puts eight signs into a byte. The **Hamming distance** is the number of bits that
# differ. Write the distance of one query's bits (bytes,) to those of all pages (pages, bytes): a whole number for each
# page.
#
# <details><summary>Hint</summary>
#
# `^` leaves a 1 where two bits differ; `np.bitwise_count` counts the ones of each byte. Add up a page's bytes.
#
# </details>


# %%
bits = np.packbits(pages > 0, axis=1)
assert np.array_equal(bits, quantize_embeddings(pages, "ubinary"))
print(f"as bits a page takes {bits[0].nbytes} bytes")


def hamming(query_bits, page_bits):
    # <solution> stub: return ...
    return np.bitwise_count(page_bits ^ query_bits).sum(axis=1, dtype=np.int64)
    # </solution>


one = np.packbits(queries[0] > 0)
differing = (np.unpackbits(bits, axis=1) != np.unpackbits(one)).sum(axis=1)
tests = [
    (lambda f: f(one, bits) is not ..., "not done yet: write the body in place of `...`"),
    (lambda f: np.shape(f(one, bits)) == (len(bits),), "give one number for each page"),
    (lambda f: f(bits[0], bits)[0] == 0, "a page's distance from itself is 0"),
    (lambda f: close(f(one, bits), differing), "count the bits that differ in all bytes of a page"),
]
check("compare bits", hamming, tests)

# %% [markdown]
# ### One table
# Bits are coarse. **Rescoring** can help: order the 40 pages with the nearest bits by the dot product of the float32
# query and the page's signs ([Yamada et al. 2021](https://arxiv.org/abs/2106.00882)). The index still keeps only bits.
#
# The table shows the gain over float32 with all components, with its paired 95% interval. Predict: which loses more,
# float32 with fewer components (second row), or all components in int8 (first row)?


# %%
def similarity(queries, pages, precision, dimension, shortlist=40):
    """Similarities (q, n) of float32 queries to pages of a precision, both cut to their first components."""
    q, p = unit(queries, dimension), unit(pages, dimension)
    if precision == "float16":
        return q @ p.astype(np.float16).astype(np.float32).T
    if precision == "int8":
        low, step = p.min(axis=0), np.ptp(p, axis=0) / 255
        return q @ decode(int8_codes(p, low, step), low, step).T
    if precision.startswith("binary"):
        signs = np.where(p > 0, np.float32(1), np.float32(-1))
        # The product of signs is the dimension minus twice the Hamming distance.
        agreeing = np.where(q > 0, np.float32(1), np.float32(-1)) @ signs.T
        if precision == "binary":
            return agreeing
        kth = np.sort(agreeing, axis=1)[:, -min(shortlist, len(p)), None]
        return np.where(agreeing >= kth, q @ signs.T / dimension**0.5, agreeing - 10 * dimension)
    return q @ p.T


# %%
BYTES = {"float32": 4, "float16": 2, "int8": 1, "binary": 1 / 8, "binary-rescored": 1 / 8}
scores, gains, by_size, shown = {}, {}, {}, {}
for precision, size in BYTES.items():
    for d in P.dimensions:
        scores[precision, d] = ndcg(similarity(queries, pages, precision, d), answer)
        score = evaluation.bootstrap(scores[precision, d][1])
        gain = evaluation.paired_bootstrap(exact[1], scores[precision, d][1])
        run.record(f"ndcg@10/{precision}/{d}", score)
        run.record(f"ndcg@10/gain/{precision}/{d}", gain)
        run.record(f"bytes/page/{precision}/{d}", size * d)
        gains[precision, d] = gain
        by_size.setdefault(precision, {})[size * d] = score
        shown.setdefault(precision, {})[d] = str(gain).split(", n")[0]
for key in (("float32", P.dimensions[1]), ("int8", FULL)):
    print(f"{key[0]}, {key[1]} of {FULL} components: {gains[key]}")
gap = evaluation.paired_bootstrap(scores["float32", P.dimensions[1]][1], scores["int8", FULL][1])
said = (
    "fewer components lose" if gap.low > 0 else "int8 loses" if gap.high < 0 else "neither is shown to lose"
)
print(f"You saw: {said} more (int8 minus fewer components: {gap}).")
pd.DataFrame(shown).rename_axis("components")

# %%
figure = plots.by_bytes(by_size, found.title("Precision times length"))
run.figure(
    "codes", figure, "NDCG@10 by bytes a page, for five precisions at each length, with 95% intervals."
)
cheap = [(BYTES[name] * d, name, d) for (name, d), gain in gains.items() if gain.low > -0.02]
print("Fewest bytes whose interval stays above a loss of 0.02: {:g} ({}, {} components)".format(*min(cheap)))
figure

# %% [markdown]
# On the plot, a point further **left** is cheaper. To choose, draw such a plot for *dev* queries.
#
# ### Ties and time
# Few distances between bits are possible, so many pages tie. How far can the order of tied pages move the score? And do
# fewer bytes make a query faster in NumPy? Predict both.

# %%
ties = {}
for d in P.dimensions:
    worst, _, best = scores["binary", d].mean(axis=1)
    rescored = np.ptp(scores["binary-rescored", d].mean(axis=1))  # best minus worst
    run.record(f"ndcg@10/binary/{d}/worst", worst)
    run.record(f"ndcg@10/binary/{d}/best", best)
    run.record(f"ties/width/{d}", best - worst)
    run.record(f"ties/width-rescored/{d}", rescored)
    ties[d] = {"worst order": worst, "best order": best, "apart": best - worst, "apart, rescored": rescored}
display(pd.DataFrame(ties).T.rename_axis("bits").round(3))

q, page_signs = queries[0], np.where(pages > 0, np.float32(1), np.float32(-1))
ways = {
    "float32": lambda: pages @ q,
    "int8": lambda: decode(codes, low, step) @ q,
    "binary": lambda: np.bitwise_count(bits ^ one).sum(axis=1),
    "binary-rescored": lambda: page_signs[np.bitwise_count(bits ^ one).sum(axis=1).argsort()[:40]] @ q,
}
for name, way in ways.items():
    began = time.perf_counter()
    for _ in range(50):
        way()
    ways[name] = 1000 * (time.perf_counter() - began) / 50
    run.record(f"milliseconds/query/{name}", ways[name])
    print(f"{name:>16}: {ways[name]:.3f} ms a query, {ways[name] / ways['float32']:.1f} times float32")

# %% [markdown]
# **Watch out**: two programs with the same bits can report scores as far apart as the table shows, so say how you
# order ties. And int8 codes save no time here, since NumPy turns them back into float32.
#
# ## 2. An index on disk
#
# [LanceDB](https://docs.lancedb.com) is a library, not a server: a table is a folder on disk. Its `dot` distance is
# one minus the dot product.


# %%
def write(name, **columns):
    """A LanceDB table: arrays of vectors (n, d) become columns of vectors, lists become plain columns."""
    for key, rows in columns.items():
        if isinstance(rows, np.ndarray) and rows.ndim == 2:
            columns[key] = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    return database.create_table(name, pa.table(columns), mode="overwrite")


def ask(table, vector, count=10, **options):
    """Pages and distances of the nearest rows, best first; `options` are calls, such as nprobes=(20,)."""
    query = table.search(vector).distance_type("dot").limit(count).select(["page", "_distance"])
    for name, value in options.items():
        query = getattr(query, name)(*value)
    return query.to_arrow()


database = lancedb.connect(str(run.folder / "index"))
stored = write("pages", page=page_ids, vector=pages)
first = ask(stored, queries[0], 3)
by_hand = [page_ids[k] for k in np.argsort(-(pages @ queries[0]))[:3]]
print("LanceDB:", first["page"].to_pylist(), [f"{1 - x:.4f}" for x in first["_distance"].to_pylist()])
print("NumPy:  ", by_hand, [f"{pages[page_ids.index(p)] @ queries[0]:.4f}" for p in by_hand])

# %% [markdown]
# That search was **exact**: it read every vector. An **approximate** index reads fewer. `IVF_RQ` groups vectors around
# centres and keeps short codes ([RaBitQ, Gao & Long 2024](https://arxiv.org/abs/2405.12497)). A query looks only at the
# `nprobes` nearest groups. With `refine_factor=5`, the best 5 x 10 codes are compared again by their true vectors.
#
# When is it worth it? We have few pages, so we **make** more vectors: ours, moved at random. These are not real pages, so
# measure recall on your own. Cut to 64 components, a million take 256 MB. **Recall@10** is here the share of the ten
# truly nearest vectors that the index finds. Predict: at which size does the index become faster than NumPy?

# %%
SIZES = (len(pages), 20_000) if ROWS else (len(pages), 100_000, 1_000_000)
rng = np.random.default_rng(SEED)
base, asked = unit(pages, 64), unit(queries[:100], 64)


def grow(base, size):
    """`base` (n, d), then its rows again with components moved by 0.7 of their spread: `size` rows in all."""
    rows = base[np.arange(size) % len(base)]
    noise = rng.standard_normal((size - len(base), base.shape[1]), dtype=np.float32)
    noise *= np.float32(0.7) * base.std(axis=0)
    rows[len(base) :] += noise
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def timed(function, inputs):
    """What the function gives for each input, and the median of its milliseconds."""
    results, milliseconds = [], []
    for each in inputs:
        began = time.perf_counter()
        results.append(function(each))
        milliseconds.append(1000 * (time.perf_counter() - began))
    return results, float(np.median(milliseconds))


# %%
def nearest(vectors, query):
    """The ten rows with the largest products, in NumPy."""
    return set(np.argpartition(-(vectors @ query), 10)[:10].tolist())


FAST = {"nprobes": (20,), "refine_factor": (5,)}
growth = {}
for size in SIZES:
    vectors = grow(base, size)
    true, by_numpy = timed(lambda query, vectors=vectors: nearest(vectors, query), asked)
    rows = write("grown", page=pa.array(np.arange(size, dtype=np.int32)), vector=vectors)
    del vectors
    _, by_scan = timed(lambda query, rows=rows: ask(rows, query, bypass_vector_index=()), asked[:10])
    began = time.perf_counter()
    rows.create_index(
        "vector", config=IvfRq(distance_type="dot", num_partitions=max(1, size // 4000), num_bits=4)
    )
    build = time.perf_counter() - began
    hits, by_index = timed(lambda query, rows=rows: set(ask(rows, query, **FAST)["page"].to_pylist()), asked)
    recall = np.mean([len(hit & ten) / 10 for hit, ten in zip(hits, true, strict=True)])
    line = {"NumPy, exact": by_numpy, "LanceDB, exact": by_scan, "LanceDB, IVF_RQ": by_index}
    growth[size] = line | {"recall@10": recall, "seconds to build": build}
database.drop_table("grown")

# %%
names = {"NumPy, exact": "numpy", "LanceDB, exact": "lancedb-exact", "LanceDB, IVF_RQ": "lancedb-ivf-rq"}
for size, line in growth.items():
    run.record(f"recall@10/index/{size}", line["recall@10"])
    run.record(f"seconds/build/{size}", line["seconds to build"])
    for label, name in names.items():
        run.record(f"milliseconds/query/{name}/{size}", line[label])
    fastest = min(names, key=line.get)
    print(f"{size:>9,} vectors: fastest is {fastest} ({line[fastest]:.2f} ms a query)")
ahead = [f"{size:,}" for size, line in growth.items() if line["LanceDB, IVF_RQ"] < line["NumPy, exact"]]
print("You saw the index ahead of NumPy at:", ", ".join(ahead) or "none of these sizes")
display(pd.DataFrame(growth).T.round(3))
lines = {name: {size: line[name] for size, line in growth.items()} for name in names}
figure = plots.by_vectors(lines, "One query at a time, vectors of 64 components, on this machine")
run.figure("growth", figure, "Milliseconds a query by number of vectors: NumPy, LanceDB exact and IVF_RQ.")
figure

# %% [markdown]
# ### Exercise 2: a hundred million pages
# How many gigabytes (10⁹ bytes) do 100 million pages take with all `FULL` components, in float32 and in bits? And how
# many **seconds** does an exact query over 100 million vectors of 64 components take, if NumPy's time in the table's
# last row grows in proportion?
#
# <details><summary>Hint</summary>
#
# A component takes four bytes, or one eighth of a byte. `growth[SIZES[-1]]["NumPy, exact"]` is in milliseconds.
#
# </details>

# %%
# <solution> stub: gb_float32, gb_bits, seconds = ..., ..., ...
gb_float32, gb_bits = 1e8 * FULL * 4 / 1e9, 1e8 * FULL / 8 / 1e9
seconds = growth[SIZES[-1]]["NumPy, exact"] / 1000 * 1e8 / SIZES[-1]
# </solution>
per_row = growth[SIZES[-1]]["NumPy, exact"] / SIZES[-1]
tests = [
    (
        lambda a: close(a[0], FULL * 0.4, 1e-6),
        "float32: pages times components times four bytes, in 10⁹ bytes",
    ),
    (
        lambda a: close(a[1], FULL * 0.4 / 32, 1e-6),
        "bits: pages times components, in bytes, then in 10⁹ bytes",
    ),
    (lambda a: not close(a[2], per_row * 1e8, 1e-3), "this is in milliseconds, not seconds"),
    (lambda a: close(a[2], per_row * 1e5, 1e-6), "seconds: the time for one vector, times the vectors"),
]
check("a hundred million pages", [gb_float32, gb_bits, seconds], tests)

# %% [markdown]
# **Exact search is enough** as long as it takes little time compared with embedding the query (section 5): it finds
# everything. NumPy holds all vectors in memory; LanceDB reads them from disk.
#
# The index's recall depends on how many groups a query looks at: here 20 (or all), of one for each 4,000 vectors.
#
# ## 3. Fuse with text
#
# OCR (lesson 04) reads the words in a page's image. Two systems search these words: BM25, which counts shared words
# (LanceDB's full-text index `FTS`), and all-MiniLM-L6-v2, a small text embedding model. **Reciprocal rank fusion**
# ([Cormack et al. 2009](https://doi.org/10.1145/1571941.1572114)) joins two rankings without their scores: a page at
# rank *r* of a list gets 1/(60 + *r*), and the sum over both lists is its new score. So a page at rank 61 of both lists
# comes before a page that is first in one list only. That hurts where one system was right and the other was not.
#
# We look at four **slices** of the queries: the right page has a text layer (`text`); it is a scan (`scan`); the query
# uses words that no training query or page had (`unseen-wording`); it does so in everyday phrases (`unseen-natural`).
# Predict: on which slices does fusion with MiniLM help, and on which does it hurt?


# %%
def fuse(first, second, shift=60):
    """Page ids of two lists, best first, in the order of their sums of reciprocal ranks."""
    sums = {page: 1 / (shift + rank) for rank, page in enumerate(first, start=1)}
    for rank, page in enumerate(second, start=1):
        sums[page] = sums.get(page, 0) + 1 / (shift + rank)
    return sorted(sums, key=sums.get, reverse=True)


sets = {}
if P.drawn:
    layer = page_table(P)
    readable = search.page_texts(P)
    minilm = SentenceTransformer(checkpoint(P.text_tower), device=device())
    text_vectors = minilm.encode(readable.tolist(), normalize_embeddings=True, batch_size=64)
    texts = write("texts", page=list(readable.index), text=readable.tolist())
    texts.create_index("text", config=FTS())
    print(f"text of {len(readable):,} of the {len(page_ids):,} pages, read by OCR")
    sets["test"] = test, found.queries_after
    for kind, name in (("wording", "unseen"), ("natural", "natural")):
        sets[kind] = test.ask(load_dataset(dataset, name, split="train")), getattr(found, f"{name}_after")


# %%
def ndcg_of(rows, right):
    return np.array([evaluation.ndcg_at_k(row, {page}) for row, page in zip(rows, right, strict=True)])


ranked, parts = {}, {}
for kind, (corpus, vectors) in sets.items():
    words = list(corpus.queries.values())[: ROWS or None]
    by_page = evaluation.rankings(vectors[: len(words)], pages, page_ids, k=100)
    by_minilm = evaluation.rankings(minilm.encode(words), text_vectors, list(readable.index), k=100)
    by_bm25 = []
    for text in words:
        hits = texts.search(text, query_type="fts").select(["page", "_score"]).limit(100).to_arrow()
        by_bm25.append(hits["page"].to_pylist())
    right = [min(corpus.relevant[query]) for query in list(corpus.queries)[: len(words)]]
    ranked[kind] = right, by_page, {"minilm": by_minilm, "bm25": by_bm25}
    scan = layer.loc[right, "scan"].to_numpy()
    masks = {"text": ~scan, "scan": scan} if kind == "test" else {f"unseen-{kind}": np.ones_like(scan)}
    parts[kind] = {name: mask for name, mask in masks.items() if mask.any()}


# %%
def by_slice(name, other):
    """Scores of the page model alone and fused with the other list, by slice; the paired gain is printed."""
    lines, does = {}, {"helps": [], "hurts": [], "no difference is shown": []}
    for kind, (right, by_page, others) in ranked.items():
        both = [fuse(*lists) for lists in zip(by_page, others[other], strict=True)]
        alone, both = ndcg_of(by_page, right), ndcg_of(both, right)
        for part, mask in parts[kind].items():
            gain = evaluation.paired_bootstrap(alone[mask], both[mask])
            score = evaluation.bootstrap(both[mask])
            run.record(f"ndcg@10/{name}/{part}", score)
            run.record(f"ndcg@10/gain/{name}/{part}", gain)
            lines[part] = evaluation.bootstrap(alone[mask]), score
            said = "helps" if gain.low > 0 else "hurts" if gain.high < 0 else "no difference is shown"
            does[said].append(part)
            print(f"{name:>10}, {part:<14} {alone[mask].mean():.3f} to {score.mean:.3f}; {said}: {gain}")
    for said in ("helps", "hurts") if lines else ():
        print(f"You saw that fusion with {other} {said} on: {', '.join(does[said]) or 'no slice'}.")
    return lines


by_slice("fused-bm25", "bm25")
if fused := by_slice("fused", "minilm"):
    figure = plots.before_after(fused, title=found.title("The page model alone (before) and fused (after)"))
    run.figure("fusion", figure, "NDCG@10 of the page model alone and fused with MiniLM, by slice.")
    display(figure)

# %% [markdown]
# Look at slices of dev queries before you switch fusion on.
#
# ## 4. Rerank a cheap first stage
#
# A reranker (lesson 09) reads query and page together; the better the page answers, the higher its **logit**. It has
# most to gain where the first stage is cheap. So ours is: 20 candidates from the rescored bits of a shorter vector.
#
# The new score is 20 x cosine + weight x logit, with a weight that is fitted on dev queries. To save time, we take only
# some of the queries. Predict: will reranking pay here?

# %%
reranker = CrossEncoder(checkpoint(P.reranker), device=device(), model_kwargs=kwargs)
reranker[0].processing_kwargs |= {"image": {"size": P.pixels}}
dev = build_corpus(load_dataset(dataset, P.dev_config, split=P.dev_split))
some = min(ROWS or 80, len(query_ids))
sides = {
    "dev": (dev, found.dev_queries_after[: min(some, 40)].numpy(), found.dev_pages_after.numpy()),
    "test": (test, queries[:some], pages),
}
judged = {}
for name, (corpus, asked_here, stored_here) in sides.items():
    ids = list(corpus.corpus)
    near = similarity(asked_here, stored_here, "binary-rescored", CUT)
    best = np.argsort(-near, axis=1, kind="stable")[:, :20]
    texts_here = list(corpus.queries.values())[: len(best)]
    pairs = [(text, corpus.corpus[ids[k]]) for text, row in zip(texts_here, best, strict=True) for k in row]
    began = time.perf_counter()
    options = {"activation_fn": torch.nn.Identity(), "batch_size": P.eval_batch_size}
    logits = reranker.predict(pairs, **options).reshape(best.shape).astype(float)
    per_pair = (time.perf_counter() - began) / len(pairs)
    right = np.array([[ids[k] in corpus.relevant[f"q{n}"] for k in row] for n, row in enumerate(best)])
    judged[name] = 20 * np.take_along_axis(near, best, axis=1), logits, right
print(f"a pair takes {1000 * per_pair:.0f} ms, twenty take {20_000 * per_pair:.0f} ms")
del reranker
torch.cuda.empty_cache()

# %%
cosines, logits, right = judged["dev"]  # each (queries, 20)
both = np.stack([cosines, logits], axis=-1)
# the right candidate minus each wrong one must have a positive score; its mirror image a negative one
won = np.concatenate([b[r][:1] - b[~r] for b, r in zip(both, right, strict=True) if r.any()])
mirrored, label = np.concatenate([won, -won]), np.repeat([1, 0], len(won))
by_cosine, by_logit = LogisticRegression(fit_intercept=False).fit(mirrored, label).coef_[0]
weight = float(max(by_logit, 0) / max(by_cosine, 1e-3))
run.record("weight", weight)
cosines, logits, right = judged["test"]
discounts, results = np.where(np.arange(20) < 10, 1 / np.log2(np.arange(2, 22)), 0), []
for scored in (cosines, cosines + weight * logits):
    order = np.argsort(-scored, axis=1, kind="stable")
    results.append((np.take_along_axis(right, order, axis=1) * discounts[: order.shape[1]]).sum(axis=1))
plain, reranked = results
gap = evaluation.paired_bootstrap(plain, reranked)
run.record("ndcg@10/cheap", evaluation.bootstrap(plain))
run.record("ndcg@10/cheap-reranked", evaluation.bootstrap(reranked))
run.record("ndcg@10/gain/cheap-reranked", gap)
run.record("ceiling/cheap", right.any(axis=1).mean())
said = "pays" if gap.low > 0 else "hurts" if gap.high < 0 else "is not shown to change the score"
print(f"{CUT // 8} bytes a page: {evaluation.bootstrap(plain)}; reranked: {evaluation.bootstrap(reranked)}")
print(f"weight {weight:.2f}; a perfect reranker would reach {right.any(axis=1).mean():.3f}")
print(f"You saw that reranking {said}: gain {gap}.")

# %% [markdown]
# ## 5. A search page
#
# ![The browser asks the server, which embeds the query, searches the index, and if asked fuses with text and reranks
# 20 pages; it reports the milliseconds of each stage](images/10_serve.svg)
#
# `search.load_engine` joins the parts of this lesson, and `search.start` serves them with
# [FastAPI](https://fastapi.tiangolo.com), on this machine only (`127.0.0.1`). **Open the address** in your browser: type
# a query, switch to before finetuning, fuse, rerank, or ask with an image. `course serve` opens it without the lesson.
#
# We send one query, and four requests that are wrong on purpose. Then we time each stage of a query, and let 32 clients
# ask at once, without fusion and reranking. Predict: which stage takes longest?

# %%
known = text_vectors if P.drawn else None  # of section 3, not made again
engine = search.load_engine(P, run.folder / "search", weight=weight, text_vectors=known)
server = search.start(engine)
print("Open", server.address)
client = httpx.Client(base_url=server.address, timeout=300)


def get(path, **parameters):
    """The server's answer to a request."""
    return client.get(path, params=parameters).json()


text = test.queries[query_ids[0]]
reply = get("/api/search", query=text, model="after")
top = [hit["page"] for hit in reply["hits"]]
run.record("server/right-page-first", int(top[0] in test.relevant[query_ids[0]]))
# A wrong request gets one sentence, and nothing of what was sent comes back.
for parameters in ({"query": ""}, {"query": "<script>"}, {"query": "chad", "count": 10**6}, {"model": "gpt"}):
    response = client.get("/api/search", params=parameters)
    print(response.status_code, response.json()["error"])
plots.gallery(text, [test.image(page) for page in top], top, test.relevant[query_ids[0]], "served")

# %%
few = [test.queries[query] for query in query_ids[:8]]
switches = {"fuse": str(P.drawn).lower(), "rerank": "true"}
# "before" embeds each query; for "after", the vectors of these queries may be known already.
get("/api/search", query=few[0], model="before", **switches)  # loads the models, so it is not counted
laps = [get("/api/search", query=text, model="before", **switches)["milliseconds"] for text in few]
stages = pd.DataFrame(laps).median()
for name, milliseconds in stages.items():
    run.record(f"milliseconds/query/{name}", milliseconds)
    print(f"{name:>7}: {milliseconds:8.1f} ms")
print(f"You saw {stages.idxmax()} take longest: {stages.max() / stages.sum():.0%} of the time.")

with ThreadPoolExecutor(32) as clients:
    began = time.perf_counter()
    waited = list(clients.map(lambda text: timed(lambda t: get("/api/search", query=t), [text])[1], few * 16))
rate = len(waited) / (time.perf_counter() - began)
slow = np.percentile(waited, 95)
run.record("milliseconds/32-clients/p95", slow)
print(f"32 clients at once, search alone: {rate:.0f} answers a second, 95% of them within {slow:.0f} ms")

# %% [markdown]
# ## 6. Parity
#
# One program embedded the pages; the server embeds the queries. If the two use the model differently, the score can fall
# without any error message. So we test **parity**: the same inputs are embedded there one by one, and here in one batch,
# and their vectors must agree. The server ends in between, so that its models leave the GPU.
#
# Then we break parity in four ways: a **prompt** before the query; a chat **template** that ends differently; half of the
# **pixels**; another **dtype**. Predict: which moves the vectors most?

# %%
images = [test.image(page).convert("RGB") for page in page_ids[:4]]
there = {"queries": np.array([get("/api/vector", query=text) for text in few]), "pages": []}
for image in images:
    image.save(run.folder / "upload.png")
    content, kind = (run.folder / "upload.png").read_bytes(), {"Content-Type": "image/png"}
    there["pages"].append(client.post("/api/vector", content=content, headers=kind).json())
client.close()
server.stop()
del server, engine
gc.collect()
torch.cuda.empty_cache()
model = SentenceTransformer(checkpoint(P.embedder), device=device(), model_kwargs=kwargs)
model[0].processing_kwargs |= {"image": {"size": P.pixels}}


def embed(encode, inputs, **options):
    """Vectors of length one, float32, on the CPU."""
    return unit(encode(inputs, convert_to_tensor=True, **options).float().cpu().numpy())


here = {"queries": embed(model.encode_query, few), "pages": embed(model.encode_document, images)}
difference = max(np.abs(here[side] - np.array(there[side])).max() for side in here)
run.record("parity/difference", difference)
print(f"largest difference of a component: {difference:.1e}")

# %%
ends = model[0].processing_kwargs.get("chat_template", {}).get("add_generation_prompt", False)
template = {"chat_template": {"add_generation_prompt": not ends}}
fewer = {"image": {"size": P.pixels | {"longest_edge": P.pixels["longest_edge"] // 2}}}
broken = {
    "prompt": embed(model.encode_query, few, prompt="Find the page: "),
    "template": embed(model.encode_query, few, processing_kwargs=template),
    "pixels": embed(model.encode_document, images, processing_kwargs=fewer),
}
model.to(torch.bfloat16 if P.dtype == "float32" else torch.float32)
broken["dtype"] = embed(model.encode_query, few)
lines = {}
for name, vectors in broken.items():
    meant = here["pages" if name == "pixels" else "queries"]
    cosine = (vectors * meant).sum(axis=1)
    run.record(f"parity/{name}", np.abs(vectors - meant).max())
    lines[name] = {"largest difference": np.abs(vectors - meant).max(), "lowest cosine": cosine.min()}
most = max(lines, key=lambda name: lines[name]["largest difference"])
print(f"You saw the largest change from: {most}.")
pd.DataFrame(lines).T

# %% [markdown]
# Keep such a test with your server: a few inputs, their vectors, and a bound on the difference (10⁻⁵ for float32).
#
# ## 7. Batches
#
# Does a larger batch embed more pages a second? Predict the best size.

# %%
model.to(getattr(torch, P.dtype))
many, speed = [test.corpus[page] for page in page_ids[: 8 if ROWS else 32]], {}
for batch_size in (1, 4, 16, 32):
    began = time.perf_counter()
    model.encode_document(many, batch_size=batch_size, convert_to_tensor=True).cpu()
    speed[batch_size] = len(many) / (time.perf_counter() - began)
    run.record(f"pages-a-second/batch-{batch_size}", speed[batch_size])
    print(f"batch of {batch_size:>2}: {speed[batch_size]:6.1f} pages a second on {model.device.type}")
best = max(speed, key=speed.get)
run.save()
print(f"You saw a batch of {best} embed most: {speed[best] / speed[1]:.1f} times the pages of a batch of 1.")

# %% [markdown]
# **On a GPU**, only a large batch keeps the GPU busy, so serving engines join the requests of many clients. *Published*,
# not tried here: `vllm serve Qwen/Qwen3-VL-Embedding-2B --runner pooling`. Test its parity first: it can
# [resize images differently](https://github.com/vllm-project/vllm/pull/33419), and version 0.14
# [ignored](https://github.com/vllm-project/vllm/issues/32541) adapters on the image tower.
#
# ## Three questions
#
# **1.** You quantise pages to int8 by hand, and each query with the range of that query alone. What happens?
#
# - a) the score falls a little · b) nothing of the query is left · c) nothing changes
#
# <details><summary>Answer</summary>
#
# **b.** The range of one vector has no width, so all codes are equal. Not a: equal codes say nothing about any page.
# Not c: codes mean nothing without their range.
#
# </details>
#
# **2.** You have 20,000 pages and one exact search takes less time than embedding the query. Do you need an approximate
# index?
#
# - a) yes, always · b) no · c) only with int8
#
# <details><summary>Answer</summary>
#
# **b.** It would save the smaller part of the time, and can miss pages. Not a: exact search is fast enough here. Not c:
# int8 is about memory.
#
# </details>
#
# **3.** After an update of the server the scores fall, and no error is reported. What do you look at first?
#
# - a) the vectors of a few fixed inputs, before and after · b) the size of the index · c) the number of clients
#
# <details><summary>Answer</summary>
#
# **a.** Prompt, template, pixels or dtype may have changed. Not b: size changes no vector. Not c: many clients make
# answers slow, not wrong.
#
# </details>

# %% [markdown]
# ## You have
# - made int8 codes and bits by hand, and compared score, bytes and milliseconds
# - kept vectors in LanceDB, and measured at which sizes an approximate index is faster than NumPy
# - fused two rankings by their ranks, and looked at which slices gain and which lose
# - served it all as a page in the browser, with the time of each stage
# - tested that the server makes the same vectors as this notebook, and broken that in four ways
#
# **Next**: lesson 11 keeps one vector for each part of a page, and shows which part answers which word.
