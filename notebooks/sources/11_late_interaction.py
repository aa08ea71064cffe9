# %% [markdown]
# # 11 · Late interaction
#
# **You will be able to**
# - compute MaxSim by hand, and say which tokens of the query a score comes from
# - turn an embedding model into a `MultiVectorEncoder`, and train it with the cached loss
# - compare it with single vectors on the same queries: score, bytes a page, seconds a query
# - draw which patch of a page matches which word, and measure how often it is the right place
# - make it cheaper with pooled tokens and with two stages
#
# **Time** tiny 4 min · t4 about 3 h · full about 4 h (estimates on a GPU)
#
# **Learning time** about 40 min
#
# **Memory** tiny 3 GB · t4 16 GB of GPU memory · full 80 GB of GPU memory
#
# **Read first** nothing; lesson 07 trains the single-vector model that is compared here

# %% tags=["parameters"]
PROFILE = "tiny"
SEED = 0
ROWS = 0

# %%
from course_utils.machine import quiet

quiet()  # drops library messages that ask nothing of you
import re
import time
import lancedb
import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from datasets import load_dataset
from sentence_transformers import MultiVectorEncoder, MultiVectorEncoderTrainer
from sentence_transformers import MultiVectorEncoderTrainingArguments
from sentence_transformers.multi_vector_encoder import interpretability, losses, modules
from sentence_transformers.multi_vector_encoder.evaluation import MultiVectorInformationRetrievalEvaluator
from course_utils import evaluation, finetuned, plots
from course_utils.adapters import add_lora
from course_utils.checkpoints import checkpoint
from course_utils.corpus import build_corpus
from course_utils.dataset import prepare_dataset
from course_utils.exercises import check, close
from course_utils.pages import places
from course_utils.profiles import load_profile
from course_utils.recording import Run

# %%
P = load_profile(PROFILE)
HEAD = 10 * P.learning_rate  # learning rate of the new head
LAYERS = 1 if P.drawn else None  # how many of the language model's layers stay; None: all
DEPTH = 50  # candidates of the first stage
run = Run("11_late_interaction", profile=PROFILE, seed=SEED)

# %% [markdown]
# ## 1. One vector or many
#
# Lesson 07's model is a **bi-encoder**: it turns a whole page into **one vector**. **Late interaction**
# ([ColBERT](https://arxiv.org/abs/2004.12832) for text, [ColPali](https://arxiv.org/abs/2407.01449) for pages) keeps
# **one vector for each token**. The tokens of a query are pieces of words; those of a page are its patches of 32x32
# pixels. Query and page are still embedded separately. Their tokens meet late, in a score that is called **MaxSim**.
#
# ![Above, one vector: query and page become one vector each, and one cosine is the score. Below, late interaction: each
# token of the query and each patch of the page keeps its vector; each token takes its best patch, and the sum is the
# score](images/11_late_interaction.svg)
#
# This lesson asks **what that gains, and what it costs**. We compare with the single vectors of lesson 07: your own if
# you have run it here, otherwise those that come with the course, labelled **precomputed**.

# %%
dataset = prepare_dataset(P)
train_data = load_dataset(dataset, "train", split=P.train_split)
dev_data = load_dataset(dataset, P.dev_config, split=P.dev_split)
test_data = load_dataset(dataset, "eval", split="train")
train_rows = train_data.shuffle(seed=SEED).select(range(min(ROWS or P.train_rows, len(train_data))))
train_rows = train_rows.select_columns(["query", "image", *(f"negative_{k}" for k in range(P.negatives))])
dev = build_corpus(dev_data.select(range(min(ROWS or len(dev_data), len(dev_data)))))
test = build_corpus(test_data.select(range(min(ROWS or len(test_data), len(test_data)))))
query_ids, page_ids = list(test.queries), list(test.corpus)

