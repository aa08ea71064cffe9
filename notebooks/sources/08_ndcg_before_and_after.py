# %% [markdown]
# # 08 · NDCG before and after
#
# **You will be able to**
# - compare two models on the same queries, with an interval for the difference, overall and by slice
# - choose a vector length and a pixel budget from curves of score, seconds and tokens
# - find out what a model gets wrong by looking at won and lost queries
# - say whether a difference is significant, and what that does and does not mean
#
# **Time** tiny 2 min · t4 about 30 min · full about 30 min (estimates on a GPU)
#
# **Learning time** about 40 min
#
# **Memory** tiny 2 GB · t4 16 GB of GPU memory · full 80 GB of GPU memory
#
# **Read first** 07, or take its results as given; 04 explains NDCG@10 and intervals

# %% tags=["parameters"]
PROFILE = "tiny"
SEED = 0
ROWS = 0

# %%
from course_utils.machine import quiet

quiet()  # drops library messages that ask nothing of you

import time

import numpy as np
import pandas as pd
from datasets import load_dataset
from sentence_transformers import SentenceTransformer

from course_utils import baselines, evaluation, finetuned, plots
from course_utils.checkpoints import checkpoint
from course_utils.corpus import build_corpus, first_images
from course_utils.dataset import page_table, prepare_dataset
from course_utils.exercises import check, close
from course_utils.profiles import load_profile
from course_utils.recording import Run

# %% [markdown]
# ## What lesson 07 left
#
# Two models answered the same 300 queries over the same pages: the base model and the finetuned one. This lesson needs
# only their vectors. `finetuned.finetuned` reads **your own** if you have run lesson 07 here. If not, it reads those
# that come with the course, labelled **precomputed** here and on every plot.
#
# The pages are drawn the first time (about two minutes).

# %%
P = load_profile(PROFILE)
rows = ROWS or (200 if P.drawn else 60)  # test rows for the pixel budgets
run = Run("08_ndcg_before_and_after", profile=PROFILE, seed=SEED)

dataset = prepare_dataset(P)
test_data = load_dataset(dataset, "eval", split="train")
test = build_corpus(test_data)
query_ids, page_ids = list(test.queries), list(test.corpus)
vectors = finetuned.finetuned(P)
assert vectors.query_ids == query_ids and vectors.page_ids == page_ids

run.record("queries", len(query_ids))
run.record("pages", len(page_ids))
run.record("precomputed", int(vectors.label == "precomputed"))
print(f"vectors: {vectors.label or 'your own, from lesson 07'}")
print(f"queries {tuple(vectors.queries_after.shape)}, pages {tuple(vectors.pages_after.shape)}")

# %% [markdown]
# ## 1. Before and after
#
# One number a query is enough for everything below: its NDCG@10. With one relevant page, that is 1 at rank 1, 0.63 at
# rank 2, and 0 beyond rank 10. `per_query_ndcg` computes it from cosine similarities, as lesson 07 did.
#
# The **gain** is paired: for each query after minus before, then the mean. Predict: will its interval be narrower than
# if each model had answered queries of its own?


# %%
def scores(query_vectors, page_vectors, corpus, dimension=None):
    """NDCG@10 of every query, from the first `dimension` components."""
    kept = query_vectors[:, :dimension], page_vectors[:, :dimension]
    return evaluation.per_query_ndcg(*kept, list(corpus.queries), list(corpus.corpus), corpus.relevant)


before = scores(vectors.queries_before, vectors.pages_before, test)
after = scores(vectors.queries_after, vectors.pages_after, test)
gain = evaluation.paired_bootstrap(before, after)
intervals = {"before": evaluation.bootstrap(before), "after": evaluation.bootstrap(after), "gain": gain}
widths = {name: interval.high - interval.low for name, interval in intervals.items()}
for name, interval in intervals.items():
    run.record(f"ndcg@10/{name}", interval)
    print(f"{name:>6}: {interval}   width {widths[name]:.3f}")
unpaired = np.hypot(widths["before"], widths["after"])
share = widths["gain"] / unpaired
print(f"width of the gain's interval, had each model its own queries: {unpaired:.3f}")
print(f"You saw that pairing makes it {share:.2f} times as wide.")

