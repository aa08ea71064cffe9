# %% [markdown]
# # 04 · Measure retrieval
#
# **You will be able to**
# - write NDCG@10 by hand, for one relevant page or several, and get the library's figure
# - say what recall@10, MRR@10 and NDCG@10 each hide
# - read a score against baselines: chance, a reader of half the query, BM25, a text embedder
# - put an interval on a difference, and say how many queries it takes to see one
# - find the page that is in the corpus twice, before it punishes your best model
#
# **Time** tiny 1 min · t4 about 20 min · full about 10 min (the two on a GPU are estimates, not measured here)
#
# **Memory** tiny 2 GB · t4 16 GB of GPU memory · full 80 GB of GPU memory
#
# **Read first** nothing

# %% tags=["parameters"]
PROFILE = "tiny"
SEED = 0
ROWS = 0

# %%
from course_utils.machine import device, quiet

quiet()  # drops library messages that ask nothing of you

import bm25s
import ir_measures
import numpy as np
import pandas as pd
from datasets import load_dataset
from ir_measures import RR, R, nDCG
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

from course_utils import baselines, evaluation, plots
from course_utils.checkpoints import checkpoint
from course_utils.corpus import build_corpus
from course_utils.dataset import page_table, prepare_dataset
from course_utils.exercises import check, close
from course_utils.profiles import load_profile
from course_utils.recording import Run

# %%
P = load_profile(PROFILE)
run = Run("04_measure_retrieval", profile=PROFILE, seed=SEED)

# %% [markdown]
# ## 1. A ranking and its judgements
#
# Three things make a retrieval test: **queries**, a **corpus** of pages, and **relevance judgements** (qrels), which
# say for each query which pages answer it. A model adds a ranking of the corpus for each query. All the rest is
# arithmetic.
#
# `build_corpus` makes the three from the 300 test rows: all their pages, each once. `ROWS` takes fewer rows, for a
# quick look. Where the pages are drawn here (`P.drawn`, in `tiny`), there is also a table of what each page shows,
# with its **text layer**: the words that copy and paste would give. The published data, which `t4` and `full` use,
# has no such table and no text layer; cells that need them say so.

# %%
dataset = prepare_dataset(P)
test_data = load_dataset(dataset, "eval", split="train")
test = build_corpus(test_data.select(range(min(ROWS or len(test_data), len(test_data)))))
query_ids, page_ids = list(test.queries), list(test.corpus)
run.record("queries", len(query_ids))
run.record("pages", len(page_ids))
print(f"{len(query_ids)} queries over {len(page_ids)} pages")
if P.drawn:
    table = page_table(P).loc[page_ids]
    print(f"{table['scan'].sum()} of the pages are scans, which have no text layer. A page that has one:")
    print(table["text"][~table["scan"]].iloc[0])

# %% [markdown]
# The model is the embedding model *before* any finetuning: it was trained on other pages and other wordings. Every
# page is embedded once, from its pixels, and the ranking is by cosine. Everything below is computed from these two
# arrays.

# %%
kwargs = {"dtype": P.dtype, "attn_implementation": P.attention}
model = SentenceTransformer(checkpoint(P.embedder), device=device(), model_kwargs=kwargs)
model[0].processing_kwargs |= {"image": {"size": P.pixels}}
options = {"batch_size": P.eval_batch_size, "convert_to_tensor": True}
query_vectors = model.encode_query(list(test.queries.values()), **options)
page_vectors = model.encode_document(list(test.corpus.values()), show_progress_bar=True, **options)


def ranked(similarity, ids):
    """All page ids, best first, for each row of `similarity` (queries, pages); ties go to the smaller id."""
    order = sorted(range(len(ids)), key=ids.__getitem__)
    places = similarity[:, order].argsort(dim=1, descending=True, stable=True).tolist()
    return [[ids[order[k]] for k in row] for row in places]