found = finetuned.finetuned(P)
rows = [
    [of.index(name) for name in ids] for of, ids in ((found.query_ids, query_ids), (found.page_ids, page_ids))
]
single_queries, single_pages = found.queries_after[rows[0]], found.pages_after[rows[1]]
run.record("queries", len(query_ids))
run.record("pages", len(page_ids))
run.record("precomputed", int(found.label == "precomputed"))
print(f"{len(query_ids)} queries over {len(page_ids)} pages; dev: {len(dev.queries)} over {len(dev.corpus)}")
print(f"single vectors: {found.label or 'your own, from lesson 07'}")

# %% [markdown]
# ## 2. The model
#
# [`MultiVectorEncoder`](https://sbert.net/docs/package_reference/multi_vector_encoder/MultiVectorEncoder.html) takes an
# embedding model, drops its pooling, and adds a **head**: a `Dense` layer to 128 dimensions with random weights, applied
# to each token.
#
# A page also has tokens that are not patches: those of the chat template around the image. We score **patches only**.
# A query keeps all its tokens.
#
# In `tiny` we keep only the first of the language model's three layers, because each layer mixes what other tokens hold
# into every token. In our trials on dev (not repeated here), the heat maps of section 6 hit no more often than chance
# with all three. In `t4` and `full`, all layers stay.

# %%
torch.manual_seed(SEED)  # draws the head
kwargs = {"dtype": P.dtype, "attn_implementation": P.attention}
model = MultiVectorEncoder(checkpoint(P.embedder), model_kwargs=kwargs)
model[0].processing_kwargs |= {"image": {"size": P.pixels}}
image_token = model.tokenizer.convert_tokens_to_ids(model.processor.image_token)
model[2].keep_only_token_ids = [image_token]  # of a page's tokens, only patches
language = model[0].model.language_model
language.layers = language.layers[:LAYERS]
run.record("layers", len(language.layers))
print(model)
print("layers of the language model:", len(language.layers))
options = {"batch_size": P.eval_batch_size, "show_progress_bar": True}


def embed(model, corpus):
    """A list of (tokens, 128) for the queries, and one of (patches, 128) for the pages, on the CPU."""
    queries = model.encode_query(list(corpus.queries.values()), **options)
    pages = model.encode_document(list(corpus.corpus.values()), **options)
    return [rows.float().cpu() for rows in queries], [rows.float().cpu() for rows in pages]


before_queries, before_pages = embed(model, test)
print("one query:", tuple(before_queries[0].shape), " one page:", tuple(before_pages[0].shape))

# %% [markdown]
# ### MaxSim by hand
# `encode` returns a **list** of tensors, because queries and pages differ in length.
#
# For MaxSim, take the cosine of each token of the query with each patch of the page. Keep the largest for each token,
# and add these up. The library's `similarity` does this for all queries and pages at once. Are the two equal?


# %%
def maxsim(query, page):
    """The score of a query (tokens, d) and a page (patches, d), both with rows of length one."""
    cosines = query @ page.T
    return cosines.max(dim=1).values.sum()


few = before_queries[:5], before_pages[:20]
by_hand = torch.stack([torch.stack([maxsim(query, page) for page in few[1]]) for query in few[0]])
apart = (by_hand - model.similarity(*few)).abs().max().item()
run.record("maxsim/difference", apart)
print(f"{by_hand.numel()} scores, by hand and by the library: largest difference {apart:.0e}")

# %% [markdown]
# ### Exercise 1: where does a lead come from?
# The sum runs over the **query's** tokens, so a longer query tends to have larger scores. Compare the scores of two pages
# for one query, not those of two queries.
#
# A sum can be taken apart. For the first query, `right` is its page and `wrong` another page. Compute how much **each
# token** adds to the lead of `right` over `wrong`: a tensor with one number for each token. Their sum is the difference
# between the two scores.
#
# <details><summary>Hint</summary>
#
# `maxsim` without its last step gives each token's share of one page.
#
# </details>