# %%
pairs = {"all": (intervals["before"], intervals["after"])}
table = page_table(P)  # what the drawn pages show; None for the published ones
ceilings = baselines.ceilings(query_ids, test.relevant, page_ids, table)
references = {name: values.mean() for name, values in ceilings.items() if name != "random"}
if P.drawn:
    for kind, name in (("unseen", "unseen-wording"), ("natural", "unseen-natural")):
        asked = test.ask(load_dataset(dataset, kind, split="train"))
        sides = [
            (getattr(vectors, f"{kind}_{when}"), getattr(vectors, f"pages_{when}"))
            for when in ("before", "after")
        ]
        pairs[name] = tuple(evaluation.bootstrap(scores(*side, asked)) for side in sides)
figure = plots.before_after(pairs, references=references, title=vectors.title("Before and after finetuning"))
alt = "NDCG@10 before and after finetuning, for all queries and in unseen words, with 95% intervals."
run.figure("before_after", figure, alt)
figure

# %% [markdown]
# **Read it**: the arrow is what training did; each bar is how far that score would move with other queries of the same
# kind. Pairing narrows the interval of the gain as far as the same queries are hard for both models. The vertical lines
# are what a reader of only the topic or only the country would reach by guessing among the pages that share it. A model
# left of the line "country-only" finds less than a reader who knows only the country. `unseen-wording` asks in words of
# no training query and of no training page; `unseen-natural` also uses such words, in phrases that people would say.

# %% [markdown]
# ### Exercise 1: how much of the error is gone?
# A gain of 0.1 means more at 0.85 than at 0.40. Compute the share of the *error* (the distance from the mean to a
# perfect score) that training removed, from the arrays `before` and `after`.
#
# <details><summary>Hint</summary>
#
# The error before is `1 - before.mean()`. What share of it is left?
#
# </details>

# %%
# <solution> stub: error_cut = ...
error_cut = 1 - (1 - after.mean()) / (1 - before.mean())
# </solution>
right, gained = evaluation.error_cut(before, after).mean, after.mean() - before.mean()
tests = [
    (lambda a: np.ndim(a) == 0, "give one number, from the two means"),
    (lambda a: close(a, 0) or not close(a, gained), "that is the gain; divide it by the error before"),
    (lambda a: not close(a, 1 - right), "that is the share that is left"),
    (lambda a: close(a, right), "compare the distances of both means to 1"),
]
check("share of the error that is gone", error_cut, tests)

# %% [markdown]
# ## 2. By slice and form
#
# A mean can hide a group that gained nothing. The slices: countries that finetuning never saw, pages that are scans,
# and the form of the figures on the page. Predict: which gained least?

# %%
slices = {}
if P.drawn:
    answers = table.loc[[min(test.relevant[query]) for query in query_ids]]
    slices = {name: answers[name.replace("-", "_")].to_numpy() for name in ("unseen-country", "scan")}
    slices |= {form: (answers["form"] == form).to_numpy() for form in sorted(answers["form"].unique())}
by_slice = {
    name: (evaluation.bootstrap(before[mask]), evaluation.bootstrap(after[mask]))
    for name, mask in slices.items()
}
for name, pair in (pairs | by_slice).items():
    if name != "all":
        for when, interval in zip(("before", "after"), pair, strict=True):
            run.record(f"ndcg@10/{when}/{name}", interval)
figure = plots.before_after({"all": pairs["all"], **by_slice}, title=vectors.title("By slice and form"))
alt = "NDCG@10 before and after finetuning by slice and form of the page, with 95% intervals."
run.figure("by_slice", figure, alt)
figure

# %%
lines = {"all": gain}
for name, mask in slices.items():
    lines[name] = evaluation.paired_bootstrap(before[mask], after[mask])
    run.record(f"ndcg@10/gain/{name}", lines[name])
least = min(lines, key=lambda name: lines[name].mean)
print(f"You saw the smallest gain for {least}: {lines[least]}.")
figure = plots.forest(lines, title=vectors.title("Gain by slice and form"))
alt = "Gain in NDCG@10 by slice and form of the page, each with its paired 95% interval and a line at zero."
run.figure("gain_by_slice", figure, alt)
figure

# %% [markdown]
# **Read it**: the first plot shows where each slice ends up, the second what it gained. An interval of the gain that
# lies above 0 is a gain for that slice on its own. Whether one slice gained *more than another* is a different
# question. Overlapping intervals do not answer it: such a difference needs an interval of its own.
#
# **Watch out**: the more slices you look at, the more likely one of them stands out by luck. Of twenty 95% intervals,
# about one misses. If you pick a slice *because* it looks good, check it with new queries.
#
# ## 3. By Matryoshka dimension
#
# The first components of the same vectors are shorter vectors: half the length, half the index. `MatryoshkaLoss`
# trains them to work alone. In `tiny` only the finetuned model was trained with it. (The published base was, too.)
# Predict: which of the two loses more of its score?

