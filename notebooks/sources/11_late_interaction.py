# %% [markdown]
# # 11 · Late interaction
#
# **You will be able to**
# - compute MaxSim by hand, and say which token of the query a score comes from
# - turn an embedding model into a `MultiVectorEncoder`, and train it with the cached loss
# - compare it with single vectors on the same queries: score, bytes a page, seconds a query
# - draw which patch answers which word, and measure how often it is the right place
# - make it cheaper: pooled tokens and two stages
#
# **Time** tiny 6 min · t4 about 3 h · full about 4 h (estimates on a GPU)
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
from PIL import ImageDraw
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
HEAD = 10 * P.learning_rate  # the fresh head learns at ten times the rate
LAYERS = 1 if P.drawn else None  # of the language model's layers, the first that stay; None: all
DEPTH = 50  # candidates of the first stage
run = Run("11_late_interaction", profile=PROFILE, seed=SEED)

# %% [markdown]
# ## 1. One vector or many
#
# Lesson 07's model squeezes a whole page into **one vector**. **Late interaction**
# ([ColBERT](https://arxiv.org/abs/2004.12832) for text, [ColPali](https://arxiv.org/abs/2407.01449) for pages) keeps
# **one vector for each token**: of the query, its word pieces; of the page, its patches of 32x32 pixels. Query and page
# are still embedded apart. They meet late, in the score, which is called **MaxSim**.
#
# ![Above, one vector: query and page become one vector each, and one cosine is the score. Below, late interaction: each
# token of the query and each patch of the page keeps its vector; each token takes its best patch, and the sum is the
# score](images/11_late_interaction.svg)
#
# This lesson asks two questions: **what does that gain, and what does it cost?** The single vectors to compare with are
# those of lesson 07: your own if you have run it here, or those that come with the course, labelled **precomputed**.

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
# embedding model, drops its pooling, and adds a **head**: `Dense` to 128 dimensions with random weights, applied to
# each token.
#
# A page also has tokens that are no patches: the frame of the chat message. We score **patches only**.
#
# In `tiny` we keep only the first of the language model's three layers, because each layer mixes all patches into every
# token: in our trials on dev, with all three, the heat maps of section 6 hit no more often than chance. In `t4` and
# `full` all layers stay.

# %%
torch.manual_seed(SEED)  # draws the head
kwargs = {"dtype": P.dtype, "attn_implementation": P.attention}
model = MultiVectorEncoder(checkpoint(P.embedder), model_kwargs=kwargs)
model[0].processing_kwargs |= {"image": {"size": P.pixels}}
image_token = model.tokenizer.convert_tokens_to_ids(model.processor.image_token)
model[2].keep_only_token_ids = [image_token]
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
# `encode` returns a **list**, because queries and pages differ in length; it takes no `convert_to_tensor`.
#
# Take the cosine of each token with each patch. Keep the largest of each token. Add them up. The library's
# `similarity` does this for all queries and pages at once. Are the two equal?


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
# The sum runs over the **query's** tokens, so a longer query has larger scores: you can compare pages under one query,
# but not two queries.
#
# A sum can be taken apart. For the first query, `right` is its page and `wrong` a hard negative. Compute how much
# **each token** adds to the lead of `right` over `wrong`: a tensor with one number a token. Together they are the
# difference of the two scores.
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
expected = (query @ right.T).amax(1) - (query @ wrong.T).amax(1)
tests = [
    (lambda a: len(a) == len(query), "give one number for each token of the query"),
    (
        lambda a: close(-a, expected, 1e-5) or close(a.sum(), expected.sum(), 1e-5),
        "their sum is not the lead",
    ),
    (lambda a: close(a, expected, 1e-5), "each token takes its best patch of either page; mind the sign"),
]
check("the lead, token by token", lead, tests)

# %% [markdown]
# ## 3. Before
#
# The head is random. The layers under it come from lesson 07's starting point, which finds most pages. Predict the
# NDCG@10 before training: near zero, about half, or nearly as good as with single vectors?


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
print(f"You saw {means['before'] / means['single-vector']:.0%} of the single vectors' score.")

# %% [markdown]
# Two things are missing. The head is random, and the layers under it were trained to put the answer into the **last**
# token: no training asked their patches to be comparable with words. The next section teaches both.
#
# ## 4. Train
#
# The loss is that of lesson 06 with MaxSim in place of the cosine: the right page against all other pages of the batch.
# Three settings differ from lesson 07, as in the [library's own
# example](https://github.com/huggingface/sentence-transformers/blob/main/examples/multi_vector_encoder/training/multimodal/training_visual_document_retrieval.py):
#
# - **The head's rate is ten times that of the rest.** It starts from nothing.
# - **`max_grad_norm=30`.** Gradients longer than this are cut. A sum of many cosines makes long ones, and the default
#   of 1 would shrink the steps. The cell after next prints the lengths.
# - **`scale=1.0`.** Cosines were multiplied by 20. MaxSim is a sum of many cosines and large enough by itself.
#
# Afterwards the library's `MultiVectorInformationRetrievalEvaluator` scores the dev pages, which no training saw.

