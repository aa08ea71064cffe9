# %% [markdown]
# # 09 · Train a reranker
#
# **You will be able to**
# - say how much a reranker could gain, before you train one
# - mine near misses from your own retriever, and finetune a multimodal reranker on them
# - fit the weight of retriever and reranker together on dev queries
# - decide from paired intervals and seconds when a reranker pays
#
# **Time** tiny 6 min · t4 about 3 h · full about 3 h (the two on a GPU are estimates, not measured here)
#
# **Learning time** about 40 min
#
# **Memory** tiny 1.8 GB · t4 16 GB of GPU memory · full 80 GB of GPU memory
#
# **Read first** nothing; lesson 07 trains the retriever whose results are reranked here

# %% tags=["parameters"]
PROFILE = "tiny"
SEED = 0
ROWS = 0

# %%
from course_utils.machine import quiet

quiet()  # drops library messages that ask nothing of you
import gc
import re
import time

import numpy as np
import pandas as pd
import torch
from datasets import Dataset, load_dataset
from matplotlib.figure import Figure
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments, losses
from sentence_transformers.cross_encoder.evaluation import CrossEncoderRerankingEvaluator
from sklearn.linear_model import LogisticRegression

from course_utils import evaluation, finetuned, plots
from course_utils.adapters import add_lora
from course_utils.checkpoints import checkpoint
from course_utils.corpus import build_corpus
from course_utils.dataset import prepare_dataset
from course_utils.exercises import check, close
from course_utils.profiles import load_profile
from course_utils.recording import Run

# %%
P = load_profile(PROFILE)
MINED = ROWS or 700  # training queries with near misses
NEAR = 2  # near misses beside each right page in training
CHEAP = P.dimensions[-1]  # dimensions of the cheap first stage
rates = (1e-4, {r"embed_tokens": 3e-4}) if P.drawn else (P.learning_rate, P.word_rates)
kwargs = {"dtype": P.dtype, "attn_implementation": P.attention}
run = Run("09_train_a_reranker", profile=PROFILE, seed=SEED)

# %% [markdown]
# ## 1. When can a reranker pay?
#
# A retriever embeds every page before anybody asks. A **reranker** reads the query and one page together, and gives the
# pair a score. That needs one pass of the model for each pair, so it reads only the first pages that retrieval found:
# the **candidates**.
#
# ![All pages go through a fast first stage, which keeps 20 candidates; the reranker reads the query with each
# candidate; its score and the cosine are added, and the sum gives the new order](images/09_rerank.svg)
#
# This lesson asks one question: **when does that pay?** We try three first stages, all with the vectors of lesson 07:
#
# - **cheap**: the finetuned vectors cut to their first dimensions, a small part of the index; 20 candidates
# - **full**: the same vectors at full size; 10 candidates
# - **unseen wording**: full size again, for queries in words that no training used; 20 candidates
#
# `finetuned.finetuned` reads **your own** vectors if you have run lesson 07 here. If not, it reads those that come with
# the course, labelled **precomputed**. No test page is embedded again.
#
# The data have three splits: **train** for the weights of the model, **dev** for our choices, and **test** for the
# result.

# %%
dataset = prepare_dataset(P)
train_data = load_dataset(dataset, "train", split=P.train_split)
dev_data = load_dataset(dataset, P.dev_config, split=P.dev_split)
test = build_corpus(load_dataset(dataset, "eval", split="train"))
found = finetuned.finetuned(P)
query_ids, page_ids = found.query_ids[: ROWS or None], found.page_ids
run.record("queries", len(query_ids))
run.record("pages", len(page_ids))
run.record("precomputed", int(found.label == "precomputed"))
print(f"vectors: {found.label or 'your own, from lesson 07'}")
print(f"{len(query_ids)} queries, {len(page_ids)} pages")


# %%
def first_stage(queries, pages, query_ids, page_ids, depth, dimensions=None):
    """The candidates of each query, best first, and their cosines."""
    queries, pages = (torch.nn.functional.normalize(rows[:, :dimensions]) for rows in (queries, pages))
    ranked = evaluation.rankings(queries, pages, page_ids, k=depth)
    row = {page: k for k, page in enumerate(page_ids)}
    near = [
        (pages[[row[page] for page in ranking]] @ query).numpy()
        for ranking, query in zip(ranked, queries, strict=True)
    ]
    return dict(zip(query_ids, ranked, strict=True)), dict(zip(query_ids, near, strict=True))


