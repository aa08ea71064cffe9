# %% [markdown]
# # 08 · NDCG before and after
#
# **You will be able to**
# - compare two models on the same queries, with an interval for the difference, overall and by slice
# - choose a vector length and a pixel budget from curves of score, seconds and tokens
# - find out what a model gets wrong by looking at won and lost queries
# - say whether a difference is significant, and what that does and does not mean
#
# **Time** tiny 2 min · t4 about 30 min · full about 30 min (the two on a GPU are estimates, not measured here)
#
# **Memory** tiny 2 GB · t4 16 GB of GPU memory · full 80 GB of GPU memory
#
# **Read first** 07, or take its results as given; 04 explains NDCG@10 and intervals

# %% tags=["parameters"]
PROFILE = "tiny"
SEED = 0
ROWS = 0

# %%
import time

from course_utils.machine import quiet

quiet()  # drops library messages that ask nothing of you

import numpy as np
import pandas as pd
from datasets import load_dataset
from sentence_transformers import SentenceTransformer

from course_utils import evaluation
from course_utils import plots
from course_utils import finetuned
from course_utils.checkpoints import checkpoint
from course_utils.exercises import check, close
from course_utils.corpus import build_corpus, first_images
from course_utils.pages.dataset import build_documents
from course_utils.profiles import SHORTEST_EDGE, load_profile
from course_utils.recording import Run

P = load_profile(PROFILE)
rows = ROWS or (200 if P.dataset == "factbook" else 60)  # test rows for the pixel budgets
run = Run("08_ndcg_before_and_after", profile=PROFILE, seed=SEED)

# %% [markdown]
# ## What lesson 07 left
#
# Two models answered the same 300 queries over the same pages: the base model and the finetuned one. All that this lesson
# needs of that is their vectors. `results.finetuned` reads them: **your own**, if you have run lesson 07 here, else the ones
# that come with the course. The latter are labelled **precomputed**, here and on every plot.
#
# The pages are drawn the first time (about two minutes).

# %%
if P.dataset == "factbook":
    documents = build_documents()
    test_data = load_dataset("parquet", data_files={"test": documents.test}, split="test").with_format(None)
else:
    test_data = load_dataset(P.dataset, "eval", split="train")
test = build_corpus(test_data)
vectors = finetuned.finetuned(P)
assert vectors.query_ids == list(test.queries) and vectors.page_ids == list(test.corpus)

run.record("queries", len(test.queries))
run.record("pages", len(test.corpus))
run.record("precomputed", int(vectors.label == "precomputed"))
print(f"vectors: {vectors.label or 'your own, from lesson 07'}")
print(f"queries {tuple(vectors.queries_after.shape)}, pages {tuple(vectors.pages_after.shape)}")

# %% [markdown]
# ## 1. Before and after
#
# One number a query is enough for everything below: its NDCG@10. With one relevant page, that is 1 at rank 1, 0.63 at rank 2,
# and 0 beyond rank 10. `per_query_ndcg` computes it from cosine similarities, as lesson 07 did.
#
# The **gain** is paired: for each query after minus before, then the mean. Predict: will its interval be narrower than if each
# model had answered queries of its own?


# %%
def scores(query_vectors, page_vectors, corpus, dimension=None):
    """NDCG@10 of every query, from the first `dimension` components."""
    cut = slice(None, dimension)
    return evaluation.per_query_ndcg(
        query_vectors[:, cut],
        page_vectors[:, cut],
        list(corpus.queries),
        list(corpus.corpus),
        corpus.relevant,
    )


def keep(name, interval):
    run.record_interval(name, interval.mean, interval.low, interval.high)


before = scores(vectors.queries_before, vectors.pages_before, test)
after = scores(vectors.queries_after, vectors.pages_after, test)
intervals = {"before": evaluation.bootstrap(before), "after": evaluation.bootstrap(after)}
intervals["gain"] = gain = evaluation.paired_bootstrap(before, after)
widths = {name: interval.high - interval.low for name, interval in intervals.items()}
for name, interval in intervals.items():
    keep(f"ndcg@10/{name}", interval)
    print(f"{name:>6}: {interval}   width {widths[name]:.3f}")