# %%
by_dimension = {
    "before": {d: scores(vectors.queries_before, vectors.pages_before, test, d) for d in P.dimensions},
    "after": {d: scores(vectors.queries_after, vectors.pages_after, test, d) for d in P.dimensions},
}
curves = {"before": {}, "after": {}}
for when, row in by_dimension.items():
    for d, values in row.items():
        curves[when][d] = evaluation.bootstrap(values)
        run.record(f"ndcg@10/{when}/dim-{d}", curves[when][d])
figure = plots.by_dimension(curves["before"], curves["after"], title=vectors.title("Shorter embeddings"))
alt = "NDCG@10 by number of vector components kept, before and after finetuning, with 95% intervals."
run.figure("by_dimension", figure, alt)
display(figure)

full = P.dimensions[0]
lost = {}
for d in P.dimensions[1:]:
    i = evaluation.paired_bootstrap(by_dimension["after"][d], by_dimension["after"][full])
    lost[f"{d} of {full}"] = [4 * d, i.mean, i.low, i.high]
ends = {when: curves[when][P.dimensions[-1]].mean / curves[when][full].mean for when in curves}
print(f"You saw the shortest keep {ends['before']:.0%} of the score before and {ends['after']:.0%} after.")
columns = ["bytes a page (float32)", "score lost", "at least", "at most"]
losses = pd.DataFrame.from_dict(lost, orient="index", columns=columns).round(3) + 0.0
losses.astype({columns[0]: int})

# %% [markdown]
# **Read it**: where the curve "after" is flat, shorter vectors cost nothing. The table pairs each length with the
# full one, query by query: where "at least" is below 0, these queries cannot tell the short vectors from the long ones.
# In the **published** curve of the 2B model, 1024 dimensions score higher (0.9464) than 1536 (0.9439). No interval is
# published, so read nothing into a difference of that size.
#
# ## 4. By pixel budget
#
# Qwen3-VL spends one token for every 32x32 pixels, so the budget decides what the model can read, and what you pay.
# Here is one page at 0.5, 0.75, 1, 1.5 and 2.1 times the training budget.

# %%
kwargs = {"dtype": P.dtype, "attn_implementation": P.attention}
model = SentenceTransformer(vectors.model or checkpoint(P.embedder), model_kwargs=kwargs)
who = "your finetuned model" if vectors.model else "base model; run lesson 07 to see your own"
page = first_images(test_data, 1)[0].convert("RGB")
budgets, views = {}, []
factors = (0.5, 0.75, 1, 1.5, 2.1)
for factor in factors:
    size = P.pixels | {"longest_edge": int(factor * P.pixels["longest_edge"])}
    grid = model.preprocess([page], processing_kwargs={"image": {"size": size}})["image_grid_thw"][0]
    budgets[int(grid.prod() / 4)] = size
    views.append(page.resize((16 * int(grid[2]), 16 * int(grid[1]))))
trained = list(budgets)[2]
captions = [
    f"{factor:g} times the budget\n{n} tokens: {view.width}x{view.height}"
    for factor, n, view in zip(factors, budgets, views, strict=True)
]
plots.pages_row(views, captions, title="The same page, as the model sees it")

# %% [markdown]
# `processing_kwargs` can be given with each call, so one model serves all budgets. The score is over a smaller corpus:
# the pages of the first `rows` test rows. The time is of your machine, per 100 pages, decoding included.
#
# Predict two curves: does the score rise as steadily as the time?

# %%
part = build_corpus(test_data.select(range(min(rows, len(test_data)))))
part_queries = model.encode_query(list(part.queries.values()), convert_to_tensor=True).float().cpu()
pages = list(part.corpus.values())
model.encode_document(pages[:8])  # the first call is slower: not timed
options = {"batch_size": P.eval_batch_size, "convert_to_tensor": True}
at_budget, seconds = {}, {}
for tokens, size in budgets.items():
    options["processing_kwargs"] = {"image": {"size": size}}
    found, seconds[tokens] = [], []
    for start in range(0, len(pages), 100):
        batch = pages[start : start + 100]
        began = time.perf_counter()
        found.append(model.encode_document(batch, **options).float().cpu().numpy())
        seconds[tokens].append((time.perf_counter() - began) * 100 / len(batch))
    at_budget[tokens] = scores(part_queries, np.concatenate(found), part)