def ndcg(rankings, relevant):
    """NDCG@10 of each query; with one right page it is 1 at rank 1, 0.63 at rank 2, 0 below rank 10."""
    return np.array([evaluation.ndcg_at_k(ranking, relevant[q]) for q, ranking in rankings.items()])


# %%
asked = found.queries_after[: len(query_ids)], found.pages_after, query_ids, page_ids
stages = {  # name in the metrics: queries and pages, candidates, cosines
    "/cheap": (test, *first_stage(*asked, depth=20, dimensions=CHEAP)),
    "": (test, *first_stage(*asked, depth=10)),
}
labels = {"/cheap": f"cheap: {CHEAP} dimensions, 20", "": "full size, 10"}
if P.drawn:
    unseen = test.ask(load_dataset(dataset, "unseen", split="train"))
    unseen_ids = list(unseen.queries)[: ROWS or None]
    vectors = found.unseen_after[: len(unseen_ids)], found.pages_after
    stages["/unseen-wording"] = (unseen, *first_stage(*vectors, unseen_ids, page_ids, depth=20))
    labels["/unseen-wording"] = "unseen wording, full size, 20"

# %% [markdown]
# ### Exercise 1: the ceiling
# A reranker cannot find a page that is not among its candidates. Which NDCG@10 would a perfect reranker reach on the
# cheap candidates? It puts the right page first whenever that page is there. Each query has one right page.
#
# <details><summary>Hint</summary>
#
# `cheap[q]` are the page ids of query `q`; `test.relevant[q]` is the set of its right ones. A query scores 1 or 0.
#
# </details>

# %%
cheap = stages["/cheap"][1]
# <solution> stub: ceiling = ...
ceiling = float(np.mean([bool(set(cheap[q]) & test.relevant[q]) for q in query_ids]))
# </solution>
reachable = np.mean([any(page in test.relevant[q] for page in ranking) for q, ranking in cheap.items()])
tests = [
    (lambda a: 0 <= a <= 1, "a share of the queries lies between 0 and 1"),
    (lambda a: a >= ndcg(cheap, test.relevant).mean() - 1e-9, "no worse than the retriever"),
    (lambda a: close(a, reachable, 1e-6), "count the queries whose page is anywhere among the candidates"),
]
check("the ceiling", ceiling, tests)

# %%
retrieved, ceilings, rows = {}, {}, {}
for name, (corpus, candidates, _) in stages.items():
    retrieved[name] = ndcg(candidates, corpus.relevant)
    there = [bool(set(ranking) & corpus.relevant[q]) for q, ranking in candidates.items()]
    ceilings[name] = float(np.mean(there))
    run.record(f"ndcg@10/retrieved{name}", evaluation.bootstrap(retrieved[name]))
    run.record(f"ceiling{name}", ceilings[name])
    room = ceilings[name] - retrieved[name].mean()
    rows[labels[name]] = {"retrieved": retrieved[name].mean(), "ceiling": ceilings[name], "room": room}
display(pd.DataFrame(rows).T.round(3))
widest = max(rows, key=lambda label: rows[label]["room"])
print(f"Most room: {widest} candidates.")

# %% [markdown]
# The **room** is what a perfect reranker would add. Predict: in which of the rows will a reranker gain more than the
# luck of the queries explains? Section 6 gives the answer.
#
# ## 2. A reranker says yes or no
#
# A multimodal reranker is a vision-language model that is asked to judge. The prompt shows query and page and ends
# where the answer begins. [`LogitScore`](https://sbert.net/docs/package_reference/cross_encoder/modules.html) takes the
# logit of *yes* (the model's score for this word, before any softmax) minus the logit of *no*. We start from a **ready
# reranker**, which has learned to judge general pages.
#
# (You can also leave out the language model's head and put `Pooling("lasttoken")` and `Dense` in its place. If `Dense`
# starts as the difference of the two words' output embeddings, it gives the same scores.)