print(
    f"width of the gain's interval, had the queries been different ones: {np.hypot(widths['before'], widths['after']):.3f}"
)

# %%
pairs = {"all": (intervals["before"], intervals["after"])}
references = {}
if P.dataset == "factbook":
    table = documents.side_table().loc[list(test.paths.values())].assign(page_id=list(test.paths))
    unseen = test.ask(load_dataset("parquet", data_files=documents.unseen, split="train"))
    unseen_pairs = (
        scores(vectors.unseen_before, vectors.pages_before, unseen),
        scores(vectors.unseen_after, vectors.pages_after, unseen),
    )
    pairs["unseen-wording"] = tuple(evaluation.bootstrap(values) for values in unseen_pairs)
    references = {
        "topic only": evaluation.topic_only_ceiling(list(test.queries), test.relevant, table).mean(),
        "country only": evaluation.country_only_ceiling(list(test.queries), test.relevant, table).mean(),
    }
figure = plots.before_after(pairs, references=references, title=vectors.title("Before and after finetuning"))
run.figure(
    "before_after",
    figure,
    "NDCG@10 before and after finetuning, for all queries and for unseen wordings, with 95% intervals.",
)
figure

# %% [markdown]
# **Read it**: the arrow is what training did; each bar is how far that score would move with other queries of the same kind.
# Pairing narrows the interval of the gain as far as the same queries are hard for both models.
# The dotted lines are what a reader of only the topic or only the country would reach by guessing among the pages that share it.
# A model left of "country only" does less than read one name. `unseen-wording` asks in words that no training used.

# %% [markdown]
# ### Exercise 1: how much of the error is gone?
# A gain of 0.1 means more at 0.85 than at 0.40. Compute the share of the *error* (the distance from the mean to a perfect score)
# that training removed, from the arrays `before` and `after`.
#
# *Hint: the error before is `1 - before.mean()`. What share of it is left?*

# %%
# <solution> stub: error_cut = ...
error_cut = 1 - (1 - after.mean()) / (1 - before.mean())
# </solution>
check(
    "share of the error that is gone",
    error_cut,
    [
        (lambda a: np.ndim(a) == 0, "give one number, from the two means"),
        (
            lambda a: close(a, 0) or not close(a, after.mean() - before.mean()),
            "that is the gain; divide it by the error before",
        ),
        (lambda a: not close(a, (1 - after.mean()) / (1 - before.mean())), "that is the share that is left"),
        (
            lambda a: close(a, evaluation.error_cut(before, after).mean),
            "compare the distances of both means to 1",
        ),
    ],
)

# %% [markdown]
# ## 2. By slice and form
#
# A mean can hide a group that gained nothing. The slices: countries that finetuning never saw, pages that are scans, and the
# form of the figures on the page. Predict: which gained least?

# %%
slices = {}
if P.dataset == "factbook":
    positive = table.loc[[row["image"] for row in test_data]]
    slices = {"unseen-country": positive["unseen_country"].to_numpy(), "scan": positive["scan"].to_numpy()}
    slices |= {form: (positive["form"] == form).to_numpy() for form in sorted(positive["form"].unique())}
by_slice = {
    name: (evaluation.bootstrap(before[mask]), evaluation.bootstrap(after[mask]))
    for name, mask in slices.items()
}
for name, (old, new) in {**by_slice, **{name: pair for name, pair in pairs.items() if name != "all"}}.items():
    keep(f"ndcg@10/before/{name}", old)
    keep(f"ndcg@10/after/{name}", new)
figure = plots.before_after({"all": pairs["all"], **by_slice}, title=vectors.title("By slice and form"))
run.figure(
    "by_slice",
    figure,
    "NDCG@10 before and after finetuning by slice and form of the page, with 95% intervals.",
)
figure

# %%
masks = {"all": np.ones(len(before), bool), **slices}
slice_gains = {name: evaluation.paired_bootstrap(before[mask], after[mask]) for name, mask in masks.items()}
for name, interval in slice_gains.items():
    if name != "all":
        keep(f"ndcg@10/gain/{name}", interval)