# %%
query, right = before_queries[0], before_pages[page_ids.index(min(test.relevant[query_ids[0]]))]
wrong = before_pages[next(k for k, page in enumerate(page_ids) if page not in test.relevant[query_ids[0]])]
# <solution> stub: lead = ...
lead = (query @ right.T).max(dim=1).values - (query @ wrong.T).max(dim=1).values
# </solution>
expected = torch.stack([maxsim(token[None], right) - maxsim(token[None], wrong) for token in query])
tests = [
    (lambda a: len(a) == len(query), "give one number for each token of the query"),
    (
        lambda a: close(-a, expected, 1e-5) or close(a.sum(), expected.sum(), 1e-5),
        "their sum is not the lead",
    ),
    (lambda a: close(a, expected, 1e-5), "for each token, the best patch of each page; right minus wrong"),
]
check("the lead, token by token", lead, tests)

# %% [markdown]
# ## 3. Before
#
# The head is random. The layers below it come from the model that lesson 07 starts from, which finds most pages with
# one vector. Predict the NDCG@10 before training: near zero, about half, or nearly as good as with single vectors?


# %%
def ndcg(scores):
    """NDCG@10 of each query from its scores (queries, pages)."""
    best = scores.argsort(dim=1, descending=True, stable=True)[:, :10].tolist()
    rankings = [[page_ids[k] for k in row] for row in best]
    return np.array(
        [evaluation.ndcg_at_k(r, test.relevant[q]) for r, q in zip(rankings, query_ids, strict=True)]
    )


single_scores = single_queries @ single_pages.T
measured = {
    "single-vector": ndcg(single_scores),
    "before": ndcg(model.similarity(before_queries, before_pages)),
}
chance = evaluation.random_ceiling(query_ids, test.relevant, len(page_ids)).mean()
for name, values in measured.items():
    print(f"NDCG@10 {name:>14}: {evaluation.bootstrap(values)}")
means = {name: values.mean() for name, values in measured.items()}
print(f"NDCG@10 {'chance':>14}: {chance:.3f}")
share = means["before"] / means["single-vector"]
print(f"You saw {means['before']:.3f}, which is {share:.0%} of the single vectors' score.")

# %% [markdown]
# The head is random, and the layers below it were trained to collect what matters in the **last** token. How much single
# patches share with words depends on the model: the published one begins higher (section 5). In `tiny`, two of
# the three layers are gone, too. The next section trains head and layers.
#
# ## 4. Train
#
# The loss is that of lesson 06, with MaxSim in place of the cosine: the right page has to beat all other pages of the
# batch. Three settings differ from lesson 07, as in the [library's own
# example](https://github.com/huggingface/sentence-transformers/blob/main/examples/multi_vector_encoder/training/multimodal/training_visual_document_retrieval.py):
#
# - **The head's learning rate is ten times that of the rest.** It starts from random weights.
# - **`max_grad_norm=30`.** A gradient with a larger norm (length) is scaled down to 30. The default is 1. A sum of many
#   cosines has large gradients; after training, we print how many were above either bound.
# - **`scale=1.0`.** Lesson 07 multiplied cosines by 20. MaxSim is a sum of many cosines and is large enough by itself.

# %%
for name, parameter in model.named_parameters():  # in `tiny`, the image tower stays as it is
    if P.frozen and re.search(P.frozen, name):
        parameter.requires_grad_(False)
if P.lora:
    add_lora(model)
if P.fp16:
    model[1].float()  # the head is trained, and training in fp16 needs float32 weights