# %%
ready = CrossEncoder(checkpoint(P.reranker), model_kwargs=kwargs)
ready[0].processing_kwargs |= {"image": {"size": P.pixels}}
prompt = ready.prompts.get(ready.default_prompt_name)  # some published rerankers have one
print(ready)
dev = build_corpus(dev_data)
dev_ids = list(dev.queries)[: ROWS or None]
first = next(iter(dev.queries))
pair = (dev.queries[first], dev.corpus[min(dev.relevant[first])])
inputs = ready.preprocess([pair], prompt=prompt)
text = ready[0].tokenizer.decode(inputs["input_ids"][0])
print(re.sub(r"(<\|image_pad\|>\s*)+", "<|image_pad|>… ", text))

# %% [markdown]
# The last line is what the model reads (image tokens shortened). A pair becomes two messages with the **roles `query`
# and `document`**. **Watch out**: the chat template of a raw VLM, which turns messages into one text, often does not
# know these roles. If you build a reranker from one, add them to its template first, or the pair is refused.
#
# ## 3. Near misses, from the retriever itself
#
# A reranker sees only pages that the retriever ranks high. So we train on such pages: for each training query the right
# page, and its **near misses**: the wrong pages that the retriever ranks highest. A random page mostly shows another
# country and another topic. It is easy to reject, so it teaches little.
#
# Lesson 07's model mines them if you have trained it here. If not, the base embedder does, since only the vectors of
# dev and test come with the course.

# %%
retriever = SentenceTransformer(found.model or checkpoint(P.embedder), model_kwargs=kwargs)
retriever[0].processing_kwargs |= {"image": {"size": P.pixels}}
print("mined with", "your finetuned model of lesson 07" if found.model else "the base embedder")


def embed(retriever, corpus):
    """Vectors of all queries and all pages, in the order of the dictionaries."""
    options = {"batch_size": P.eval_batch_size, "convert_to_tensor": True, "show_progress_bar": True}
    queries = retriever.encode_query(list(corpus.queries.values()), **options)
    pages = retriever.encode_document(list(corpus.corpus.values()), **options)
    return queries.float().cpu(), pages.float().cpu(), list(corpus.queries), list(corpus.corpus)


train = build_corpus(train_data.shuffle(seed=SEED).select(range(min(MINED, len(train_data)))))
train_near, _ = first_stage(*embed(retriever, train), depth=NEAR + 5)

# %%
started = time.perf_counter()
for text in list(test.queries.values())[:10]:
    retriever.encode_query(text)
seconds_retrieval = (time.perf_counter() - started) / 10
run.record("seconds/retrieval", seconds_retrieval)
del retriever
gc.collect()
torch.cuda.empty_cache()

lists = []
for q, ranking in train_near.items():
    wrong = [page for page in ranking if page not in train.relevant[q]][:NEAR]
    pages, grades = [min(train.relevant[q]), *wrong], [10] + [0] * len(wrong)
    lists.append({"query": train.queries[q], "pages": pages, "labels": grades})
images = [train.image(page) for page in lists[0]["pages"]]
plots.gallery(lists[0]["query"], images, lists[0]["pages"], lists[0]["pages"][:1], "mined")

# %% [markdown]
# ## 4. Train on lists
#
# [`ListNetLoss`](https://sbert.net/docs/package_reference/cross_encoder/losses.html#listnetloss) takes a query with its
# whole list, and trains the right page to come out above the others. A softmax turns the labels into probabilities, and
# another one the scores; the loss, their cross entropy, is lowest where the two agree (lesson 06). **Watch out**: with
# labels of 1 and 0 it is lowest when the right page leads by only 1. Labels of 10 and 0 ask for near certainty.
#
# Pages are kept as ids; a transform puts the page in when a batch is made. In `tiny` the image tower, the layers that
# read pixels, stays frozen. `CrossEncoderRerankingEvaluator` scores the model on dev, before and after training.

# %%
dev_asked = found.dev_queries_after[: len(dev_ids)], found.dev_pages_after, dev_ids, list(dev.corpus)
dev_stages = {
    "/cheap": first_stage(*dev_asked, depth=20, dimensions=CHEAP),
    "": first_stage(*dev_asked, depth=10),
}
samples = [
    {
        "query": dev.queries[q],
        "positive": [dev.corpus[page] for page in dev.relevant[q]],
        "documents": [dev.corpus[page] for page in ranking[:5]],
    }
    for q, ranking in dev_stages["/cheap"][0].items()
]
options = {"always_rerank_positives": False, "batch_size": P.eval_batch_size}
dev_evaluator = CrossEncoderRerankingEvaluator(samples, name="dev", **options)
before_training = dev_evaluator(ready)["dev_ndcg@10"]