rankings = {"before": ranked(model.similarity(query_vectors, page_vectors), page_ids)}

# %%
query_id = query_ids[min(7, len(query_ids) - 1)]
top = rankings["before"][query_ids.index(query_id)][:5]
plots.gallery(test.queries[query_id], [test.image(page) for page in top], top, test.relevant[query_id])

# %% [markdown]
# ## 2. NDCG@10 by hand
#
# A relevant page at rank *r* gains 1/log₂(*r* + 1): 1 at the top, 0.63 at rank 2, 0.29 at rank 10, nothing after
# that. The sum over the ten ranks is the **DCG**. Divide by the sum that a perfect ranking would have, and the
# **normalised** DCG lies between 0 and 1. With one relevant page, a perfect ranking's sum is 1; with three, it has
# its pages at ranks 1, 2 and 3. **Go deeper**: Järvelin and Kekäläinen (2002), *Cumulated gain-based evaluation of IR
# techniques*.


# %%
def ndcg_at_10(ranking: list[str], relevant: set[str]) -> float:
    """NDCG@10 of one query: page ids, best first, and the ids of all pages that answer it."""
    gains = [1 / np.log2(rank + 1) for rank, page in enumerate(ranking[:10], start=1) if page in relevant]
    perfect = [1 / np.log2(rank + 1) for rank in range(1, min(10, len(relevant)) + 1)]
    return float(sum(gains) / sum(perfect))


for ranking in ("abcd", "bacd", "cdab"):
    one, both = ndcg_at_10(ranking, {"a"}), ndcg_at_10(ranking, {"a", "b"})
    print(f"{' '.join(ranking)}   a relevant: {one:.3f}   a and b: {both:.3f}")

# %% [markdown]
# ### Exercise 1: three relevant pages
# Three pages answer a query, and a ranking has them at ranks 1, 4 and 12. What is its NDCG@10? Work it out without
# calling the function.
#
# *Hint: which of the three count in the ranking's sum, and which in the perfect ranking's?*

# %%
# <solution> stub: three = ...
three = (1 / np.log2(2) + 1 / np.log2(5)) / (1 / np.log2(2) + 1 / np.log2(3) + 1 / np.log2(4))
# </solution>
twelfth = "the perfect ranking has three relevant pages, also the one you ranked 12th"
check(
    "NDCG@10 with three relevant pages",
    three,
    [
        (lambda a: 0 <= a <= 1, "NDCG lies between 0 and 1: divide by the perfect ranking's sum"),
        (lambda a: not close(a, 1.4307 / 1.6309, 1e-3), twelfth),
        (lambda a: close(a, 1.4307 / 2.1309, 1e-3), "ranks 1 and 4 gain; a perfect ranking has 1, 2 and 3"),
    ],
)

# %% [markdown]
# Now all the queries, beside `InformationRetrievalEvaluator`. Two sets of judgements: the test queries, each with one
# relevant page; and broad ones, *all pages on Chad*, which several pages answer: the table says which. The evaluator
# is given the page vectors that are already there, so it embeds only queries.
#
# `MRR@10` is one over the rank of the *first* relevant page, `recall@10` the share of the relevant pages found. Same
# rankings, three measures: will they be near each other?


# %%
def mrr_at_10(ranking, relevant):
    return next((1 / rank for rank, page in enumerate(ranking[:10], start=1) if page in relevant), 0.0)


def recall_at_10(ranking, relevant):
    return len(set(ranking[:10]) & relevant) / len(relevant)


def measured(queries, rankings, relevant):
    """One row a query: its text, how many pages are relevant, the rank of the best, and three measures."""
    lines = [
        {
            "query": text,
            "relevant": len(relevant[query]),
            "best rank": 1 + next(k for k, page in enumerate(ranking) if page in relevant[query]),
            "recall@10": recall_at_10(ranking, relevant[query]),
            "mrr@10": mrr_at_10(ranking, relevant[query]),
            "ndcg@10": ndcg_at_10(ranking, relevant[query]),
        }
        for (query, text), ranking in zip(queries.items(), rankings, strict=True)
    ]
    return pd.DataFrame(lines, index=list(queries))