# %%
loss = losses.CachedMultiVectorMultipleNegativesRankingLoss(
    model, mini_batch_size=P.mini_batch_size, scale=1.0
)
args = MultiVectorEncoderTrainingArguments(
    output_dir=str(run.folder / "training"),
    num_train_epochs=P.epochs,
    per_device_train_batch_size=P.batch_size,
    learning_rate=P.learning_rate,
    learning_rate_mapping=P.word_rates | {r"^(model\.)?1\.linear": HEAD},
    max_grad_norm=30.0,
    warmup_steps=P.warmup,
    lr_scheduler_type="linear",
    bf16=P.bf16,
    fp16=P.fp16,
    batch_sampler="no_duplicates",
    save_strategy="no",
    logging_steps=0.05,
    seed=SEED,
    report_to="none",
)

# %%
trainer = MultiVectorEncoderTrainer(model=model, args=args, train_dataset=train_rows, loss=loss)
trainer.train()
model.to(getattr(torch, P.dtype))  # after training, all weights have one type again
run.record("steps", trainer.state.global_step)
norms = np.array([entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry])
print(f"{len(norms)} logged gradient norms, {norms.min():.1f} to {norms.max():.1f}:", end=" ")
print(f"{(norms > 1).sum()} above 1, {(norms > 30).sum()} above 30")
figure = plots.training_curve(trainer.state.log_history)
run.figure("training", figure, "Training loss of the late-interaction model by step.")
figure

# %% [markdown]
# ## 5. After, beside single vectors
#
# The library's `MultiVectorInformationRetrievalEvaluator` scores the dev queries, which no training saw. Dev has fewer
# pages, so it is easier than test. Predict for test: does late interaction beat the single vectors of lesson 07?

# %%
evaluator = MultiVectorInformationRetrievalEvaluator(
    dev.queries, dev.corpus, dev.relevant, name="dev", batch_size=P.eval_batch_size, ndcg_at_k=[10]
)
dev_score = evaluator(model)["dev_maxsim_ndcg@10"]
run.record("ndcg@10/dev", dev_score)
print(f"dev NDCG@10: {dev_score:.3f}, over {len(dev.corpus)} pages; test, over {len(page_ids)} pages:")
queries, pages = embed(model, test)
late_scores = model.similarity(queries, pages)
measured["after"] = ndcg(late_scores)
for name, values in measured.items():
    run.record(f"ndcg@10/{name}", evaluation.bootstrap(values))
    print(f"NDCG@10 {name:>14}: {evaluation.bootstrap(values)}")
gain = evaluation.paired_bootstrap(measured["before"], measured["after"])
versus = evaluation.paired_bootstrap(measured["single-vector"], measured["after"])
run.record("ndcg@10/gain", gain)
run.record("ndcg@10/against-single-vector", versus)
print("after minus before training:        ", gain)
print("late interaction minus single vector:", versus)
said = "better" if versus.low > 0 else "worse" if versus.high < 0 else "no difference is shown"
print(f"You saw late interaction against one vector a page, on these queries: {said}.")

# %% [markdown]
# Both differences are paired: the same queries, answered twice. Look at the second before you choose late interaction.
# In `tiny` it is not a fair comparison: late interaction has one layer of the language model, the single vectors have
# three.
#
# **Published** for the 2B model ([same
# example](https://github.com/huggingface/sentence-transformers/blob/main/examples/multi_vector_encoder/training/multimodal/training_visual_document_retrieval.py),
# 300 queries over 1,500 pages): late interaction 0.824 before and 0.928 after, with LoRA 0.916; single vectors 0.888
# before and 0.947 after. **There, single vectors score higher** (no interval is published). With other models and pages
# it can be the other way round, so measure on yours.
#
# ## 6. Heat maps: which patch matches which word?
#
# With many vectors you can **see** which patches a score comes from. `maxsim_heatmap` colours the page by its similarity
# to chosen tokens of the query: the lighter, the more similar. We take two parts of a query: the words for the
# **country** and those for the **topic**. The orange boxes show where the page's heading names them. We know that
# because these pages are drawn: `places.named` draws the page once more and keeps the box of each word.
#
# **Watch out**: the library's `get_n_patches` asks the processor, which does not know the pixel budget that we set. So
# we read the grid of patches from `preprocess`, which prepares what the model sees.