pd.DataFrame(
    {name: {"gain": i.mean, "low": i.low, "high": i.high, "n": i.n} for name, i in slice_gains.items()}
).T.round(3)

# %% [markdown]
# **Read it**: the plot shows where each slice ends up, the table what it gained. An interval of the gain that lies above 0 is a
# gain for that slice on its own. Whether one slice gained *more than another* is a different question: mostly their intervals overlap, and
# then these queries cannot tell.
#
# **Watch out** the more slices you look at, the surer one of them stands out by luck: of twenty 95% intervals, about one misses. A
# slice picked *because* it looks good needs new queries to be believed.
#
# ## 3. By Matryoshka dimension
#
# The first components of the same vectors are shorter vectors: half the length, half the index. The base model was not
# trained with `MatryoshkaLoss`, the finetuned one was. Predict: which of the two falls earlier?

# %%
by_dimension = {
    when: {d: scores(q, p, test, d) for d in P.dimensions}
    for when, q, p in (
        ("before", vectors.queries_before, vectors.pages_before),
        ("after", vectors.queries_after, vectors.pages_after),
    )
}
curves = {
    when: {d: evaluation.bootstrap(values) for d, values in row.items()} for when, row in by_dimension.items()
}
for when, curve in curves.items():
    for d, interval in curve.items():
        keep(f"ndcg@10/{when}/dim-{d}", interval)
figure = plots.by_dimension(curves["before"], curves["after"], title=vectors.title("Shorter embeddings"))
run.figure(
    "by_dimension",
    figure,
    "NDCG@10 by number of vector components kept, before and after finetuning, with 95% intervals.",
)
figure

# %%
full = P.dimensions[0]
losses = {
    d: evaluation.paired_bootstrap(by_dimension["after"][full], by_dimension["after"][d])
    for d in P.dimensions[1:]
}
(
    pd.DataFrame(
        {
            f"{d} of {full}": {
                "bytes a page (float32)": 4 * d,
                "score lost": -i.mean,
                "at least": -i.high,
                "at most": -i.low,
            }
            for d, i in losses.items()
        }
    ).T.round(3)
    + 0.0
)

# %% [markdown]
# **Read it**: the curve after stays flat as long as a dimension costs nothing. The table pairs each length with the full one, query
# by query: where "at least" is below 0, these queries cannot tell the short vectors from the long ones. The published curve of
# the 2B model is not even monotonic (1024 dimensions 0.9464, 1536 dimensions 0.9439, published): that is the size of the noise.
#
# ## 4. By pixel budget
#
# Qwen3-VL spends one token for every 32x32 pixels, so the budget decides what the model can read, and what you pay. Here is one page at
# half the training budget, three quarters of it, the whole, and half as much again.

# %%
model = SentenceTransformer(
    vectors.model or checkpoint(P.embedder),
    model_kwargs={"dtype": P.dtype, "attn_implementation": P.attention},
)
who = "your finetuned model" if vectors.model else "base model; run lesson 07 to see your own"
page = first_images(test_data, 1)[0].convert("RGB")
budgets, views = {}, []
for factor in (0.5, 0.75, 1, 1.5):
    size = {"shortest_edge": SHORTEST_EDGE, "longest_edge": int(factor * P.longest_edge)}
    grid = model.preprocess([page], processing_kwargs={"image": {"size": size}})["image_grid_thw"][0]
    budgets[int(grid.prod() / 4)] = size
    views.append(page.resize((16 * int(grid[2]), 16 * int(grid[1]))))
trained = list(budgets)[2]
captions = [f"{tokens} tokens: {view.width}x{view.height}" for tokens, view in zip(budgets, views)]
plots.pages_row(views, captions, title="The same page, as the model sees it")

# %% [markdown]
# `processing_kwargs` can be given with each call, so one model serves all budgets. The score is over a fresh corpus: the pages of the
# first `rows` test rows. The time is of your machine, per 100 pages, decoding included.
#
# Predict two curves: does the score rise as steadily as the time?