def with_pages(batch):
    """Page ids become pages when a batch is made, not before."""
    if "pages" in batch:
        batch["pages"] = [[train.corpus[page] for page in row] for row in batch["pages"]]
    return batch


# %%
train_lists = Dataset.from_list(lists).with_transform(with_pages)
at_once = 16 if P.drawn else 1
arguments = CrossEncoderTrainingArguments(
    output_dir=str(run.folder / "training"),
    num_train_epochs=1,
    per_device_train_batch_size=at_once,
    gradient_accumulation_steps=16 // at_once,
    learning_rate=rates[0],
    learning_rate_mapping=rates[1],
    warmup_steps=P.warmup,
    lr_scheduler_type="linear",
    bf16=P.bf16,
    fp16=P.fp16,
    prompts=prompt,
    save_strategy="no",
    logging_steps=0.05,
    seed=SEED,
    report_to="none",
)

# %%
for name, parameter in ready.named_parameters():
    if P.frozen and re.search(P.frozen, name):
        parameter.requires_grad_(False)
if P.lora:
    add_lora(ready)
loss = losses.ListNetLoss(ready, mini_batch_size=P.mini_batch_size)
trainer = CrossEncoderTrainer(model=ready, args=arguments, train_dataset=train_lists, loss=loss)
trainer.train()
run.record("steps/ready", trainer.state.global_step)
after_training = dev_evaluator(ready)["dev_ndcg@10"]
run.record("ndcg@10/dev/ready", before_training)
run.record("ndcg@10/dev/ready-finetuned", after_training)
print(f"dev NDCG@10, 5 candidates, reranker alone: {before_training:.3f} before, {after_training:.3f} after")
figure = plots.training_curve(trainer.state.log_history)
run.figure("training", figure, "Listwise training loss of the reranker by step.")
figure

# %% [markdown]
# The loss is noisy: each point is the mean of a few batches, and some of their lists are harder than others. So judge
# the training by the dev scores above the plot. In `tiny` they come from 60 queries, so a change of less than 0.02, up
# or down, may be luck. Only these two scores compare the reranker before and after this training: section 6 compares
# reranking with no reranking.
#
# ## 5. Two scores, one order
#
# Retriever and reranker score the same pair on different scales, and partly from the same evidence. So their sum needs a
# **weight**: `20 * cosine + weight * logit` (lesson 07 trained with a softmax over 20 times the cosine). We fit both
# parts **together**: a logistic regression on dev takes both scores of the right page, minus those of a wrong page for
# the same query, and finds how much each should count so that the right page leads. We choose nothing on test.
#
# `predict` applies a sigmoid by default. We rank by the bare logits: in float32 the sigmoid of every number above 17
# is exactly 1, and equal scores have no order. Stages share pairs, so a dictionary keeps what is scored already.

# %%
known = {}  # (query, page id): logit


def score(corpus, candidates):
    """The reranker's logits of each query's candidates; each distinct pair is scored once."""
    pairs = dict.fromkeys((corpus.queries[q], page) for q, ranking in candidates.items() for page in ranking)
    new = [pair for pair in pairs if pair not in known]
    if new:
        options = {"batch_size": P.eval_batch_size, "show_progress_bar": True}
        inputs = [(query, corpus.corpus[page]) for query, page in new]
        found_logits = ready.predict(inputs, activation_fn=torch.nn.Identity(), **options)
        known.update(zip(new, found_logits, strict=True))
    return {
        q: np.array([known[corpus.queries[q], page] for page in ranking], dtype=float)
        for q, ranking in candidates.items()
    }


dev_logits = {name: score(dev, candidates) for name, (candidates, _) in dev_stages.items()}


# %%
def reorder(ranking, scores):
    """Best score first; ties keep the retriever's order."""
    return [ranking[k] for k in np.argsort(-scores, kind="stable")]


def mixed(candidates, near, logits, weight):
    return {q: reorder(ranking, 20 * near[q] + weight * logits[q]) for q, ranking in candidates.items()}