# %%
for name, parameter in model.named_parameters():
    if P.frozen and re.search(P.frozen, name):
        parameter.requires_grad_(False)
if P.lora:
    add_lora(model)
if P.fp16:
    model[1].float()  # the head trains, too, and the scaler of fp16 takes float32 only

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
model.to(getattr(torch, P.dtype))  # outside training, all weights have one type
run.record("steps", trainer.state.global_step)
norms = [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry]
print(f"gradient norms, where they were logged: {min(norms):.1f} to {max(norms):.1f}")
evaluator = MultiVectorInformationRetrievalEvaluator(
    dev.queries, dev.corpus, dev.relevant, name="dev", batch_size=P.eval_batch_size, ndcg_at_k=[10]
)
dev_score = evaluator(model)["dev_maxsim_ndcg@10"]
run.record("ndcg@10/dev", dev_score)
print(f"dev NDCG@10: {dev_score:.3f}")
figure = plots.training_curve(trainer.state.log_history)
run.figure("training", figure, "Training loss of the late-interaction model by step.")
figure

# %% [markdown]
# ## 5. After, beside single vectors

# %%
queries, pages = embed(model, test)
late_scores = model.similarity(queries, pages)
measured["after"] = ndcg(late_scores)
gains = {"gain": ("before", "after"), "against-single-vector": ("single-vector", "after")}
for name, values in measured.items():
    run.record(f"ndcg@10/{name}", evaluation.bootstrap(values))
    print(f"NDCG@10 {name:>14}: {evaluation.bootstrap(values)}")
gains = {name: evaluation.paired_bootstrap(*(measured[k] for k in pair)) for name, pair in gains.items()}
for name, change in gains.items():
    run.record(f"ndcg@10/{name}", change)
print("training, after minus before:      ", gains["gain"])
print("late interaction minus single vector:", gains["against-single-vector"])
verdict = gains["against-single-vector"]
better = "better" if verdict.low > 0 else "worse" if verdict.high < 0 else "not clearly different"
print(f"On these queries late interaction is {better} than one vector a page.")

# %% [markdown]
# The second difference is paired: both models answered the same queries. Look at that line before you choose late
# interaction because it is finer. (In `tiny` it compares one layer with three.)
#
# **Published** for the 2B model ([same
# example](https://github.com/huggingface/sentence-transformers/blob/main/examples/multi_vector_encoder/training/multimodal/training_visual_document_retrieval.py),
# 300 queries over 1,500 pages): late interaction 0.824 before and 0.928 after, with LoRA 0.916; single vectors 0.888
# before and 0.947 after. **There, single vectors win.** Other models and other pages can turn that round; measure on
# yours.
#
# ## 6. Heat maps: which patch answers which word?
#
# With many vectors you can **see** why a page matched. `maxsim_heatmap` lays the similarity of chosen query tokens over
# the page: the lighter, the more alike. We take two parts of a query: the words for the **country** and those for the
# **topic**. The boxes show where the page really names them. We know that because the pages are drawn here:
# `places.named` draws the page once more and keeps the box of each word.
#
# **Watch out**: the library's `get_n_patches` asks the processor, which does not know the pixel budget that we set. So
# we read the grid from `preprocess`: it is what the model saw.