# %%
def grid_of(page):
    """Rows and columns of the patches that the model sees."""
    return tuple(int(side) // 2 for side in model.preprocess([page])["image_grid_thw"][0][1:])


def tokens_of(text, characters):
    """Which of the query's vectors belong to these characters of its text."""
    start = interpretability.real_query_token_slice(model, text).start  # after the chat template's tokens
    spans = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return [start + k for k, (a, b) in enumerate(spans) if a < characters[1] and b > characters[0]]


def heat(text, characters, query, page, image):
    """The page under the summed similarity of some of the query's tokens."""
    rows, columns = grid_of(image)
    return interpretability.maxsim_heatmap(
        image, query[tokens_of(text, characters)], page, n_patches=(columns, rows), aggregate="sum"
    )


# %%
def named(corpus, q):
    """The page that answers query `q`, and what both name, by part; without drawn pages, the whole query."""
    page = min(corpus.relevant[q])
    if P.drawn:
        return page, places.named(corpus.queries[q], page)
    return page, {"query": places.Named((0, len(corpus.queries[q])), [])}


images, captions = [], []
for k in (0, 1):
    page, parts = named(test, query_ids[k])
    image, text = test.image(page).convert("RGB"), test.queries[query_ids[k]]
    for part, truth in parts.items():
        seen = heat(text, truth.characters, queries[k], pages[page_ids.index(page)], image)
        images.append(places.with_boxes(seen, truth.boxes))
        words = text[slice(*truth.characters)]
        captions.append(f"{part}:\n“{words if len(words) < 25 else words[:22] + '…'}”")
figure = plots.pages_row(images, captions)
alt = "Pages under the heat of the words for country and topic, with boxes at the true places."
run.figure("heatmaps", figure, alt)
figure

# %% [markdown]
# Two pages prove nothing, so we count. For each test query and each of the two parts: does the **hottest patch**, the
# one most similar to these tokens, touch a true box? **Chance** is the share of patches that touch one. Predict: of 100
# hottest patches, how many will hit?


# %%
def hottest(query, page, tokens, columns):
    """The patch, as (row, column), that is most similar to these tokens of the query together."""
    return divmod(int((query[tokens] @ page.T).sum(dim=0).argmax()), columns)


def truths(corpus):
    """Query id, part, page, tokens, true patches and grid, for each part that query and page both name."""
    for q in corpus.queries if P.drawn else ():
        page, parts = named(corpus, q)
        rows, columns = grid_of(corpus.image(page))
        for part, truth in parts.items():
            places_there = places.touched(truth.boxes, rows, columns)
            yield q, part, page, tokens_of(corpus.queries[q], truth.characters), places_there, (rows, columns)


true_places = list(truths(test))
print(f"{len(true_places)} parts are named by one of {len(query_ids)} queries and by its page")

# %%
at_query, at_page = ({name: k for k, name in enumerate(names)} for names in (query_ids, page_ids))


def hits(queries, pages):
    """For each entry of `true_places`: does the hottest patch touch a true box?"""
    return np.array(
        [
            hottest(queries[at_query[q]], pages[at_page[page]], tokens, columns) in there
            for q, part, page, tokens, there, (_, columns) in true_places
        ],
        dtype=float,
    )


def by_query(values, part=""):
    """The mean of each query's parts, or its one part that is named; intervals are then over queries."""
    chosen = [k for k, (_, name, *_) in enumerate(true_places) if part in ("", name)]
    return pd.Series(values[chosen]).groupby([true_places[k][0] for k in chosen]).mean().to_numpy()


# %%
if P.drawn:
    after, before = hits(queries, pages), hits(before_queries, before_pages)
    by_chance = np.array([len(there) / (rows * columns) for *_, there, (rows, columns) in true_places])
    for part in ("", "country", "topic"):
        name = f"/{part}".rstrip("/")
        rate, untrained = (evaluation.bootstrap(by_query(values, part)) for values in (after, before))
        random_hits = by_query(by_chance, part).mean()
        run.record(f"heatmap/hit-rate{name}", rate)
        run.record(f"heatmap/before{name}", untrained)
        run.record(f"heatmap/chance{name}", random_hits)
        print(f"{part or 'both':>8}: {rate}; before training {untrained.mean:.3f}, chance {random_hits:.3f}")
    times = [by_query(values).mean() / by_query(by_chance).mean() for values in (after, before)]
    print(
        f"You saw {100 * by_query(after).mean():.0f} of 100 hottest patches hit, {times[0]:.1f} times chance."
    )
    print(f"Before training they hit {times[1]:.1f} times as often as chance.")

# %% [markdown]
# ### Exercise 2: a baseline that sees no page
# Is chance a hard baseline? Names stand in headings, and headings often stand in the same place. A baseline that looks
# at no page could always point there.
#
# Choose on the **dev** pages the one patch that lies in the most true places, as `(row, column)`. The cell then counts
# how often it hits on the test pages. Predict: more or less often than the heat map?
#
# <details><summary>Hint</summary>
#
# `dev_places` is a list of sets of patches. Count how many sets hold each patch; `collections.Counter` can do it.
#
# </details>

# %%
dev_places = [there for *_, there, _ in truths(dev)] or [{(0, 0)}]
# <solution> stub: fixed = ...
counts = pd.Series([patch for there in dev_places for patch in there]).value_counts()
fixed = counts.index[0]
# </solution>
found_in = {patch: sum(patch in there for there in dev_places) for patch in set().union(*dev_places)}
tests = [
    (lambda a: len(a) == 2, "give a patch as (row, column)"),
    (lambda a: tuple(a) in found_in, "this patch lies in no true place"),
    (lambda a: found_in[tuple(a)] == max(found_in.values()), "another patch lies in more true places"),
]
check("the fixed patch", fixed, tests)
best = max(sorted(found_in), key=found_in.get)
if P.drawn:
    blind = np.array([best in there for *_, there, _ in true_places], dtype=float)
    ahead = evaluation.paired_bootstrap(by_query(blind), by_query(after))
    run.record("heatmap/fixed-patch", evaluation.bootstrap(by_query(blind)))
    run.record("heatmap/against-fixed-patch", ahead)
    print(f"always patch {best}: {evaluation.bootstrap(by_query(blind))}")
    said = "more often" if ahead.low > 0 else "less often" if ahead.high < 0 else "not clearly more often"
    print(f"heat map minus fixed patch: {ahead}. You saw the heat map hit {said} than one fixed patch.")
    times = by_query(blind).mean() / by_query(by_chance).mean()
    print(f"The fixed patch hits {times:.1f} times as often as chance.")

# %% [markdown]
# So chance is an easy baseline: hits far above it do not show that a model reads the words. And a heat map is a hint, not
# a proof: through attention, a patch's vector can carry what stands elsewhere on the page.
#
# ## 7. What it costs, and two ways to pay less
#
# **Pooled tokens** ([Clavié et al. 2024](https://arxiv.org/abs/2409.14683)): `HierarchicalTokenPooling` groups
# similar patches of a page, and keeps each group's mean, scaled to length one. A factor of 4 keeps a quarter of the
# vectors. Nothing is trained or embedded again.
#
# **Two stages**: the single vectors find 50 candidates, and MaxSim orders only those.
#
# Predict: how much NDCG@10 do you lose if you keep a quarter of the vectors, and a sixteenth?

# %%
stored = {"after": pages}
for factor in (4, 16):
    pooling = modules.HierarchicalTokenPooling(pool_factor=factor, num_protected_tokens=0)
    stored[f"pooled-{factor}"] = pooling.pool(pages)
    measured[f"pooled-{factor}"] = ndcg(model.similarity(queries, stored[f"pooled-{factor}"]))
    change = evaluation.paired_bootstrap(measured["after"], measured[f"pooled-{factor}"])
    said = "a loss" if change.high < 0 else "a gain" if change.low > 0 else "no loss is shown"
    print(f"You saw, with one vector in {factor}: {change} ({said})")
size = {name: 2 * np.mean([rows.numel() for rows in kept]) for name, kept in stored.items()}  # float16
size["single-vector"] = 2 * single_pages.shape[1]
size["two-stage"] = size["single-vector"] + size["after"]

# %% [markdown]
# ### Exercise 3: two stages
# Complete the function. It takes the scores of both stages, each of shape (queries, pages), and returns a table of the
# same shape. In it, each query's `depth` best pages by `first` have their score from `second`, and all other pages have
# minus infinity.
#
# <details><summary>Hint</summary>
#
# `first.topk(depth).indices`, then `gather` from `second` and `scatter` into a table full of `-torch.inf`.
#
# </details>


# %%
def two_stages(first, second, depth):
    # <solution>
    kept = first.topk(depth, dim=1).indices
    return torch.full_like(second, -torch.inf).scatter(1, kept, second.gather(1, kept))
    # </solution>


small = torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[0.1, 0.2, 0.9]])
tests = [
    (lambda a: a.shape == small[1].shape, "return a table of the same shape"),
    (lambda a: a[0, 2] == -torch.inf, "a page that is not among the first stage's best gets minus infinity"),
    (lambda a: close(a[0, :2], small[1][0, :2]), "the kept pages have the score of the second stage"),
]
check("two stages", two_stages(*small, 2), tests)