def fit_weight(candidates, near, logits, relevant):
    """How much the logit counts beside 20 * cosine, both fitted together."""
    rows = []
    for q, ranking in candidates.items():
        both = np.column_stack([20 * near[q], logits[q]])
        right = np.array([page in relevant[q] for page in ranking])
        rows += [good - bad for good in both[right] for bad in both[~right]]
    mirrored = np.concatenate([rows, -np.array(rows)])
    won = np.repeat([1, 0], len(rows))
    cosine, logit = LogisticRegression(fit_intercept=False).fit(mirrored, won).coef_[0]
    return float(max(logit, 0) / max(cosine, 1e-3))


# %%
weights = {name: fit_weight(*dev_stages[name], dev_logits[name], dev.relevant) for name in dev_stages}
grid = [0, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 100]
figure = Figure(figsize=(9, 4), layout="constrained")
axes = figure.subplots()
for name, color, marker in (("/cheap", "#E69F00", "o"), ("", "#0072B2", "D")):
    curve = [ndcg(mixed(*dev_stages[name], dev_logits[name], w), dev.relevant).mean() for w in grid]
    axes.plot(grid, curve, color=color, marker=marker, label=labels[name])
    axes.axvline(weights[name], color=color, ls=":", label=f"fitted: {weights[name]:.2f}")
    run.record(f"weight{name}", weights[name])
axes.set_xscale("symlog", linthresh=0.01)
axes.set_xlim(-0.002, 150)
axes.set(
    xlabel="weight of the reranker's logit (0: retriever alone; logarithmic from 0.01)",
    ylabel="NDCG@10 (axis is cut)",
)
axes.set_title(f"Dev score by weight, {len(dev_ids)} queries")
axes.legend()
alt = "Dev NDCG@10 by the weight of the reranker, cheap and full size, with the fitted weights."
run.figure("weight", figure, alt)
figure

# %% [markdown]
# At the left end the retriever decides alone; towards the right the reranker counts more and more. Each kind of
# candidates has a weight of its own. Dev has few queries, so small steps in a curve are luck. That is why the
# regression, which uses every pair, sets the weight. It does not look at NDCG@10, so the fitted line need not stand at
# the peak of the curve. For unseen wording there is no dev set, so it takes the weight of full size.

# %% [markdown]
# ### Exercise 2: break it
# What if the reranker decides alone? On the **dev** queries and full-size candidates, count the queries whose NDCG@10
# gets worse than the retriever's when only the logits give the order.
#
# <details><summary>Hint</summary>
#
# `dev_stages[""][0]` are the candidates and `dev_logits[""]` their logits. Make the new order with `reorder` for each
# query, score both orders with `ndcg`, and compare.
#
# </details>

# %%
# <solution> stub: worse = ...
dev_full, _ = dev_stages[""]
alone = {q: reorder(ranking, dev_logits[""][q]) for q, ranking in dev_full.items()}
worse = int((ndcg(alone, dev.relevant) < ndcg(dev_full, dev.relevant)).sum())
# </solution>
by_logit = [
    [ranking[k] for k in np.argsort(-dev_logits[""][q], kind="stable")]
    for q, ranking in dev_stages[""][0].items()
]
by_logit = ndcg(dict(zip(dev_ids, by_logit, strict=True)), dev.relevant)
expected = int((by_logit < ndcg(dev_stages[""][0], dev.relevant)).sum())
tests = [
    (lambda a: 0 <= a <= len(dev_ids), "count queries: a whole number, no more than there are"),
    (lambda a: a == expected, "order by the logits alone, and count where NDCG@10 is lower than before"),
]
check("queries that get worse", worse, tests)
summed = ndcg(mixed(*dev_stages[""], dev_logits[""], weights[""]), dev.relevant)
with_weight = int((summed < ndcg(dev_stages[""][0], dev.relevant)).sum())
if worse == expected:
    print(f"You saw {worse} of {len(dev_ids)} dev queries get worse; with the fitted weight, {with_weight}.")

# %% [markdown]
# Alone, the reranker does not use what the retriever knows. In the sum it moves a page only where its opinion is strong
# and the retriever's lead is small.
#
# ## 6. The answer
#
# Now the test queries, once. The **paired interval** (95%) compares the two orders query by query; if it lies above
# zero, the gain is more than the luck of these queries.