print(f"{len(part.queries)} queries over {len(pages)} pages, {who}")

# %%
budget_scores = {tokens: evaluation.bootstrap(values) for tokens, values in at_budget.items()}
hurt, middle = [], {tokens: np.median(each) for tokens, each in seconds.items()}
for tokens, interval in budget_scores.items():
    run.record(f"ndcg@10/pixels/{tokens}-tokens", interval)
    run.record(f"seconds/pixels/{tokens}-tokens", middle[tokens])
    change = evaluation.paired_bootstrap(at_budget[trained], at_budget[tokens])
    hurt += [str(tokens)] if tokens > trained and change.high < 0 else []
    print(f"{tokens:>5} tokens  NDCG@10 {interval}; against {trained} tokens {change}")
best = max(budget_scores, key=lambda tokens: budget_scores[tokens].mean)
print(f"You saw the best score at {best} of up to {max(budgets)} tokens; the finetuning used {trained}.")
print(f"More pixels made the score worse (interval below zero) at: {', '.join(hurt) or 'no budget'}.")
most, least = max(budgets), min(budgets)
print(f"{most / least:.1f} times the tokens took {middle[most] / middle[least]:.1f} times the seconds.")
figure = plots.by_budget(budget_scores, seconds, trained, title=f"Pixel budget ({who})")
alt = "NDCG@10 and seconds for 100 pages by image tokens a page, with 95% intervals for the score."
run.figure("by_budget", figure, alt)
figure

# %% [markdown]
# **Read it**: the left plot shows the score, the right one the time. The dotted line is the budget of the finetuning.
# Below it letters get too small to read. More pixels need not help, and can hurt. In `tiny`, finetuning is not the cause:
# the base stand-in, which learned to read at four sizes, also reads best with 63 tokens (see
# `data/models/tiny-qwen3-vl-embedding/README.md`). So measure some budgets first, then train and search with the one
# that you choose. Part of the time, such as decoding a page, does not depend on the budget.
#
# ## 5. Size against NDCG
#
# Beside ours, three published figures, all of models with 2 billion parameters on 300 queries over 1,500 pages of
# another data set: the base and the finetuned `Qwen3-VL-Embedding-2B` (**published**, [Sentence
# Transformers](https://huggingface.co/blog/train-multimodal-sentence-transformers)) and a late-interaction model made
# from it, which keeps a vector for every token (**published**, [its
# documentation](https://sbert.net/examples/multi_vector_encoder/training/multimodal/README.html)).

# %%
parameters = sum(p.numel() for p in model.parameters())
whens = zip(("before", "after"), pairs["all"], strict=True)
measured = {vectors.title(f"ours, {when}"): (parameters, interval) for when, interval in whens}
published = {
    "published: 2B, base": (2.13e9, 0.888),
    "published: 2B, finetuned": (2.13e9, 0.947),
    "published: 2B, late interaction": (2.13e9, 0.9278),
}
figure = plots.size_and_score(measured, published)
alt = "NDCG@10 by number of parameters: measured here before and after, and three published 2B models."
run.figure("size_and_ndcg", figure, alt)
figure

# %% [markdown]
# **Read it**: only vertically, and only within one data set. Do not compare ours with the published ones: the stand-in
# was trained for pages like these and nothing else, and the others answered other queries on other pages. Our gain is
# no forecast for your data either. Even within one article a base can differ: 0.888 in one table, 0.8961 at full
# dimension in another (published). Always ask what was measured, on what, with which settings.
#
# ## 6. Won and lost
#
# A mean gain can come from many small gains, or from a few large ones with some queries lost. One bar for each query:

# %%
run.record("queries-won", int((after > before).sum()))
run.record("queries-lost", int((after < before).sum()))
figure = plots.gains(before, after, gain, title=vectors.title("What each query gained"))
alt = "Gain in NDCG@10 of each query, sorted: won, unchanged and lost, and the mean with its interval."
run.figure("gains", figure, alt)
figure

# %% [markdown]
# **Read it**: each bar is one query wide. So the area above zero, less the area below it, divided by the number of
# queries, is the mean gain. Each bar below zero is a query that was answered better before. Now the largest win and
# the largest loss (or the smallest gain), before and after.


# %%
def show(which, when, title):
    query = query_ids[which]
    asked, pages = getattr(vectors, f"queries_{when}")[[which]], getattr(vectors, f"pages_{when}")
    (ranking,) = evaluation.rankings(asked, pages, page_ids, k=5)
    captions = [f"{row.country}: {row.topic}" for row in table.loc[ranking].itertuples()] if P.drawn else None
    images, title = [test.image(page) for page in ranking], vectors.title(title)
    display(plots.gallery(test.queries[query], images, ranking, test.relevant[query], title, captions))