# %% [markdown]
# [LanceDB](https://docs.lancedb.com/search/multivector-search) (lesson 10) can store many vectors in one row, and search
# them by MaxSim. Its distance should be the number of query tokens minus MaxSim. Does it find the same ten pages?

# %%
flat = torch.cat(pages).numpy()
vectors = pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1])
starts = pa.array(np.cumsum([0, *map(len, pages)]), pa.int32())  # where each page's vectors start
rows = pa.table({"page": page_ids, "vector": pa.ListArray.from_arrays(starts, vectors)})
table = lancedb.connect(str(run.folder / "index")).create_table("pages", rows, mode="overwrite")
shared, apart, asked, started = [], [], queries[:20], time.perf_counter()
for k, query in enumerate(asked):
    nearest = table.search(query.numpy()).distance_type("cosine").limit(10).select(["page", "_distance"])
    nearest = nearest.to_arrow()
    found_there = [at_page[page] for page in nearest["page"].to_pylist()]
    best = late_scores[k].topk(min(10, len(page_ids))).indices.tolist()
    shared.append(len(set(found_there) & set(best)) / len(best))
    by_library = late_scores[k][found_there].cpu().numpy()
    apart.append(np.abs(len(query) - nearest["_distance"].to_numpy() - by_library).max())
run.record("recall@10/lancedb", np.mean(shared))
run.record("seconds/query/lancedb", (time.perf_counter() - started) / len(asked))
print(f"LanceDB finds {np.mean(shared):.1%} of the library's first ten pages ({len(asked)} queries)")
print(f"tokens minus distance differs from MaxSim by {max(apart):.0e} at most")

