# %% [markdown]
# # 07 · Finetune Qwen3-VL-Embedding for visual document retrieval
#
# **You will be able to**
# - finetune a multimodal embedding model so that a text query finds the right page image
# - put a cached in-batch loss inside a Matryoshka loss, and say what each of the two is for
# - measure NDCG@10 before and after on pages that training never saw, with an interval for the gain
# - save the model without leaking the pages it was trained on
#
# **Time** tiny 5 min · t4 about 2 h · full about 3 h (the two on a GPU are estimates, not measured here)
#
# **Memory** tiny 2 GB · t4 16 GB of GPU memory · full 80 GB of GPU memory
#
# **Read first** nothing; lessons on loading, data and measuring go deeper into each step

# %% tags=["parameters"]
PROFILE = "tiny"
SEED = 0
ROWS = 0
RESUME = False
LORA = False

# %%
import re
import shutil

from course_utils.machine import quiet

quiet()  # drops library messages that ask nothing of you

import numpy as np
import torch
from datasets import Image, load_dataset
from peft import LoraConfig, PeftModel
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MatryoshkaLoss,
)
from sentence_transformers.sentence_transformer.training_args import (
    BatchSamplers,
    SentenceTransformerTrainingArguments,
)

from course_utils import evaluation
from course_utils import plots
from course_utils import finetuned
from course_utils.checkpoints import checkpoint, fingerprint
from course_utils.exercises import check
from course_utils.corpus import build_corpus, first_images
from course_utils.pages.dataset import build_documents
from course_utils.profiles import SHORTEST_EDGE, load_profile
from course_utils.recording import Run

P = load_profile(PROFILE)
rows = ROWS or P.train_rows
lora = LORA or P.lora
run = Run("07_finetune_qwen3_vl_embedding", profile=PROFILE, seed=SEED)

# %% [markdown]
# ## The task
#
# An analyst types *"looking for Chad's inflation"*. Somewhere among 1,500 scanned and printed pages is the one with
# that chart, and beside it are the pages that look just like it: Chad's other pages, and everybody else's inflation.
# Nothing is extracted from the pages, no text recognition runs: a model embeds each **page image** and the **query** as
# vectors of one space, and the page whose vector points most nearly in the query's direction wins.
#
# In `tiny`, pages are drawn from real figures (The World Factbook, 2015) the way statistical offices publish them.
# `build_documents` draws them the first time it runs, about two minutes, and finds them again afterwards. In `t4` and `full` the data is
# the published [visual document retrieval set](https://huggingface.co/datasets/tomaarsen/llamaindex-vdr-en-train-preprocessed);
# the columns are the same.

# %%
if P.dataset == "factbook":
    documents = build_documents()
    files = {"train": documents.train, "dev": documents.dev, "test": documents.test}
    data = load_dataset("parquet", data_files=files).with_format(None)
    train_data, dev_data, test_data = data["train"], data["dev"], data["test"]