# %%
sets = {"one relevant page": (test.queries, test.relevant)}
if P.drawn:
    pages_of = {name: set(ids) for name, ids in table.groupby("country").groups.items() if len(ids) >= 3}
    several = {f"c{k}": f"all pages on {country}" for k, country in enumerate(pages_of)}
    sets["several"] = several, dict(zip(several, pages_of.values(), strict=True))

found = {}
for name, (queries, relevant) in sets.items():
    similarity = model.similarity(model.encode_query(list(queries.values()), **options), page_vectors)
    found[name] = measured(queries, ranked(similarity, page_ids), relevant)

# %%
at_ten = ("ndcg_at_k", "mrr_at_k", "precision_recall_at_k", "accuracy_at_k", "map_at_k")
differences = []
for name, (queries, relevant) in sets.items():
    cutoffs = dict.fromkeys(at_ten, [10])
    evaluator = InformationRetrievalEvaluator(
        queries, test.corpus, relevant, batch_size=P.eval_batch_size, **cutoffs
    )
    library = evaluator(model, corpus_embeddings=page_vectors.to(model.device))  # both on one device
    for measure in ("ndcg@10", "mrr@10", "recall@10"):
        ours, theirs = found[name][measure].mean(), library[f"cosine_{measure}"]
        differences.append(abs(ours - theirs))
        print(f"{name:>17}, n={len(queries)}, {measure:>9}: by hand {ours:.6f}, library {theirs:.6f}")
run.record("library/difference", max(differences))
print(f"largest difference: {max(differences):.1e}")

# %% [markdown]
# A second referee: `ir-measures`, on which information retrieval has agreed. It reads **TREC files**, plain text with
# one line for each ranked page (the *run*) and for each judgement (the *qrels*), which many tools exchange. Keep yours:
# scores can be computed from them again, without the model.

# %%
run_file, qrels_file = evaluation.write_trec(
    run.folder, "before", query_ids, rankings["before"], test.relevant
)
print(run_file.read_text().splitlines()[0], qrels_file.read_text().splitlines()[0], sep="\n")

referee = {"ndcg@10": nDCG @ 10, "mrr@10": RR @ 10, "recall@10": R @ 10}
qrels, trec_run = ir_measures.read_trec_qrels(str(qrels_file)), ir_measures.read_trec_run(str(run_file))
judged = ir_measures.calc_aggregate(referee.values(), qrels, trec_run)
differences = []
for measure, name in referee.items():
    ours = found["one relevant page"][measure].mean()
    differences.append(abs(ours - judged[name]))
    print(f"{measure:>9}: by hand {ours:.6f}, referee {judged[name]:.6f}")
run.record("referee/difference", max(differences))

# %% [markdown]
# By hand and by library, one figure: a score needs no model, only rankings and judgements. With one relevant page at
# rank *r*, always MRR ≤ NDCG ≤ recall, since 1/*r* ≤ 1/log₂(*r* + 1) ≤ 1: one ranking, three headlines. With several
# relevant pages, the order can be any.
#
# ## 3. What each measure hides
#
# Each measure throws something away. To see what, look for two queries that one measure calls equal and another calls
# as far apart as can be. Predict first: two queries with the same recall@10, how far apart can their NDCG@10 be?


# %%
def far_apart(lines, same, other):
    """The two queries that are furthest apart in `other` among those that are equal in `same`."""
    groups = lines.groupby(lines[same].round(6))[other]
    group = lines[lines[same].round(6) == (groups.max() - groups.min()).idxmax()]
    return group.loc[[group[other].idxmax(), group[other].idxmin()]]