won, lost = int(np.argmax(after - before)), int(np.argmin(after - before))
worst = "lost" if after[lost] < before[lost] else "helped least"
show(won, "before", f"won, before: {before[won]:.2f}")
show(won, "after", f"won, after: {after[won]:.2f}")
show(lost, "before", f"{worst}, before: {before[lost]:.2f}")
show(lost, "after", f"{worst}, after: {after[lost]:.2f}")


# %%
def first_page(query_vectors, page_vectors):
    """What stands at rank 1: for each kind, True or False for every query."""
    top = [row[0] for row in evaluation.rankings(query_vectors, page_vectors, page_ids, k=1)]
    right = np.array([page in test.relevant[query] for query, page in zip(query_ids, top, strict=True)])
    if not P.drawn:
        return {"the right page": right, "a wrong page": ~right}
    same = {
        name: table.loc[top, name].to_numpy() == answers[name].to_numpy() for name in ("country", "topic")
    }
    country = same["country"] & ~right
    topic = same["topic"] & ~right & ~country
    kinds = {"the right page": right, "right country, wrong topic": country}
    return kinds | {"right topic, wrong country": topic, "neither": ~(right | country | topic)}


# %%
first_before = first_page(vectors.queries_before, vectors.pages_before)
first_after = first_page(vectors.queries_after, vectors.pages_after)
kinds = {}
for kind in first_before:
    kinds[kind] = tuple(
        evaluation.bootstrap(first[kind].astype(float)) for first in (first_before, first_after)
    )
    for when, interval in zip(("before", "after"), kinds[kind], strict=True):
        run.record(f"first-page/{when}/{kind.replace(',', '').replace(' ', '-')}", interval)
figure = plots.shares(kinds, title=vectors.title("What stands at rank 1"))
alt = (
    "Share of queries whose first page is right, of the right country or topic, or neither; before and after."
)
run.figure("first_page", figure, alt)
figure

# %% [markdown]
# **Read it**: the top row should move right, the others left. If one wrong row is clearly the largest *after*, it says
# what to add to the training data next: hard negatives of the same country if topics are confused, of the same topic if
# countries are.
#
# ## 7. Is the difference significant?
#
# ![Each query has a score before, one after and a difference; the bootstrap draws queries again, the randomisation test
# flips signs](images/08_paired.svg)
#
# **Paired bootstrap**: draw as many queries as there are, with repetition, and take their mean gain; do this ten
# thousand times. The middle 95% of these means is the interval.

# %%
rng = np.random.default_rng(SEED)
difference = after - before
draws = rng.integers(0, len(difference), size=(10_000, len(difference)))
low, high = np.percentile(difference[draws].mean(axis=1), [2.5, 97.5])
print(f"by hand    {difference.mean():.3f} [{low:.3f}, {high:.3f}]")
print(f"course     {gain.mean:.3f} [{gain.low:.3f}, {gain.high:.3f}]")

# %% [markdown]
# **Paired randomisation test**: suppose training did nothing. Then it is chance which of a query's two scores is called
# "after". Flip signs at random, ten thousand times: how often is the mean at least as far from zero as the one you saw?
# That share is *p*. The two 1s in the code below count the arrangement that you saw. If *p* is below 0.05, a difference
# is usually called **significant**.


# %%
signs = rng.choice([-1, 1], size=(10_000, len(difference)))
by_chance = (signs * difference).mean(axis=1)
as_far = np.abs(by_chance) >= abs(difference.mean()) - 1e-12
by_hand = (1 + as_far.sum()) / (1 + len(as_far))
p = evaluation.randomisation_test(before, after)
p_half = evaluation.randomisation_test(by_dimension["after"][full], by_dimension["after"][P.dimensions[1]])
changed = int((by_dimension["after"][full] != by_dimension["after"][P.dimensions[1]]).sum())
run.record("p/randomisation", p)
run.record("p/shorter-vectors", p_half)
print(f"after against before: p = {p:.4f} (by hand {by_hand:.4f})")
print(f"{P.dimensions[1]} against {full} dimensions: p = {p_half:.4f}; {changed} queries changed at all")
figure = plots.chance(by_chance, gain, title=vectors.title("Gains that chance alone makes"))
alt = "Histogram of mean gains under random signs, and the gain that was seen with its interval."
run.figure("chance", figure, alt)
figure