else:
    train_data = load_dataset(P.dataset, "train", split="train")
    test_data = load_dataset(P.dataset, "eval", split="train")
    train_data, dev_data = train_data.train_test_split(min(60, len(train_data) // 4), seed=SEED).values()
print(train_data)

# %% [markdown]
# Each row is an **anchor** (the query), its **positive** (the page that answers it), and four **hard negatives**: here two
# pages of the same country on other topics, and two on the same topic from other countries. Look at one row, and decide
# which page you would return before you read the captions.

# %%
example = train_data[3]
columns = ["image", "negative_0", "negative_1", "negative_2", "negative_3"]
plots.pages_row([example[column] for column in columns], columns, title=f"query: “{example['query']}”")

# %% [markdown]
# ## 1. The model
#
# Three arguments decide more than they seem to:
#
# - `dtype`: unset means the checkpoint's own type. Stand-ins are stored in bfloat16; training on a CPU wants `float32`.
# - `attn_implementation`: `"sdpa"` runs everywhere.
# - the **pixel budget**: Qwen3-VL spends one token for every 32x32 pixels, so a page's area decides time and memory.
#
# `checkpoint` returns the folder of a stand-in after checking its SHA-256, or the Hub name as it is. Below it, a page as
# stored and as the model sees it. Can you still read the small title? What you cannot read at this size, no training will teach.

# %%
model = SentenceTransformer(
    checkpoint(P.embedder), model_kwargs={"dtype": P.dtype, "attn_implementation": P.attention}
)
size = {"shortest_edge": SHORTEST_EDGE, "longest_edge": P.longest_edge}
model[0].processing_kwargs |= {"image": {"size": size}}

features = model.preprocess([first_images(test_data, 1)[0]])
tokens = int(features["image_grid_thw"].prod() / 4)
print(model)
print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, {tokens} image tokens a page")

page = first_images(test_data, 1)[0].convert("RGB")
height, width = (int(side) * 16 for side in features["image_grid_thw"][0, 1:])
plots.pages_row(
    [page, page.resize((width, height))], [f"stored: {page.width}x{page.height}", f"seen: {width}x{height}"]
)

# %% [markdown]
# **Watch out**: the older `processor_kwargs={"max_pixels": …}` still works, warns, and then sticks to the saved tokenizer,
# where a later `size` is ignored without a word. Set `processing_kwargs` and print the token count, as above.
#
# ## 2. The evaluation: pages once, judgements merged
#
# The corpus is every page of the 300 test rows, positives and hard negatives. One page can stand in several rows. If each
# copy had an id of its own, a perfect model would be punished for returning the "wrong" copy, so `build_corpus` hashes the
# images, keeps each page once and merges the relevance judgements: `queries` (id to text), `corpus` (id to image) and
# `relevant` (query id to the ids of all pages that answer it).
#
# **NDCG@10** rewards a relevant page at rank r with 1 / log2(r + 1) and looks at ten ranks only. With one relevant page a
# query: rank 1 scores 1, rank 2 scores 0.63, rank 10 scores 0.29, rank 11 nothing.

# %%
test = build_corpus(test_data)
dev = build_corpus(dev_data)
evaluator = InformationRetrievalEvaluator(
    test.queries,
    test.corpus,
    test.relevant,
    name="test",
    batch_size=P.eval_batch_size,
    ndcg_at_k=[10],
    accuracy_at_k=[1],
    precision_recall_at_k=[1],
    mrr_at_k=[10],
    map_at_k=[10],
)
dev_evaluator = InformationRetrievalEvaluator(
    dev.queries,
    dev.corpus,
    dev.relevant,
    name="dev",
    batch_size=P.eval_batch_size,
    ndcg_at_k=[10],
    accuracy_at_k=[1],
    precision_recall_at_k=[1],
    mrr_at_k=[10],
    map_at_k=[10],
)
run.record("queries", len(test.queries))
run.record("pages", len(test.corpus))
print(
    f"{len(test.queries)} queries over {len(test.corpus)} pages; dev: {len(dev.queries)} over {len(dev.corpus)}"
)

# %% [markdown]
# ### Exercise 1: NDCG@10 of one query
# Complete the function for queries with exactly one relevant page, found at `rank` (1 is best).
#
# *Hint: `np.log2`, and mind what lies beyond rank 10.*


# %%
def ndcg_of_rank(rank: int) -> float:
    # <solution>
    return 1 / np.log2(rank + 1) if rank <= 10 else 0.0
    # </solution>


check(
    "NDCG@10 of one query",
    [ndcg_of_rank(rank) for rank in (1, 2, 10, 11)],
    [
        (lambda a: abs(a[0] - 1) < 1e-9, "a page at rank 1 should score exactly 1"),
        (
            lambda a: abs(a[1] - 0.6309) < 1e-3,
            "a page at rank 2 should score 0.63: look at the logarithm's base",
        ),
        (lambda a: abs(a[2] - 0.2891) < 1e-3, "a page at rank 10 still counts"),
        (lambda a: a[3] == 0, "ranks beyond 10 count nothing"),
    ],
)

# %% [markdown]
# ## 3. Before
#
# Embed every page once, at full dimension; all later questions (dimensions, slices, single queries) are slices of these
# arrays. Predict first: the base model was trained on *other* pages, layouts and wordings. Will it be near chance, halfway,
# or good?


# %%
def embed(model, corpus):
    """Unit vectors of all queries and all pages, in the order of the dictionaries."""
    options = {"batch_size": P.eval_batch_size, "convert_to_tensor": True, "show_progress_bar": True}
    query_vectors = model.encode_query(list(corpus.queries.values()), **options)
    page_vectors = model.encode_document(list(corpus.corpus.values()), **options)
    return query_vectors.float().cpu(), page_vectors.float().cpu()


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


before_queries, before_pages = embed(model, test)
before = scores(before_queries, before_pages, test)
library = evaluator(model, corpus_embeddings=before_pages)["test_cosine_ndcg@10"]
assert abs(library - before.mean()) < 1e-4, "our per-query scores and the library's evaluator disagree"
print("NDCG@10 before:", evaluation.bootstrap(before))

if P.dataset == "factbook":
    table = documents.side_table().loc[list(test.paths.values())].assign(page_id=list(test.paths))
    ceilings = {
        "chance": evaluation.random_ceiling(list(test.queries), test.relevant, len(test.corpus)),
        "country only": evaluation.country_only_ceiling(list(test.queries), test.relevant, table),
        "topic only": evaluation.topic_only_ceiling(list(test.queries), test.relevant, table),
    }
    for name, ceiling in ceilings.items():
        print(f"{name:>13}: {ceiling.mean():.3f}")
        run.record(f"ndcg@10/{name.replace(' ', '-')}", ceiling.mean())

# %% [markdown]
# The bracket is a 95% interval: how far the mean would move with another 300 queries like these. Our per-query scores agree
# with `InformationRetrievalEvaluator` (the assertion), and we need them query by query for slices and paired tests.
#
# The lines under it are what a reader would score who sees nothing, only the country's name, or only the topic, and guesses
# among the pages that share it.
#
# ## 4. The loss
#
# `MultipleNegativesRankingLoss` treats every *other* page of the batch as a negative: each row brings a positive and a hard
# negative, and each query has to pick its own positive out of all of them by a softmax over cosine similarities. More rows,
# harder choice, better model. But a plain loss holds the whole batch's activations in memory at once.
#
# The **cached** version computes all embeddings without gradients first, then the loss and its gradient for the *embeddings*,
# and last runs the model again in small pieces (`mini_batch_size`), handing each its share of the cached gradient. Same loss,
# same gradients, memory of one piece, and about a third more time. `mini_batch_size` changes no result; `batch_size` does.
#
# `MatryoshkaLoss` computes that loss also on the first 128, 64, … components, so that the vector's head works on its own and
# an index can keep a fraction of it.

# %%
loss = MatryoshkaLoss(
    model,
    CachedMultipleNegativesRankingLoss(model, mini_batch_size=P.mini_batch_size),
    matryoshka_dims=list(P.dimensions),
)

# %% [markdown]
# ### Exercise 2: how many pages compete?
# Each row here brings its query, its positive and **one** hard negative. For one query of a full batch, how many pages are in
# the softmax altogether, its own positive included?
#
# *Hint: the hard negatives of the other rows compete too. `P.batch_size` and `P.negatives` hold the values.*

# %%
# <solution> stub: candidates = ...
candidates = P.batch_size * (1 + P.negatives)
# </solution>
check(
    "pages in the softmax",
    candidates,
    [
        (lambda a: isinstance(a, int), "give a whole number"),
        (lambda a: a > P.batch_size, "you have counted the positives; every row also brings a hard negative"),
        (
            lambda a: a == P.batch_size * (1 + P.negatives),
            "count positives and hard negatives of all rows, once each",
        ),
    ],
)

# %% [markdown]
# ## 5. The data in the loss's columns, and the arguments
#
# The loss reads columns **by order, not by name**: anchor, positive, negatives. So select them in that order. Casting path
# columns to `Image()` makes the data set hand out decoded pages; nothing is read from disk before its batch needs it.
#
# - `learning_rate`, `warmup_steps`: a share of 0.1 of the steps warms up, then the rate falls in a line to zero.
# - `learning_rate_mapping`: other rates by parameter name. The stand-in's word table moves faster in `tiny`: finetuning's
#   queries use words that the base never had to tell apart.
# - `batch_sampler=NO_DUPLICATES`: the same page or query twice in a batch would be its own false negative.
# - `bf16`/`fp16`: compute type on a GPU. Both off on a CPU.
# - `eval_steps`: a pass over the 300 **dev** pages. Test pages are looked at twice: before and after.
# - `save_steps`, with `RESUME = True`: a stopped training goes on where it was.
#
# In `tiny` the **image tower stays frozen**: the base model reads these pages well, so what is left to learn is what the queries
# mean, and a CPU saves a third of each step. `t4` does not train it either.
#
# **On a GPU** `t4` (or `LORA = True`, anywhere) trains a **LoRA** adapter in fp16, see section 10; `full` trains all weights in
# bf16 with the published settings (2e-5, batch 64, 600x600 pixels).
#
# Predict, before you run the training: after how many steps will the dev score move?

# %%
chosen = ["query", "image", *(f"negative_{k}" for k in range(P.negatives))]
train_rows = train_data.shuffle(seed=SEED).select(range(min(rows, len(train_data)))).select_columns(chosen)
for column in chosen[1:]:
    train_rows = train_rows.cast_column(column, Image())


def add_adapter(model):
    """LoRA on the text side's attention: the model's weights freeze, rank-16 matrices beside them train, in float32."""
    model.add_adapter(LoraConfig(r=16, target_modules=r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj)"))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = (
                parameter.data.float()
            )  # it comes in the model's dtype: section 10 says why not in fp16


train_rows.features

# %%
for name, parameter in model.named_parameters():
    if P.frozen and re.search(P.frozen, name):
        parameter.requires_grad_(False)
if lora:
    add_adapter(model)

steps = -(-len(train_rows) // P.batch_size) * P.epochs
settings = f"{PROFILE}-{fingerprint(P.embedder)}-{len(train_rows)}-{SEED}{'-lora' * lora}"
every = -(-steps // P.evaluations)
folder = run.folder / "training" / settings
args = SentenceTransformerTrainingArguments(
    output_dir=str(folder),
    num_train_epochs=P.epochs,
    per_device_train_batch_size=P.batch_size,
    learning_rate=P.learning_rate,
    learning_rate_mapping=P.word_rates,
    warmup_steps=P.warmup,
    lr_scheduler_type="linear",
    bf16=P.bf16,
    fp16=P.fp16,
    batch_sampler=BatchSamplers.NO_DUPLICATES,
    eval_strategy="steps",
    eval_steps=every,
    save_strategy="steps",
    save_steps=every,
    save_total_limit=1,
    logging_steps=max(1, steps // 24),
    seed=SEED,
    report_to="none",
)
print(
    f"{len(train_rows)} rows, {steps} steps of {P.batch_size}; a dev evaluation and a checkpoint every {every} steps"
)

# %%
trainer = SentenceTransformerTrainer(
    model=model, args=args, train_dataset=train_rows, loss=loss, evaluator=dev_evaluator
)
dev_before = dev_evaluator(model)["dev_cosine_ndcg@10"]
if not RESUME:
    shutil.rmtree(folder, ignore_errors=True)
whole = [
    state.parent for state in folder.glob("checkpoint-*/trainer_state.json")
]  # this file is written last
newest = max(whole, key=lambda path: int(path.name.split("-")[1]), default=None)
trainer.train(resume_from_checkpoint=str(newest) if newest else None)

history = trainer.state.log_history
curve = [(0, dev_before)]
curve += [
    (entry["step"], entry["eval_dev_cosine_ndcg@10"])
    for entry in history
    if "eval_dev_cosine_ndcg@10" in entry
]
figure = plots.training_curve(history, curve)
run.figure("training", figure, "Training loss by step, falling, and NDCG@10 on the dev pages, rising.")
figure

# %% [markdown]
# The loss is a sum over all the dimensions, so its size says little; that it falls and that the **dev** score rises says
# that the model learns something which holds on pages it has not seen.
#
# ## 6. After

# %%
after_queries, after_pages = embed(model, test)
after = scores(after_queries, after_pages, test)
gain = evaluation.paired_bootstrap(before, after)
cut = evaluation.error_cut(before, after)
for when, values in (("before", before), ("after", after)):
    interval = evaluation.bootstrap(values)
    run.record_interval(f"ndcg@10/{when}", interval.mean, interval.low, interval.high)
    print(f"NDCG@10 {when:>6}: {interval}")
run.record_interval("ndcg@10/gain", gain.mean, gain.low, gain.high)
run.record_interval("ndcg@10/error-cut", cut.mean, cut.low, cut.high)
print(
    f"gain: {gain}   (paired: the same queries before and after)\nerror cut by {cut.mean:.0%} [{cut.low:.0%}, {cut.high:.0%}]"
)

# %% [markdown]
# The interval of the *gain* is what tells whether training helped: both models answered the same queries, so the luck of the
# draw of queries largely cancels. Published for the 2B model with this recipe, on 300 queries over 1,500 pages: 0.888 before, 0.947 after
# ([Sentence Transformers, training multimodal models](https://huggingface.co/blog/train-multimodal-sentence-transformers)). Different
# model, different pages: compare the recipe's *effect*, not the numbers.
#
# ### By slice
#
# A mean can hide a group that gained nothing. Were countries that finetuning never saw left behind? Scans? One form of chart?
# `unseen-wording` is a set of its own: queries in words that no training used.

# %%
slices = {"all": np.ones(len(before), bool)}
if P.dataset == "factbook":
    positive = table.loc[[row["image"] for row in test_data]]
    slices |= {"unseen-country": positive["unseen_country"].to_numpy(), "scan": positive["scan"].to_numpy()}
    slices |= {form: (positive["form"] == form).to_numpy() for form in sorted(positive["form"].unique())}
pairs = {
    name: (evaluation.bootstrap(before[mask]), evaluation.bootstrap(after[mask]))
    for name, mask in slices.items()
}
vectors = {
    "queries_before": before_queries,
    "pages_before": before_pages,
    "queries_after": after_queries,
    "pages_after": after_pages,
}
if P.dataset == "factbook":
    unseen = test.ask(load_dataset("parquet", data_files=documents.unseen, split="train"))
    base = SentenceTransformer(checkpoint(P.embedder), model_kwargs={"dtype": P.dtype})
    for when, asked_model in (("before", base), ("after", model)):
        vectors[f"unseen_{when}"] = asked_model.encode_query(
            list(unseen.queries.values()), convert_to_tensor=True
        )
    pairs["unseen-wording"] = tuple(
        evaluation.bootstrap(scores(vectors[f"unseen_{when}"], vectors[f"pages_{when}"], unseen))
        for when in ("before", "after")
    )
for name, (low, high) in pairs.items():
    if name != "all":
        run.record_interval(f"ndcg@10/before/{name}", low.mean, low.low, low.high)
        run.record_interval(f"ndcg@10/after/{name}", high.mean, high.low, high.high)
figure = plots.before_after(
    pairs, references={name: c.mean() for name, c in ceilings.items()} if P.dataset == "factbook" else None
)
run.figure(
    "before_after", figure, "NDCG@10 before and after finetuning, overall and by slice, with 95% intervals."
)
figure

# %% [markdown]
# Read it from the top: where the two intervals do not overlap, the gain is beyond doubt; a slice with a wide interval has few
# queries. `unseen-wording` is the hardest: this small model knows few words beyond those that it was asked with, and finetuning
# teaches it the course's. The published model has read the web.
#
# ## 7. Shorter vectors
#
# No page is embedded again: the first components of the same vectors are the shorter vectors.

# %%
by_dimension = {
    when: {d: evaluation.bootstrap(scores(q, p, test, d)) for d in P.dimensions}
    for when, q, p in (("before", before_queries, before_pages), ("after", after_queries, after_pages))
}
figure = plots.by_dimension(by_dimension["before"], by_dimension["after"])
run.figure(
    "by_dimension", figure, "NDCG@10 by number of vector components kept, before and after finetuning."
)
figure

# %% [markdown]
# ### Exercise 3: how short can the vectors be?
# Find the smallest dimension in `P.dimensions` whose `after` score keeps at least 95% of the full one's.
#
# *Hint: `by_dimension["after"][d].mean` is the score at `d` components; `P.dimensions[0]` is the full size.*

# %%
# <solution> stub: smallest = ...
full_score = by_dimension["after"][P.dimensions[0]].mean
smallest = min(d for d in P.dimensions if by_dimension["after"][d].mean >= 0.95 * full_score)
# </solution>
check(
    "the shortest good vector",
    smallest,
    [
        (lambda a: a in P.dimensions, "give one of the values of P.dimensions"),
        (
            lambda a: by_dimension["after"][a].mean >= 0.95 * by_dimension["after"][P.dimensions[0]].mean,
            "that one loses more than 5% of the score",
        ),
        (
            lambda a: all(
                by_dimension["after"][d].mean < 0.95 * by_dimension["after"][P.dimensions[0]].mean
                for d in P.dimensions
                if d < a
            ),
            "a shorter one still keeps 95%",
        ),
    ],
)

# %% [markdown]
# ## 8. Won and lost
#
# Figures persuade, pages explain. One query that training won, then the one that it lost most (or helped least).

# %%
won, lost = int(np.argmax(after - before)), int(np.argmin(after - before))
ids = list(test.queries)
top_before = evaluation.rankings(before_queries[[won, lost]], before_pages, list(test.corpus), k=5)
top_after = evaluation.rankings(after_queries[[won, lost]], after_pages, list(test.corpus), k=5)


def show(which, ranking, title):
    query_id = ids[which]
    return plots.gallery(
        test.queries[query_id], [test.image(p) for p in ranking], ranking, test.relevant[query_id], title
    )


display(show(won, top_before[0], f"won, before: {before[won]:.2f}"))
display(show(won, top_after[0], f"won, after: {after[won]:.2f}"))
display(
    show(
        lost,
        top_after[1],
        f"{'lost' if after[lost] < before[lost] else 'helped least'}, after: {after[lost]:.2f}",
    )
)

# %% [markdown]
# Look at *what* the wrong pages share with the right one: the country, the topic, or neither. That tells what to add to the
# training data next.
#
# ## 9. Save, and what saving gives away
#
# Every training checkpoint, and `save_pretrained` by default, writes a model card with examples: **real training pages** under
# `assets/`. Harmless here; with confidential documents it is a leak.

# %%
leaked = sorted(path.name for path in folder.glob("checkpoint-*/assets/*"))
print(f"training images in the checkpoint's model card: {len(leaked)}", leaked[:3])

final = run.folder / "model"
shutil.rmtree(final, ignore_errors=True)
model.save_pretrained(str(final), create_model_card=False)
assert not list(final.rglob("assets/*"))
print("saved without a card:", sorted(path.name for path in final.iterdir()))

again = SentenceTransformer(str(final), model_kwargs={"dtype": P.dtype})
some = list(test.queries.values())[:20]
difference = np.abs(again.encode_query(some) - model.encode_query(some)).max()
pages_again = again.encode_document(list(test.corpus.values())[:8], convert_to_tensor=True).float().cpu()
difference = max(difference, (pages_again - after_pages[:8]).abs().max().item())
run.record("reload/difference", difference)
finetuned.save_embeddings(
    run.folder / finetuned.FILE, P, list(test.queries), list(test.corpus), **vectors
)  # for other lessons
run.record("steps", trainer.state.global_step)
run.save()
del again
print(f"largest difference after reloading: {difference:.1e}")

# %% [markdown]
# ## 10. LoRA: train an adapter, keep an adapter
#
# Training all 2.13 B weights in bf16 takes four times their bytes (weights, gradients, AdamW's two moments): 17 GB, and
# activations. LoRA freezes them and trains two slim matrices beside each attention projection. `make full-size` computes
# which GPU holds what.
#
# Without an adapter so far, the next cell makes one and trains it for one step, with and without **activation checkpointing**
# under the cached loss. Predict: will the gradients agree? How large is a saved adapter? What does merging it into the weights
# change?


# %%
def load(name):
    loaded = SentenceTransformer(name, model_kwargs={"dtype": P.dtype, "attn_implementation": P.attention})
    loaded[0].processing_kwargs = model[0].processing_kwargs
    return loaded


def gradients(model, columns):
    model.zero_grad()
    CachedMultipleNegativesRankingLoss(model, mini_batch_size=min(4, P.mini_batch_size))(
        columns, labels=None
    ).backward()
    return torch.cat([p.grad.flatten().float() for p in model.parameters() if p.requires_grad])


if lora:
    adapted = model
else:
    adapted = load(checkpoint(P.embedder)).train()
    add_adapter(adapted)
    batch = train_rows[:8]
    columns = [
        {
            k: v.to(adapted.device) if torch.is_tensor(v) else v
            for k, v in adapted.preprocess(batch[name]).items()
        }
        for name in chosen
    ]
    adapted[
        0
    ].model.activation_checkpointing_enable()  # what activation_checkpointing=True in the arguments does
    checkpointed = gradients(adapted, columns)
    adapted[0].model.activation_checkpointing_disable()
    plain = gradients(adapted, columns)
    run.record("lora/checkpointing-difference", (plain - checkpointed).abs().max().item())
    run.record("lora/largest-gradient", plain.abs().max().item())
    torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-3).step()
    print(
        f"gradients: largest {plain.abs().max():.1e}, with checkpointing they differ by {(plain - checkpointed).abs().max():.1e}"
    )

# %%
adapter = run.folder / "adapter"
shutil.rmtree(adapter, ignore_errors=True)
adapted.save_pretrained(str(adapter), create_model_card=False)
weights = adapter / "adapter_model.safetensors"
assert not list(adapter.rglob("model*.safetensors")), "the frozen weights were saved, too"
reloaded = load(str(adapter)).encode_query(
    some
)  # one model at a time: on a small GPU there is no room for three
merged = load(checkpoint(P.embedder))
whole = sum(p.nbytes for p in merged.parameters())
ways = {"reloaded": reloaded, "base": merged.encode_query(some), "adapter": adapted.encode_query(some)}
merged[0].model = PeftModel.from_pretrained(merged[0].model, str(adapter)).merge_and_unload()  # W + BA
ways["merged"] = merged.encode_query(some)
largest = []
for layer in merged[0].model.language_model.layers:
    layer.register_forward_hook(lambda module, inputs, output: largest.append(output.abs().max().item()))
merged.encode_document(list(test.corpus.values())[:8])

size = weights.stat().st_size
print(f"{weights.name}: {size / 1e6:.2f} MB, {size / whole:.1%} of the model's {whole / 1e6:.0f} MB")
run.record("lora/bytes", size)
run.record("lora/model-bytes", whole)
for name in ("base", "reloaded", "merged"):
    run.record(f"lora/difference/{name}", np.abs(ways[name].astype(float) - ways["adapter"]).max())
    print(
        f"{name:>9}: vectors differ from the adapter's by at most {run.metrics[f'lora/difference/{name}']:.1e}"
    )
run.record("lora/largest-activation", max(largest))
run.save()
print(
    f"largest activation between layers: {max(largest):.0f}, fp16 ends at {torch.finfo(torch.float16).max:,.0f}"
)

# %% [markdown]
# The folder holds the adapter and the *name* of its base (`adapter_config.json`): share both. Reloaded it is identical; merged,
# equal up to rounding. A merged model is saved whole.
#
# **Watch out**: a T4 is fast in fp16 only, whose numbers end at 65,504 (bf16: 3e38); see the last line. Gradients
# below 6e-8 vanish, so `fp16=True` scales the loss up, and its scaler takes no fp16 parameters: "Attempting to unscale FP16
# gradients." So `add_adapter` casts to float32. Reloaded in fp16, it is rounded to three digits.

# %% [markdown]
# ## You have
# - finetuned a multimodal embedding model, and seen a query find its page among look-alikes
# - put `CachedMultipleNegativesRankingLoss` inside `MatryoshkaLoss`: many negatives in little memory, vectors that can be cut
# - measured NDCG@10 before and after on unseen pages, with an interval for the gain and by slice
# - saved the model without its training pages, reloaded it, and checked that it gives the same vectors; an adapter, too
#
# **Next**: set `PROFILE = "full"` on a GPU and run the same cells on the published 2B model, or go on to lesson 08, which takes
# the figures of this one apart.