# %%
def grid_of(page):
    """Rows and columns of the patches that the model sees."""
    return tuple(int(side) // 2 for side in model.preprocess([page])["image_grid_thw"][0][1:])


def tokens_of(text, characters):
    """Where in the query's vectors the tokens of these characters stand."""
    start = interpretability.real_query_token_slice(model, text).start  # behind the frame of the message
    spans = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return [start + k for k, (a, b) in enumerate(spans) if a < characters[1] and b > characters[0]]


# %%
def heat(text, characters, query, page, image):
    """The page under the summed similarity of some of the query's tokens."""
    rows, columns = grid_of(image)
    return interpretability.maxsim_heatmap(
        image, query[tokens_of(text, characters)], page, n_patches=(columns, rows), aggregate="sum"
    )


def with_boxes(image, boxes):
    """The image with boxes, given in shares of its width and height."""
    image = image.convert("RGB")
    for x0, y0, x1, y1 in boxes:
        corners = [x0 * image.width, y0 * image.height, x1 * image.width, y1 * image.height]
        ImageDraw.Draw(image).rectangle(corners, outline="#D55E00", width=3)
    return image


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
        images.append(with_boxes(seen, truth.boxes))
        words = text[slice(*truth.characters)]
        captions.append(f"{part}:\n“{words if len(words) < 25 else words[:22] + '…'}”")
figure = plots.pages_row(images, captions)
alt = "Pages under the heat of the words for country and topic, with boxes at the true places."
run.figure("heatmaps", figure, alt)
figure

# %% [markdown]
# Two pages prove nothing. So we count: for every test query and each of the two parts, does the **hottest patch** touch
# one of the true boxes? Predict: of 100 hottest patches, how many will? A random patch would hit about as often as
# boxes cover patches; that is **chance**.


# %%
def touched(boxes, rows, columns):
    """The patches, as (row, column), that some box reaches into by an eighth of a patch or more."""
    found, edge = set(), 1 / 8
    for x0, y0, x1, y1 in boxes:
        down = range(int(y0 * rows + edge), min(rows - 1, int(y1 * rows - edge)) + 1)
        across = range(int(x0 * columns + edge), min(columns - 1, int(x1 * columns - edge)) + 1)
        found |= {(row, column) for row in down for column in across}
    return found


def hottest(query, page, tokens, columns):
    """The patch, as (row, column), that is most similar to these tokens of the query together."""
    return divmod(int((query[tokens] @ page.T).sum(dim=0).argmax()), columns)


# %%
def truths(corpus):
    """Query id, part, its tokens, its true patches and the grid, for all parts that query and page name."""
    for q in corpus.queries if P.drawn else ():
        page, parts = named(corpus, q)
        rows, columns = grid_of(corpus.image(page))
        for part, truth in parts.items():
            places_there = touched(truth.boxes, rows, columns)
            yield q, part, page, tokens_of(corpus.queries[q], truth.characters), places_there, (rows, columns)


true_places = list(truths(test))

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
    print(f"You saw {times[0]:.1f} times chance, and {times[1]:.1f} times before training.")

# %% [markdown]
# ### Exercise 2: a pointer that sees nothing
# Is chance a fair opponent? Names stand in headings, and headings often stand in the same place. Somebody who looks at
# no page at all could always point there.
#
# Choose on the **dev** pages the one patch that lies in the most true places, as `(row, column)`. The cell then counts
# how often it hits on test.
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
most = max(sum(patch in there for there in dev_places) for patch in set().union(*dev_places))
tests = [
    (lambda a: len(a) == 2, "give a patch as (row, column)"),
    (lambda a: sum(tuple(a) in there for there in dev_places) > 0, "that patch lies in no true place"),
    (
        lambda a: sum(tuple(a) in there for there in dev_places) == most,
        "another patch lies in more true places",
    ),
]
check("the fixed patch", fixed, tests)
best = max(sorted(set().union(*dev_places)), key=lambda patch: sum(patch in there for there in dev_places))
if P.drawn:
    blind = np.array([best in there for *_, there, _ in true_places], dtype=float)
    ahead = evaluation.paired_bootstrap(by_query(blind), by_query(after))
    run.record("heatmap/fixed-patch", evaluation.bootstrap(by_query(blind)))
    run.record("heatmap/against-fixed-patch", ahead)
    print(f"always patch {best}: {evaluation.bootstrap(by_query(blind))}")
    said = "knows more" if ahead.low > 0 else "knows less" if ahead.high < 0 else "does not clearly know more"
    print(f"heat map minus fixed patch: {ahead}: the heat map {said} than where headings usually stand.")

# %% [markdown]
# So chance is an easy opponent, and a figure "times chance" alone does not show that a heat map reads. A heat map is an
# indication, not a proof: a patch's vector has passed through attention, so it can carry what stands elsewhere on the
# page.
#
# ## 7. What it costs, and two ways to pay less
#
# **Pooled tokens** ([Clavié et al. 2024](https://arxiv.org/abs/2409.14683)): `HierarchicalTokenPooling` joins the
# patches of a page whose vectors are alike, and keeps the mean of each group. A factor of 4 keeps a quarter of the
# vectors. Nothing is trained or embedded again.
#
# **Two stages**: one vector a page finds 50 candidates, and MaxSim orders those.
#
# Predict: what does a quarter of the vectors cost in NDCG@10, and what a sixteenth?

# %%
stored = {"after": pages}
for factor in (4, 16):
    pooling = modules.HierarchicalTokenPooling(pool_factor=factor, num_protected_tokens=0)
    stored[f"pooled-{factor}"] = pooling.pool(pages)
    measured[f"pooled-{factor}"] = ndcg(model.similarity(queries, stored[f"pooled-{factor}"]))
size = {name: 2 * np.mean([rows.numel() for rows in kept]) for name, kept in stored.items()}  # float16
size["single-vector"] = 2 * single_pages.shape[1]
size["two-stage"] = size["single-vector"] + size["after"]

# %% [markdown]
# ### Exercise 3: two stages
# Complete the function. It takes both score tables, of shape (queries, pages), and returns one in which each query's
# `depth` best pages by `first` keep their score of `second`, and all others have minus infinity.
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
    (lambda a: a[0, 2] == -torch.inf, "a page outside the first stage's best must not come back"),
    (lambda a: close(a[0, :2], small[1][0, :2]), "the kept pages have the score of the second stage"),
]
check("two stages", two_stages(*small, 2), tests)