# %%
started = time.perf_counter()
scored = len(known)
logits = {name: score(corpus, candidates) for name, (corpus, candidates, _) in stages.items()}
seconds_pair = (time.perf_counter() - started) / (len(known) - scored)
run.record("pairs", len(known) - scored)
run.record("seconds/pair", seconds_pair)
by_itself = {q: reorder(ranking, logits[""][q]) for q, ranking in stages[""][1].items()}
by_itself = evaluation.bootstrap(ndcg(by_itself, test.relevant))
run.record("ndcg@10/reranked/alone", by_itself)
print(f"full size, the reranker alone: {by_itself}; the retriever alone: {retrieved[''].mean():.3f}")

# %%
final, reranked, gains, rows = {}, {}, {}, {}
for name, (corpus, candidates, near) in stages.items():
    final[name] = mixed(candidates, near, logits[name], weights.get(name, weights[""]))
    reranked[name] = ndcg(final[name], corpus.relevant)
    gains[name] = evaluation.paired_bootstrap(retrieved[name], reranked[name])
    both = [evaluation.bootstrap(scored[name]) for scored in (retrieved, reranked)]
    run.record(f"ndcg@10/reranked{name}", both[1])
    run.record(f"ndcg@10/gain{name}", gains[name])
    row = {"retrieved": str(both[0]), "reranked": str(both[1]), "ceiling": f"{ceilings[name]:.3f}"}
    rows[labels[name]] = row | {"gain": str(gains[name])}
    won, lost = ((s * (reranked[name] - retrieved[name]) > 0).sum() for s in (1, -1))
    run.record(f"queries-won{name}", won)
    run.record(f"queries-lost{name}", lost)
pd.DataFrame(rows).T

# %% [markdown]
# ### Exercise 3: where does it gain?
# Choose from the table. List the names of the rows where the reranker's gain is more than the luck of the queries:
# `"cheap"`, `"full"`, `"unseen"`.
#
# <details><summary>Hint</summary>
#
# Read the interval in square brackets. Its lower end must lie above zero.
#
# </details>

# %%
# <solution> stub: gaining = ...
short = {"/cheap": "cheap", "": "full", "/unseen-wording": "unseen"}
gaining = [short[name] for name, gain in gains.items() if gain.low > 0]
# </solution>
clear = {"cheap": gains["/cheap"], "full": gains[""], "unseen": gains.get("/unseen-wording")}
clear = {name for name, gain in clear.items() if gain and gain.low > 0}
tests = [
    (
        lambda a: set(a) <= {"cheap", "full", "unseen"},
        'give a list with names among "cheap", "full", "unseen"',
    ),
    (lambda a: set(a) >= clear, "there is one more row whose interval lies above zero"),
    (lambda a: set(a) == clear, "one of these intervals reaches down to zero or below"),
]
check("where it gains", gaining, tests)


# %%
def verdict(gain):
    """What a paired interval says."""
    return "a gain" if gain.low > 0 else "a loss" if gain.high < 0 else "no clear difference"


for name, gain in gains.items():
    won, lost = (int(run.metrics[f"queries-{side}{name}"]) for side in ("won", "lost"))
    print(f"{labels[name]} candidates: {verdict(gain)}; {won} queries won, {lost} lost")
instead = evaluation.paired_bootstrap(retrieved[""], reranked["/cheap"])
run.record("ndcg@10/cheap-reranked-over-full", instead)
print(f"cheap and reranked, minus full size alone: {instead}: {verdict(instead)}")
by_stage = {labels[name]: gain for name, gain in gains.items()}
figure = plots.forest(by_stage, title=found.title("Gain of reranking, by first stage"))
run.figure("stages", figure, "Gain in NDCG@10 of reranking each first stage, with paired 95% intervals.")
figure

# %% [markdown]
# Compare with your prediction and with the room in section 1. A reranker has little to win where the right page is
# first already, and more where retrieval finds the page but does not put it first. Room alone is not enough: the
# reranker must know something about these queries that the retriever does not. If a row has much room and its interval
# contains zero, these queries do not show that it does.
#
# ### What it costs
# A query takes one short pass to embed; then the reranker reads each candidate. Rerank the first *k* of the cheap
# stage, and leave the rest as it was. Predict: how many must be reranked to score as high as with twenty?