# %% [markdown]
# **Read it**: if the blue line stands outside the grey bars, chance alone hardly ever makes such gains. A small *p*
# says that there is *some* difference, the interval says how large. A large *p* does not prove equality. Only queries
# whose score changed count in this test: if n of them did, no *p* below 2 / 2^n is possible. With four changed queries,
# no difference could be significant (2 / 2^4 = 0.125).

# %% [markdown]
# ### Exercise 2: the smallest p
# What is the smallest *p* that this test can give with 10,000 draws?
#
# <details><summary>Hint</summary>
#
# What if not one of the draws comes as far as the real mean?
#
# </details>

# %%
# <solution> stub: smallest_p = ...
smallest_p = 1 / (1 + 10_000)
# </solution>
tests = [
    (lambda a: 0 < a < 1, "a small share, but never 0: the arrangement that you saw always counts"),
    (lambda a: not close(a, 1 / 10_000, 1e-9), "nearly: the denominator counts the real arrangement, too"),
    (lambda a: close(a, 1 / 10_001, 1e-9), "put 0 in place of the sum in the formula"),
]
check("the smallest p", smallest_p, tests)

# %% [markdown]
# ## 8. Three training seeds
#
# So far the *queries* were drawn again. Another training run, in another order of the batches, gives another model.
# Three seeds of lesson 07, reported once and **precomputed** (with the stand-in in `tiny`, whatever your profile):

# %%
by_seed = {}
trials = finetuned.trials()
for seed in range(3):
    found = trials[f"seed-{seed}"]
    ends = {
        when: [found[f"ndcg@10/{when}{end}"] for end in ("", "/low", "/high")]
        for when in ("before", "after", "gain")
    }
    three = {when: evaluation.Interval(*values, len(query_ids)) for when, values in ends.items()}
    by_seed[f"seed {seed}"] = three["before"], three["after"]
    run.record(f"gain-by-seed/seed-{seed}", three["gain"])

spread = np.std([new.mean for _, new in by_seed.values()], ddof=1)
least = min(trials[f"seed-{seed}"]["ndcg@10/gain"] for seed in range(3))
print(f"standard deviation of the score after, over {len(by_seed)} seeds: {spread:.3f}")
print(f"You saw gains of at least {least:.3f}, {least / spread:.0f} times that spread.")
figure = plots.before_after(by_seed, title="Three training seeds (precomputed)", digits=3, left=0.8)
alt = "NDCG@10 before and after finetuning with three training seeds, with 95% intervals over queries."
run.figure("seeds", figure, alt)
run.save()
figure

# %% [markdown]
# **Read it**: "before" is the same model each time. The spread of "after" comes from luck in training; an interval over
# queries leaves it out. A gain smaller than that spread is no gain that you can promise, however small *p* is. Three
# seeds are few: they show the size of the spread, not its exact value.
#
# ## Three questions
#
# **1.** Two models differ by 0.02 on the same queries, and their two intervals overlap. What do you look at?
#
# - a) the overlap: there is no difference · b) the paired interval of the difference · c) the larger mean
#
# <details><summary>Answer</summary>
#
# **b.** The same queries are hard for both models, and pairing removes that. Not a: overlapping intervals do not
# exclude a difference. Not c: a mean alone does not say how sure it is.
#
# </details>
#
# **2.** A test gives p = 0.5, and three of 300 queries changed. What follows?
#
# - a) the models are equal · b) the test could not have found a difference · c) half of the gain is chance
#
# <details><summary>Answer</summary>
#
# **b.** With three changed queries no p below 2 / 2^3 = 0.25 is possible. Not a: no evidence of a difference is not
# evidence of none. Not c: p is no share of the gain.
#
# </details>
#
# **3.** Which spread does an interval over queries leave out?
#
# - a) that of other queries of the same kind · b) that of another training seed · c) that of hard and easy queries
#
# <details><summary>Answer</summary>
#
# **b.** It takes the model as given. Not a and not c: the draw of queries, hard and easy, is what it is made of.
#
# </details>

# %% [markdown]
# ## You have
# - compared two models on the same queries, with an interval for the gain, overall and by slice
# - seen what shorter vectors and fewer pixels cost, and what they save
# - looked at won and lost queries, and at what stands first when the right page does not
# - tested a difference with a paired bootstrap and a randomisation test, and held it against the spread of training
#   seeds
#
# **Next**: lesson 09 trains a reranker, which looks again at the pages that this model ranks near the top.