# %%
depth = min(DEPTH, len(page_ids))
kept = single_scores.topk(depth, dim=1).indices
staged = torch.full_like(late_scores, -torch.inf).scatter(1, kept, late_scores.gather(1, kept))
measured["two-stage"] = ndcg(staged)
padded = {name: torch.nn.utils.rnn.pad_sequence(rows, batch_first=True) for name, rows in stored.items()}
searches = {"single-vector": lambda k: single_pages @ single_queries[k]}
for name, rows in padded.items():
    searches[name] = lambda k, rows=rows: model.similarity([queries[k]], rows)
first_stage = searches["single-vector"]
searches["two-stage"] = lambda k: model.similarity(
    [queries[k]], padded["after"][first_stage(k).topk(depth).indices]
)
seconds = {}
for name, search in searches.items():
    started = time.perf_counter()
    for k in range(min(20, len(query_ids))):
        search(k)
    seconds[name] = (time.perf_counter() - started) / min(20, len(query_ids))

# %%
table = {}
for name in ("single-vector", "after", "pooled-4", "pooled-16", "two-stage"):
    change = evaluation.paired_bootstrap(measured["after"], measured[name])
    run.record(f"ndcg@10/{name}", evaluation.bootstrap(measured[name]))
    run.record(f"ndcg@10/change/{name}", change)
    run.record(f"bytes/page/{name}", size[name])
    run.record(f"seconds/query/{name}", seconds[name])
    table[name] = {"NDCG@10": f"{measured[name].mean():.3f}", "minus MaxSim on all": str(change)}
    table[name] |= {"bytes a page": round(size[name]), "ms a query": round(1000 * seconds[name], 2)}