# %%
part = build_corpus(test_data.select(range(min(rows, len(test_data)))))
part_queries = model.encode_query(list(part.queries.values()), convert_to_tensor=True).float().cpu()
pages = list(part.corpus.values())
model.encode_document(pages[:8])  # the first call is slower: not timed
at_budget, seconds = {}, {}
for tokens, size in budgets.items():
    found, seconds[tokens] = [], []
    for start in range(0, len(pages), 100):
        batch = pages[start : start + 100]
        began = time.perf_counter()
        found.append(
            model.encode_document(
                batch,
                batch_size=P.eval_batch_size,
                convert_to_tensor=True,
                processing_kwargs={"image": {"size": size}},
            )
            .float()
            .cpu()
            .numpy()
        )
        seconds[tokens].append((time.perf_counter() - began) * 100 / len(batch))
    at_budget[tokens] = scores(part_queries, np.concatenate(found), part)
print(f"{len(part.queries)} queries over {len(pages)} pages, {who}")

# %%
budget_scores = {tokens: evaluation.bootstrap(values) for tokens, values in at_budget.items()}
for tokens, interval in budget_scores.items():
    keep(f"ndcg@10/pixels/{tokens}-tokens", interval)
    run.record(f"seconds/pixels/{tokens}-tokens", np.median(seconds[tokens]))
    change = evaluation.paired_bootstrap(at_budget[trained], at_budget[tokens])
    print(
        f"{tokens:>5} tokens  NDCG@10 {interval}   against {trained} tokens: {change.mean:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"
    )
figure = plots.by_budget(budget_scores, seconds, trained, title=f"Pixel budget ({who})")
run.figure(
    "by_budget",
    figure,
    "NDCG@10 and seconds for 100 pages by image tokens a page, with 95% intervals for the score.",
)
figure

# %% [markdown]
# **Read it**: left what the pixels buy, right what they cost. Below the dotted line the small print is gone, and on both sides of it
# letters have another size than the model learned. This stand-in has seen one size only, so it falls off steeply, even with *more* pixels; a model
# trained on many sizes falls more gently. Either way: a budget is part of the training, not a switch to turn afterwards. Time grows with
# the tokens, but not from zero, since decoding a page costs the same at every budget.
#
# ## 5. Size against NDCG
#
# Beside ours, three published figures, all of models with 2 billion parameters on 300 queries over 1,500 pages of another data set: the
# base and the finetuned `Qwen3-VL-Embedding-2B` (**published**,
# [Sentence Transformers](https://huggingface.co/blog/train-multimodal-sentence-transformers)) and a late-interaction model made
# from it, which keeps a vector for every token (**published**,
# [its documentation](https://sbert.net/examples/multi_vector_encoder/training/multimodal/README.html)).

# %%
parameters = sum(p.numel() for p in model.parameters())
measured = {
    vectors.title("ours, before"): (parameters, pairs["all"][0]),
    vectors.title("ours, after"): (parameters, pairs["all"][1]),
}
published = {
    "published: 2B, base": (2.13e9, 0.888),
    "published: 2B, finetuned": (2.13e9, 0.947),
    "published: 2B, late interaction": (2.13e9, 0.9278),
}
figure = plots.size_and_score(measured, published)
run.figure(
    "size_and_ndcg",
    figure,
    "NDCG@10 by number of parameters: measured here before and after, and three published figures of 2B models.",
)
figure

# %% [markdown]
# **Read it**: only vertically, and only within one data set. Ours do not compare with the published ones: the stand-in was
# trained for pages like these and nothing else, and those are other pages, other queries and other look-alikes. What carries over is
# the *effect* of the recipe. Even within one article a base can differ: 0.888 in one table, 0.8961 at full dimension in
# another (published). Always ask what was measured, on what, with which settings.
#
# ## 6. Won and lost
#
# A mean gain can be many small steps or a few great ones with some queries lost. One bar for each query:

# %%
run.record("queries-won", int((after > before).sum()))
run.record("queries-lost", int((after < before).sum()))
figure = plots.gains(before, after, gain, title=vectors.title("What each query gained"))
run.figure(
    "gains",
    figure,
    "Gain in NDCG@10 of each query, sorted: won, unchanged and lost queries, and the mean with its interval.",
)
figure