# %%
_, candidates, near = stages["/cheap"]
together = {q: 20 * near[q] + weights["/cheap"] * logits["/cheap"][q] for q in query_ids}
depths, best, seconds = {}, {}, {}
for k in (0, 2, 5, 10, 20):
    part = {q: reorder(candidates[q][:k], together[q][:k]) + candidates[q][k:] for q in query_ids}
    depths[k] = evaluation.bootstrap(ndcg(part, test.relevant))
    in_reach = np.array([bool(set(candidates[q][:k]) & test.relevant[q]) for q in query_ids])
    best[k] = float(np.where(in_reach, 1, retrieved["/cheap"]).mean())
    seconds[k] = seconds_retrieval + k * seconds_pair
run.record("seconds/query", seconds[20])
print(f"a query: {1000 * seconds_retrieval:.0f} ms to embed; a pair: {1000 * seconds_pair:.0f} ms")
enough = next(k for k in depths if depths[k].mean >= depths[20].mean - 0.005)
if enough < 20:
    print(f"You saw {enough} candidates come within 0.005 of what twenty score, or above.")
else:
    fewer = ", ".join(str(k) for k in depths if k < 20)
    print(f"You saw {fewer} candidates score lower than twenty by more than 0.005.")
figure = plots.by_depth(depths, seconds, best)
alt = "NDCG@10 by number of candidates reranked, with the ceiling and the seconds a query."
run.figure("depth", figure, alt)
figure

# %% [markdown]
# A gain alone is not enough. A reranker pays when three things hold: there is **room** below the ceiling, the gain's
# interval is **above zero**, and the user can **wait**. If full-size vectors alone score as high or higher (section 6
# prints the difference), they are the better choice: a larger index, but fewer seconds for each query.
#
# ### Pages that it moved

# %%
change = reranked["/cheap"] - retrieved["/cheap"]
for verb, k in (("won", int(np.argmax(change))), ("lost", int(np.argmin(change)))):
    q = query_ids[k]
    word = verb if change[k] else f"none {verb}"
    for when, ranking in (("retrieved", candidates[q][:4]), ("reranked", final["/cheap"][q][:4])):
        images, title = [test.image(page) for page in ranking], found.title(f"{word}, {when}")
        display(plots.gallery(test.queries[q], images, ranking, test.relevant[q], title))

# save without a model card, which would carry training pages under assets/
folder = run.folder / ("adapter" if P.lora else "model")
ready.save_pretrained(str(folder), create_model_card=False)
assert not list(folder.rglob("assets/*"))
again = CrossEncoder(str(folder), model_kwargs=kwargs)
same = [model.predict([pair], activation_fn=torch.nn.Identity()) for model in (ready, again)]
run.record("reload/difference", float(np.abs(same[0] - same[1]).max()))
run.save()
print(f"largest difference after reloading: {run.metrics['reload/difference']:.1e}")

# %% [markdown]
# ## Three questions
#
# **1.** Retrieval puts the right page among the candidates for 90 of 100 queries. What is the most that a reranker can
# reach?
#
# - a) 1.00 · b) 0.90 · c) the retriever's own score
#
# <details><summary>Answer</summary>
#
# **b.** It can put those 90 pages first. Not a: ten pages are not among its candidates. Not c: it may improve the
# order.
#
# </details>
#
# **2.** You fit the weight on test queries and report the gain on the same queries. What is wrong?
#
# - a) nothing, it is one number · b) the gain is too low · c) the weight suits the luck of these queries
#
# <details><summary>Answer</summary>
#
# **c.** The gain then looks better than it will be on new queries. Not a: one number is enough to choose by luck. Not
# b: the choice can only raise the score that it was chosen by.
#
# </details>
#
# **3.** Why does training use the retriever's near misses and not random pages?
#
# - a) the reranker will see only pages that rank high · b) they need fewer tokens · c) they are never right
#
# <details><summary>Answer</summary>
#
# **a.** It has to tell such pages apart. Not b: every page has about as many tokens. Not c: where judgements are
# incomplete, a near miss may well be a right page.
#
# </details>

# %% [markdown]
# ## You have
# - found how much a reranker could gain, from the ceiling of its candidates
# - mined near misses from your own retriever, and finetuned a multimodal reranker on them
# - fitted the weight of two scores together on dev queries
# - decided from paired intervals and seconds when a reranker pays
#
# **Next**: lesson 10 puts retriever and reranker behind a search page.