one = found["one relevant page"]
pairs = {
    "recall@10 hides the order": far_apart(one, "recall@10", "ndcg@10"),
    "NDCG@10 hides what lies beyond rank 10": far_apart(one, "ndcg@10", "best rank"),
}
if P.drawn:
    pairs["MRR@10 hides all but the first relevant page"] = far_apart(found["several"], "mrr@10", "recall@10")
    many = (found["several"]["relevant"] > 10).sum()
    print(f"{many} broad queries have more than ten relevant pages: no ranking has recall@10 = 1 there")
within = one["best rank"].between(11, 100).mean()
print(f"page at rank 11 to 100, for a reranker to lift: {within:.0%}")
pd.concat(pairs).round(3)

# %% [markdown]
# - **Recall@10** asks whether a page is there. A page at rank 10 counts as much as one at rank 1. Right for the first
#   stage of two, whose order a reranker makes anew.
# - **MRR@10** asks how far down the *first* relevant page stands, and is blind to the others. Right when one answer
#   is enough.
# - **NDCG@10** pays for order and for all relevant pages, but rank 11 and the last rank are the same to it. With
#   several relevant pages its value is hard to say in words. It is the usual headline figure, and ours.
#
# Report the one that fits the use, and look at a second before you believe it.
#
# ## 4. Baselines
#
# A score on its own says nothing. These readers look at no page at all: one guesses, one knows only the topic that
# was asked for, one only the country, and both guess among the pages that share it. Their scores are exact
# expectations, from `baselines.ceilings`. A model must beat the better of them before you may say that it understood
# *both* halves of a query.

# %%
scores = {"before": one["ndcg@10"].to_numpy()}
scores |= baselines.ceilings(query_ids, test.relevant, page_ids, table if P.drawn else None)
for name, each in scores.items():
    print(f"{name:>13}: {evaluation.bootstrap(each, SEED)}")

# %% [markdown]
# The bracket is a 95% interval: how far the mean moves with other queries of the same kind. Chance has an interval of
# no width, since every query has the same number of relevant pages.
#
# **BM25** counts shared words, rare ones for more; no learning, decades old, and still hard to beat. It reads the
# text layer, perfectly spelled, where our model has only pixels. A page without text is not in its index. Who will
# win over all queries: BM25, or a reader of the country alone?


# %%
def score(rankings):
    pairs = zip(query_ids, rankings, strict=True)
    return np.array([ndcg_at_10(ranking, test.relevant[query]) for query, ranking in pairs])


words = {"stopwords": "en", "show_progress": False}
if P.drawn:
    readable = table[~table["scan"]]
    index = bm25s.BM25()
    index.index(bm25s.tokenize(readable["text"].tolist(), **words), show_progress=False)
    asked = bm25s.tokenize(list(test.queries.values()), **words)
    hits, weights = index.retrieve(
        asked, corpus=list(readable.index), k=min(10, len(readable)), show_progress=False
    )
    rankings["bm25"] = [row[weight > 0].tolist() for row, weight in zip(hits, weights, strict=True)]
    scores["bm25"] = score(rankings["bm25"])
    print("NDCG@10 of BM25:", evaluation.bootstrap(scores["bm25"], SEED))
else:
    print("The published data has no text layer: recognise the pages' text first, then the same lines.")

# %% [markdown]
# **all-MiniLM-L6-v2** is a small text embedder that has read much of the web: *cropland* and *arable land* are near
# each other in it, though they share no word. `checkpoint` finds the published weights in a package and checks their
# hash. It too reads the text layer only.

# %%
if P.drawn:
    minilm = SentenceTransformer(checkpoint(P.text_tower), device=device())
    text_vectors = minilm.encode(readable["text"].tolist(), convert_to_tensor=True)
    asked = minilm.encode(list(test.queries.values()), convert_to_tensor=True)
    rankings["minilm-text"] = ranked(minilm.similarity(asked, text_vectors), list(readable.index))
    scores["minilm-text"] = score(rankings["minilm-text"])
    print("NDCG@10 of MiniLM over the text layer:", evaluation.bootstrap(scores["minilm-text"], SEED))