# %% [markdown]
# [LanceDB](https://docs.lancedb.com/search/multivector-search) (lesson 10) stores many vectors in one row, and searches
# them by MaxSim: its distance is the number of query tokens minus MaxSim. Is its order that of the library?

# %%
flat = torch.cat(pages).numpy()
vectors = pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1])
starts = pa.array(np.cumsum([0, *map(len, pages)]), pa.int32())  # where each page's vectors start
rows = pa.table({"page": page_ids, "vector": pa.ListArray.from_arrays(starts, vectors)})
table = lancedb.connect(str(run.folder / "index")).create_table("pages", rows, mode="overwrite")
shared, asked, started = [], queries[:20], time.perf_counter()
for k, query in enumerate(asked):
    nearest = table.search(query.numpy()).distance_type("cosine").limit(10).select(["page", "_distance"])
    best = late_scores[k].topk(min(10, len(page_ids))).indices.tolist()
    shared.append(len(set(nearest.to_arrow()["page"].to_pylist()) & {page_ids[n] for n in best}) / len(best))
run.record("recall@10/lancedb", np.mean(shared))
run.record("seconds/query/lancedb", (time.perf_counter() - started) / len(asked))
print(f"LanceDB finds {np.mean(shared):.1%} of the library's first ten pages ({len(asked)} queries)")

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
times = {name: size[name] / size["single-vector"] for name in ("after", "pooled-4")}
print(f"all patches: {times['after']:.0f} times the bytes of one vector; a quarter: {times['pooled-4']:.0f}")
for factor in (4, 16):
    print(f"You saw {table[f'pooled-{factor}']['minus MaxSim on all']} with a factor of {factor}.")
pd.DataFrame(table).T

# %% [markdown]
# Bytes are those of float16. The milliseconds are for scoring only; embedding the query costs the same in all rows.
# Read the changes with their intervals: they tell which saving is free on these queries, and which is not. Two stages
# store both kinds of vectors, so they save time and not space. Neither is chosen here: we report all of them.
#
# **On a GPU**, a page of `full` has up to 351 patches: 351 x 128 x 2 bytes are 90 KB, and a million pages 90 GB. Pooling
# and two stages are then the usual way.

# %% [markdown]
# ## Three questions
# Answer from memory, then unfold.
#
# **1.** A query has 8 tokens, a page 63 patches. How many cosines does MaxSim compute, and how many enter the sum?
#
# - a) 504 and 63 · b) 504 and 8 · c) 8 and 8
#
# <details><summary>Answer</summary>
#
# **b.** Each token meets each patch, 8 x 63, and each token keeps its best. Not a: the sum runs over the query's tokens.
# Not c: to find the best patch you need them all.
#
# </details>
#
# **2.** The hottest patch of “Chad” lies in the right place. What does that show?
#
# - a) the page was ranked first because of it · b) for this word the vectors point at the right place ·
#   c) the model reads
#
# <details><summary>Answer</summary>
#
# **b.** Not a: the rank depends on all tokens and all other pages. Not c: one hit can be luck, so we counted against
# chance and against a fixed patch.
#
# </details>
#
# **3.** Two stages score lower than MaxSim on all pages. Where were the lost pages lost?
#
# - a) in the first stage · b) in the second stage · c) in the pooling
#
# <details><summary>Answer</summary>
#
# **a.** The second stage has the same scores as MaxSim on all pages. So only a page that the first stage left out can be
# missing. Not c: nothing is pooled there.
#
# </details>

# %% [markdown]
# ## You have
# - computed MaxSim by hand, equal to the library's, and taken a lead apart token by token
# - turned an embedding model into a `MultiVectorEncoder` and trained it with the cached loss
# - compared it with single vectors on the same queries, with paired intervals, bytes and seconds
# - drawn which patch answers which word, and measured hits against chance and against a fixed patch
# - pooled tokens and searched in two stages, and read what each costs
#
# **Next**: lesson 12 brings all of it to documents of your own.