run.save()
said = "higher" if change.low > 0 else "lower" if change.high < 0 else "no difference is shown"
print(f"You saw two stages against MaxSim on all pages: {said}, {change}.")
times = {name: size[name] / size["single-vector"] for name in ("after", "pooled-4")}
print("times the bytes of one vector:", {name: round(share) for name, share in times.items()})
print(f"MaxSim on all pages takes {seconds['after'] / seconds['two-stage']:.1f} times as long as two stages.")
pd.DataFrame(table).T.rename({"after": "MaxSim on all pages"})

# %% [markdown]
# Bytes are counted in float16, and milliseconds without embedding the query. If an interval lies
# below zero, that saving costs score.
#
# Two stages can score **higher**: the first stage also leaves out wrong pages that MaxSim would rank too high. They store
# both kinds of vectors, so they save time, but not space.
#
# **On a GPU**, a page of `full` has up to 351 patches: 351 x 128 x 2 bytes are 90 KB, and a million pages take 90 GB.

# %% [markdown]
# ## Three questions
#
# **1.** A query has 8 tokens, a page 63 patches. How many cosines does MaxSim compute, and how many enter the sum?
#
# - a) 504 and 63 · b) 504 and 8 · c) 8 and 8
#
# <details><summary>Answer</summary>
#
# **b.** Each token meets each patch, 8 x 63 cosines, and keeps its largest. Not a: the sum runs over the query's tokens.
# Not c: to find the largest, you need all of them.
#
# </details>
#
# **2.** The hottest patch of “Chad” lies in the right place. What does that show?
#
# - a) the page was ranked first because of it · b) for this word, the most similar patch is in the right place ·
#   c) the model can read
#
# <details><summary>Answer</summary>
#
# **b.** Not a: the rank depends on all tokens and all other pages. Not c: one hit can be luck, so we counted against
# chance and against a fixed patch.
#
# </details>
#
# **3.** Suppose two stages score lower than MaxSim on all pages. Where did the right pages get lost?
#
# - a) in the first stage · b) in the second stage · c) in the pooling
#
# <details><summary>Answer</summary>
#
# **a.** The second stage uses the same scores as MaxSim on all pages, so only pages that the first stage left out are
# missing. Not b: it leaves out no page. Not c: nothing is pooled there.
#
# </details>

# %% [markdown]
# ## You have
# - computed MaxSim by hand, equal to the library's, and taken a lead apart token by token
# - turned an embedding model into a `MultiVectorEncoder` and trained it with the cached loss
# - compared it with single vectors on the same queries, with paired intervals, bytes and seconds
# - drawn which patch matches which word, and measured hits against chance and against a fixed patch
# - pooled tokens and searched in two stages, and read what each costs
#
# **Next**: lesson 12 applies the course to documents of your own.