else:
    print("No text layer, no text embedder: the same as above.")

# %%
systems = ("random", "topic-only", "country-only", "bm25", "minilm-text", "before")
order = [name for name in systems if name in scores]
intervals = {name: {"all": evaluation.bootstrap(scores[name], SEED)} for name in order}
for name in order:
    run.record(f"ndcg@10/{name}", intervals[name]["all"])
figure = plots.systems(intervals, title="The base model between its baselines")
run.figure(
    "baselines", figure, "NDCG@10: chance, readers of half the query, BM25, MiniLM and the base model."
)
figure

# %% [markdown]
# Read it from the bottom up: whatever lies left of the better half-reader has not shown that it uses both halves of
# the query.
#
# ### The same systems, by slice
#
# Two things could hold the text baselines back: pages without text, and words that the page does not use. Slices tell
# them apart. Predict: what does BM25 score when the page asked for is a scan?

# %%
if P.drawn:
    answers = table.loc[[min(test.relevant[query]) for query in query_ids]]
    scan = answers["scan"].to_numpy()
    asked = zip(answers["country"], test.queries.values(), strict=True)
    named = np.array([country.lower() in text.lower() for country, text in asked])
    slices = {"scan": scan, "text": ~scan, "text-named": ~scan & named, "text-unnamed": ~scan & ~named}
    slices = {name: mask for name, mask in slices.items() if mask.any()}

# %%
if P.drawn:
    parts = {name: evaluation.by_slice(scores[name], slices, SEED) for name in order}
    for name in order:
        for which, interval in parts[name].items():
            run.record(f"ndcg@10/{name}/{which}", interval)
    shown = [which for which in slices if which != "text"]
    parts = {name: {which: parts[name][which] for which in shown} for name in order[1:]}
    figure = plots.systems(parts, title="Scans; pages with text, by whether the query names the country")
    run.figure(
        "slices", figure, "NDCG@10 of each system on scans, and on pages with text by how a query names them."
    )
    display(figure)

# %% [markdown]
# On scans the text baselines are **blind**: 0, by construction, until somebody runs text recognition, with its own
# errors. The page model reads pixels, so to it a scan is a page like any other, if a noisier one. That is the case
# for visual document retrieval in one picture. `text-named` queries use the country's name as the page does;
# `text-unnamed` ones say *Cypriot*, or name a capital, and word matching has nothing to match. An average over all of
# this would have hidden it. Mind the short slices: few queries, wide intervals.
#
# ## 5. Is a difference real?
#
# Two models answered the same queries, so compare them query by query: the **paired bootstrap** draws queries with
# replacement, takes the mean *difference* of each draw, and reads the interval off those means. An example of two
# close relatives: the same vectors, whole and cut to their first components. Which will be wider: each score's own
# interval, or that of the difference?

# %%
kept = P.dimensions[1]
short = score(ranked(model.similarity(query_vectors[:, :kept], page_vectors[:, :kept]), page_ids))
difference = short - scores["before"]

rng = np.random.default_rng(SEED)
draws = rng.integers(0, len(difference), size=(10_000, len(difference)))  # the same queries for both models
low, high = np.percentile(difference[draws].mean(axis=1), [2.5, 97.5])

paired = evaluation.Interval(difference.mean(), low, high, len(difference))
run.record(f"ndcg@10/difference/first-{kept}", paired)

print(f"{P.dimensions[0]} components: {evaluation.bootstrap(scores['before'], SEED)}")
print(f"{kept} components: {evaluation.bootstrap(short, SEED)}")
print(f"difference, paired: {paired}")
print(f"the course's helper: {evaluation.paired_bootstrap(scores['before'], short, SEED)}")
shown = "no difference shown" if low <= 0 <= high else "the difference is beyond the luck of the draw"
print(f"zero lies {'inside' if low <= 0 <= high else 'outside'}: {shown}")