# %% [markdown]
# **Read it**: the area above zero, less the area below it, is the gain. Training is not free for everybody: each bar below zero is a
# user who was better off before. Look at the greatest win, before and after, and at the greatest loss (or the least help).

# %%
won, lost = int(np.argmax(after - before)), int(np.argmin(after - before))
ids = list(test.queries)
top_before = evaluation.rankings(
    vectors.queries_before[[won, lost]], vectors.pages_before, list(test.corpus), k=5
)
top_after = evaluation.rankings(
    vectors.queries_after[[won, lost]], vectors.pages_after, list(test.corpus), k=5
)


def show(which, ranking, title):
    captions = None
    if P.dataset == "factbook":
        captions = [
            f"{table.loc[test.paths[p], 'country']}: {table.loc[test.paths[p], 'topic']}" for p in ranking
        ]
    display(
        plots.gallery(
            test.queries[ids[which]],
            [test.image(p) for p in ranking],
            ranking,
            test.relevant[ids[which]],
            vectors.title(title),
            captions,
        )
    )


show(won, top_before[0], f"won, before: {before[won]:.2f}")
show(won, top_after[0], f"won, after: {after[won]:.2f}")
show(
    lost,
    top_before[1],
    f"{'lost' if after[lost] < before[lost] else 'helped least'}, before: {before[lost]:.2f}",
)
show(
    lost,
    top_after[1],
    f"{'lost' if after[lost] < before[lost] else 'helped least'}, after: {after[lost]:.2f}",
)


# %%
def first_page(query_vectors, page_vectors):
    """What stands at rank 1: for each kind, True or False for every query."""
    top = [row[0] for row in evaluation.rankings(query_vectors, page_vectors, list(test.corpus), k=1)]
    right = np.array([page in test.relevant[query] for query, page in zip(ids, top)])
    if P.dataset != "factbook":
        return {"the right page": right, "a wrong page": ~right}
    shown = table.loc[[test.paths[page] for page in top]]
    country = (shown["country"].to_numpy() == positive["country"].to_numpy()) & ~right
    topic = (shown["topic"].to_numpy() == positive["topic"].to_numpy()) & ~right & ~country
    return {
        "the right page": right,
        "right country, wrong topic": country,
        "right topic, wrong country": topic,
        "neither": ~(right | country | topic),
    }


firsts = [
    first_page(vectors.queries_before, vectors.pages_before),
    first_page(vectors.queries_after, vectors.pages_after),
]
kinds = {
    kind: tuple(evaluation.bootstrap(first[kind].astype(float)) for first in firsts) for kind in firsts[0]
}
for kind, (old, new) in kinds.items():
    keep(f"first-page/before/{kind.replace(', ', '-').replace(' ', '-')}", old)
    keep(f"first-page/after/{kind.replace(', ', '-').replace(' ', '-')}", new)
figure = plots.shares(kinds, title=vectors.title("What stands at rank 1"))
run.figure(
    "first_page",
    figure,
    "Share of queries whose first page is right, of the right country, of the right topic, or neither, before and after.",
)
figure

# %% [markdown]
# **Read it**: the top row should move right, the others left. The largest wrong row *after* says what to add to the training data
# next: hard negatives of the same country if topics are confused, of the same topic if countries are.
#
# ## 7. Is the difference significant?
#
# **Paired bootstrap**: draw as many queries as there are, with repetition, ten thousand times; each time the mean gain. The middle 95% of these
# means is the interval that you have seen all along. In full, it is four lines.

# %%
rng = np.random.default_rng(SEED)
difference = after - before
draws = rng.integers(0, len(difference), size=(10_000, len(difference)))
low, high = np.percentile(difference[draws].mean(axis=1), [2.5, 97.5])
print(
    f"by hand    {difference.mean():.3f} [{low:.3f}, {high:.3f}]\ncourse     {gain.mean:.3f} [{gain.low:.3f}, {gain.high:.3f}]"
)