# %% [markdown]
# What makes a query hard for one model makes it hard for its relative. In the difference that cancels; in two
# separate intervals it is counted twice. Two intervals can overlap where the difference is beyond doubt: ask for the
# interval of the difference. **Go deeper**: Smucker, Allan and Carterette (2007), *A comparison of statistical
# significance tests for information retrieval evaluation*.
#
# The same for the page model against the text baselines, over all queries and where there is text:

# %%
if P.drawn:
    every = {"all": np.ones(len(query_ids), bool)}
    every |= {name: slices[name] for name in ("text", "scan") if name in slices}
    lines = {}
    for name in ("bm25", "minilm-text"):
        for which, mask in every.items():
            gap = evaluation.paired_bootstrap(scores[name][mask], scores["before"][mask], SEED)
            run.record(f"ndcg@10/before-over-{name}/{which}", gap)
            verdict = "better" if gap.low > 0 else "worse" if gap.high < 0 else "not shown to differ"
            lines[f"before minus {name}", which] = {"difference": str(gap), "the page model is": verdict}
    display(pd.DataFrame(lines).T)

# %% [markdown]
# ### How many queries does a difference of 0.02 need?
#
# The interval's half width is about 1.96 *s*/√*n*, where *s* is the spread (standard deviation) of the per-query
# differences. To *find* a true difference *d* four times in five, it takes *n* = ((1.96 + 0.84) *s*/*d*)² queries.
# Everything hangs on *s*, and *s* depends on the pair: close relatives agree on most queries, strangers on few. Are
# our 300 enough?


# %%
def queries_needed(spread: float, difference: float) -> int:
    return int(np.ceil(((1.96 + 0.84) * spread / difference) ** 2))


compared = {f"first {kept} components against all": difference}
if P.drawn:
    compared["page model against MiniLM over text"] = scores["before"] - scores["minilm-text"]
for label, each in compared.items():
    print(f"{label}: spread {each.std():.3f}, so 0.02 needs {queries_needed(each.std(), 0.02):,} queries")
run.record("queries-needed/relatives", queries_needed(difference.std(), 0.02))

# %%
n = max(2, queries_needed(difference.std(), 0.02))
shifted = difference - difference.mean() + 0.02  # a world where the true difference is 0.02
trials = [rng.choice(shifted, n) for _ in range(1000)]
power = np.mean([abs(trial.mean()) > 1.96 * trial.std() / np.sqrt(n) for trial in trials])
run.record("power", power)
print(f"simulated: with {n:,} queries, a true difference of 0.02 was found in {power:.0%} of 1,000 trials")

# %%
figure = plots.interval_width({**compared, "one score alone": scores["before"]})
run.figure(
    "queries_needed", figure, "Half width of the 95% interval by number of queries: it falls with the root."
)
figure

# %% [markdown]
# ### Exercise 2: what can these queries show?
# Read the figure first: markers are the queries that we have, and where a line crosses the dotted one, half the
# interval is 0.02. Half the width costs four times the queries, and unlike models need many more than close
# relatives.
#
# Now turn the formula round: what is the smallest true difference that this test set would find four times in five,
# for the pair in `difference`?
#
# *Hint: solve* n = (2.8 s/d)² *for* d; `difference.std()` *is* s, `len(difference)` *is* n.

# %%
# <solution> stub: smallest = ...
smallest = 2.8 * difference.std() / np.sqrt(len(difference))
# </solution>
root = np.sqrt(len(difference))
half = "that is the half width: a true difference of that size is found only half of the time"
check(
    "the smallest difference it can show",
    smallest,
    [
        (lambda a: a > 0, "a positive number is asked for"),
        (lambda a: not close(a, 1.96 * difference.std() / root, 1e-6), half),
        (
            lambda a: close(a, 2.8 * difference.std() / root, 1e-4),
            "divide by the root of the number of queries",
        ),
    ],
)