# %% [markdown]
# **Paired randomisation test**: suppose training did nothing. Then for each query it is chance which of its two scores is called "after", and
# the sign of its difference could as well be the other one. Flip signs at random, ten thousand times: how often is the mean at
# least as far from zero as the one you saw? That share is *p*. The 1 in it counts the arrangement that you saw.


# %%
def randomisation(difference, draws=10_000):
    """Mean gains under random signs, and the share of them that is at least as far from zero as the real one."""
    signs = rng.choice([-1, 1], size=(draws, len(difference)))
    by_chance = (signs * difference).mean(axis=1)
    return by_chance, (1 + np.sum(np.abs(by_chance) >= abs(difference.mean()) - 1e-12)) / (1 + draws)


by_chance, p = randomisation(difference)
_, p_half = randomisation(by_dimension["after"][P.dimensions[1]] - by_dimension["after"][full])
run.record("p/randomisation", p)
run.record("p/shorter-vectors", p_half)
print(
    f"after against before: p = {p:.4f}\n{P.dimensions[1]} against {full} dimensions, after: p = {p_half:.4f}"
)
figure = plots.chance(by_chance, gain, title=vectors.title("Gains that chance alone makes"))
run.figure(
    "chance",
    figure,
    "Histogram of mean gains under random signs, and the gain that was seen with its interval.",
)
figure

# %% [markdown]
# **Read it**: if the line stands outside the grey hill, chance alone does not make such gains. A small *p* says that there
# is *some* difference, the interval says how large. And a large *p* is no proof of equality: perhaps there were too few queries.

# %% [markdown]
# ### Exercise 2: the smallest p
# What is the smallest *p* that `randomisation` can return with 10,000 draws?
#
# *Hint: what if not one of the draws comes as far as the real mean?*

# %%
# <solution> stub: smallest_p = ...
smallest_p = 1 / (1 + 10_000)
# </solution>
check(
    "the smallest p",
    smallest_p,
    [
        (lambda a: 0 < a < 1, "it is a small share, but never 0: the arrangement that you saw always counts"),
        (
            lambda a: not close(a, 1 / 10_000, 1e-9),
            "nearly: the denominator counts the real arrangement, too",
        ),
        (lambda a: close(a, 1 / 10_001, 1e-9), "put 0 in place of the sum in the formula"),
    ],
)

# %% [markdown]
# ## 8. Three training seeds
#
# So far the *queries* were drawn again. Another training run, in another order of the batches, gives another model. Three seeds
# of lesson 07, reported once and **precomputed** (with the stand-in in `tiny`, whatever your profile):

# %%
runs = finetuned.seeds()


def interval_of(metrics, name):
    return evaluation.Interval(
        metrics[name], metrics[f"{name}/low"], metrics[f"{name}/high"], int(metrics["queries"])
    )


by_seed = {
    f"seed {r['seed']}": [interval_of(r["metrics"], f"ndcg@10/{when}") for when in ("before", "after")]
    for r in runs
}
for r in runs:
    keep(f"gain-by-seed/seed-{r['seed']}", interval_of(r["metrics"], "ndcg@10/gain"))
figure = plots.before_after(by_seed, title="Three training seeds (precomputed)")
run.figure(
    "seeds",
    figure,
    "NDCG@10 before and after finetuning with three training seeds, with 95% intervals over queries.",
)
run.save()
spread = np.std([new.mean for _, new in by_seed.values()], ddof=1)
print(f"standard deviation of the score after, over {len(runs)} seeds: {spread:.3f}")
figure

# %% [markdown]
# **Read it**: "before" is the same model each time. The spread of "after" is what luck in training adds; no interval over queries
# holds it. A gain smaller than that spread is no gain that you can promise, however small *p* is. Three seeds are few: they show the size of
# the spread, not its exact value.

# %% [markdown]
# ## You have
# - compared two models on the same queries, with an interval for the gain, overall and by slice
# - seen what shorter vectors and fewer pixels cost, and what they save
# - looked at won and lost queries, and at what stands first when the right page does not
# - tested a difference with a paired bootstrap and a randomisation test, and held it against the spread of training seeds
#
# **Next**: lesson 09 trains a reranker, which looks again at the pages that this model ranks near the top.