# %% [markdown]
# ## 6. One page twice
#
# Real corpora hold the same page twice: two uploads, or one page that is the positive of one row and a hard negative
# of another, under separate ids. Below, every fifth query's page stands in the corpus again, and nobody judged the
# second copy. A **perfect** model gives equal images equal vectors, and ranks both copies first, in either order.
# What does it score?

# %%
pages, copies = dict(test.corpus), {}
for query in query_ids[::5]:
    original = min(test.relevant[query])
    copies[query] = f"{original}-again"
    pages[copies[query]] = pages[original]

perfect = {}
for query in query_ids:
    best = [min(test.relevant[query])] + ([copies[query]] if query in copies else [])
    rng.shuffle(best)
    perfect[query] = best + [page for page in page_ids[:10] if page not in best]

# %%
punished = np.array([ndcg_at_10(perfect[query], test.relevant[query]) for query in query_ids])
example = query_ids[int(punished.argmin())]
run.record("ndcg@10/perfect/duplicates", punished.mean())
print("ranking: ", perfect[example][:3])
print("relevant:", test.relevant[example])
print(f"NDCG@10:  {punished.min():.3f}")
print(f"perfect model, every fifth answer twice: {evaluation.bootstrap(punished, SEED)}")

# %% [markdown]
# A perfect model, and it lost points in every query where the copy came first. Finetuning of the published model
# moved NDCG@10 from 0.888 to 0.947 ([published](https://huggingface.co/blog/train-multimodal-sentence-transformers)):
# a flaw of this size is no small part of such a gain. **Watch out**: positives and negatives under separate ids are
# the usual way in.
#
# The cure: compare pages by **content**, keep each once, and merge the judgements.

# %%
first = evaluation.deduplicate_by_content(pages.values(), pages)  # page id to the first id with that content
merged = evaluation.merge_judgements(test.relevant, first)
once = {query: list(dict.fromkeys(first[page] for page in ranking)) for query, ranking in perfect.items()}
repaired = np.array([ndcg_at_10(once[query], merged[query]) for query in query_ids])
run.record("ndcg@10/perfect/deduplicated", repaired.mean())
run.save()
print(f"{len(pages)} pages, {len(set(first.values()))} after deduplication")
print(f"perfect model: {repaired.mean():.3f}")

# %% [markdown]
# ### Exercise 3: the price of a copy
# One page answers a query, and it stands in the corpus twice, one copy judged. A perfect model has both at the top, in
# either order with equal chance. What NDCG@10 does it have on average?
#
# *Hint: average the two orders.*

# %%
# <solution> stub: price = ...
price = (1 + 1 / np.log2(3)) / 2
# </solution>
both = "one order scores 1, the other has the judged page at rank 2"
check(
    "a perfect model and one copy",
    price,
    [
        (lambda a: 0 < a < 1, "it loses something, not everything"),
        (lambda a: not close(a, 1 / np.log2(3), 1e-3), "that is the unlucky order alone"),
        (lambda a: close(a, (1 + 1 / np.log2(3)) / 2, 1e-3), both),
    ],
)

# %% [markdown]
# ## You have
# - written NDCG@10 in a few lines, and matched the library's figure and a referee's
# - seen queries that recall@10, MRR@10 and NDCG@10 each cannot tell apart
# - placed the base model between chance, readers of half the query, BM25 and a text embedder, by slice
# - put an interval on a difference, query by query, and counted the queries that 0.02 needs
# - watched a copied page punish a perfect model, and fixed it by content
#
# **Next**: lesson 05 joins a text model and an image model in one space; lesson 07 trains the model that you measured
# here, and lesson 08 measures it again.
