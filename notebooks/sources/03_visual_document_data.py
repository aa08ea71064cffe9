# %% [markdown]
# # 03 · Visual document data
#
# **You will be able to**
# - order the columns of a data set so that the loss reads them as you mean
# - follow one row through the collator to tensors, and name each shape
# - store page images at the size that the model reads
# - find pages that occur twice, and dev pages that are also in training
# - mine hard negatives, remove the false ones, and measure what mining gains
#
# **Time** tiny 2 min · t4 about 30 min · full about 40 min (the two on a GPU are estimates, not measured here)
#
# **Learning time** about 40 min
#
# **Memory** tiny 3 GB · t4 16 GB of GPU memory · full 80 GB of GPU memory
#
# **Read first** lesson 01, for pixels and tokens

# %% tags=["parameters"]
PROFILE = "tiny"
SEED = 0
ROWS = 0

# %%
from course_utils.machine import device, quiet

quiet()  # drops library messages that ask nothing of you

import re
import time
from hashlib import sha256
from pathlib import Path

import pandas as pd
import torch
from datasets import Dataset, Image, disable_caching, disable_progress_bars, load_dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers import SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.util import mine_hard_negatives

from course_utils import evaluation, plots
from course_utils.adapters import add_lora
from course_utils.checkpoints import checkpoint
from course_utils.corpus import build_corpus
from course_utils.dataset import prepare_dataset
from course_utils.exercises import check
from course_utils.profiles import load_profile
from course_utils.recording import Run

# %%
P = load_profile(PROFILE)
run = Run("03_visual_document_data", profile=PROFILE, seed=SEED)
run.folder.mkdir(parents=True, exist_ok=True)
torch.manual_seed(SEED)
disable_progress_bars()  # only those of the library datasets
disable_caching()  # so that a second run measures the same work as the first

# %% [markdown]
# ## 1. The columns
#
# The published [data set](https://huggingface.co/datasets/tomaarsen/llamaindex-vdr-en-train-preprocessed)
# (`t4`, `full`) and ours (`tiny`) have the same columns: a **query**, the **image** of a page that answers
# it, and four **hard negatives**, pages that look similar but do not answer it. The data comes in **splits**
# that must share no page: **train** for learning and **dev** for decisions. Lesson 04 uses the third,
# **test**.

# %%
dataset = prepare_dataset(P)
train_data = load_dataset(dataset, "train", split=P.train_split)
dev_data = load_dataset(dataset, P.dev_config, split=P.dev_split)
rows = train_data.shuffle(seed=SEED).select(range(min(ROWS or 256, len(train_data))))
print(rows)
row = rows[0]
columns = [name for name in rows.column_names if name != "query"]
plots.pages_row([row[name] for name in columns], columns, title=row["query"])

# %% [markdown]
# ## 2. The column rule
#
# Training takes rows in small groups, **batches**. The
# [loss](https://sbert.net/docs/package_reference/sentence_transformer/losses.html) is high if queries do not
# find their own pages among all pages of the batch. It reads the order of the columns, not their names:
# **the first column is the anchor, the second the positive, all others are negatives**. Training pulls
# the anchor towards its positive and away from negatives. As labels, only the first column called `label`,
# `labels`, `score` or `scores` is taken out.
#
# ![query, image, negative_0 go through the collator to anchor, positive, negative](images/03_columns.svg)
#
# The **collator** turns each column of a batch into a dictionary of tensors. The next cells build what the
# [trainer](https://sbert.net/docs/sentence_transformer/training_overview.html) gives to the loss, for one
# good data set and four broken ones. **Predict** for each broken one: an error, a warning, or neither?


# %%
def load_model(frozen=""):
    """The embedding model; parameters whose name matches `frozen` are not trained."""
    kwargs = {"dtype": P.dtype, "attn_implementation": P.attention}
    model = SentenceTransformer(checkpoint(P.embedder), device=device(), model_kwargs=kwargs)
    model[0].processing_kwargs |= {"image": {"size": P.pixels}}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not (frozen and re.search(frozen, name)))
    model.model_card_data.widget = [{}]  # not empty, or the trainer decodes pages for the model card
    return model


model = load_model()
silent = {"report_to": "none", "disable_tqdm": True, "save_strategy": "no", "dataloader_pin_memory": False}


def first_batch(data):
    """What the trainer would hand to the loss: one dictionary of features for each column, and labels."""
    arguments = SentenceTransformerTrainingArguments(
        str(run.folder / "trainer"), per_device_train_batch_size=4, **silent
    )
    loss = losses.MultipleNegativesRankingLoss(model)
    trainer = SentenceTransformerTrainer(model, arguments, data, loss=loss)
    return trainer.collect_features(next(iter(trainer.get_train_dataloader())))


# %%
good = rows.select(range(8)).select_columns(["query", "image", "negative_0"])
broken = {
    "as-it-should-be": good,
    "image-before-query": good.select_columns(["image", "query", "negative_0"]),
    "a-stray-column": good.add_column("country", ["Chad"] * len(good)),
    "a-column-called-label": good.add_column("label", [1.0] * len(good)),
    "images-not-decoded": good.cast_column("image", Image(decode=False)),
}
for what, data in broken.items():
    torch.manual_seed(SEED)  # the same rows each time
    try:
        features, labels = first_batch(data)
        with torch.no_grad():
            loss = losses.MultipleNegativesRankingLoss(model)(features, labels).item()
        labels = None if labels is None else labels.tolist()
        print(f"{what}: {len(features)} columns reach the loss, labels {labels}, loss {loss:.4f}")
        run.record(f"columns/{what}", len(features))
    except ValueError as error:
        print(f"{what}: ValueError: {str(error)[:120]}")

# %% [markdown]
# You saw one error and one warning; the other two pass without either.
#
# - **Image before query**: pages now act as queries. The library warns only because it knows the name
#   `query`.
# - **A stray column** is embedded as one more negative, here the word "Chad". That costs time in every step.
# - **`label`** is taken out, and this loss ignores it.
# - **Undecoded images** raise an error.
#
# So select the columns by name, in the right order, just before training.

# %% [markdown]
# ### Exercise 1: break it without a warning
# Choose three of the row's columns in an order that makes a **wrong** page the positive and the right page a
# negative, with no error and no warning. Then say why the library cannot see it:
#
# - `"a"`: it looks at a few known names only, and none of them is out of place
# - `"b"`: it compares the page with the query, and the two look alike
# - `"c"`: the loss is low, so no warning is due
#
# <details><summary>Hint</summary>
#
# The anchor has to stay a query. Which column holds the page that is pulled towards it?
#
# </details>

# %%
# <solution> stub: three_columns, reason = ..., ...
three_columns, reason = ["query", "negative_0", "image"], "a"
# </solution>

few = rows.select(range(8))
check(
    "break it without a warning",
    [three_columns, reason],
    [
        (lambda a: len(a[0]) == len({*a[0]} & {*rows.column_names}) == 3, "choose three different columns"),
        (lambda a: a[0][0] == "query", "the first column must stay the query"),
        (lambda a: a[0][1] != "image", "the page in the second column still answers the query"),
        (lambda a: "image" in a[0], "the right page has to become a negative"),
        (lambda a: len(first_batch(few.select_columns(a[0]))[0]) == 3, "three columns must reach the loss"),
        (lambda a: a[1] == "a", "the library never compares contents, and it warns before it has a loss"),
    ],
)

# %% [markdown]
# ## 3. From a row to tensors
#
# The trainer hands the rows of a batch to the collator, which gives each column to `model.preprocess`. We do
# the same with one row. **Predict:** which tensor of a page has no axis for rows?

# %%
for column in ("query", "image"):
    features = model.preprocess([row[column]])
    print(column)
    for name, value in features.items():
        if torch.is_tensor(value):
            print(f"   {name:<22} {tuple(value.shape)}")

time_, high, wide = features["image_grid_thw"][0].tolist()
patches, numbers = features["pixel_values"].shape
image_tokens = int((features["mm_token_type_ids"] == 1).sum())
run.record("tokens/image", image_tokens)
run.record("patches", patches)
print(f"grid {time_} x {high} x {wide}: {patches} patches of {numbers} numbers, {image_tokens} image tokens")

# %% [markdown]
# - `input_ids` (rows, tokens): the message as numbers. A page is a run of image tokens in it.
# - `mm_token_type_ids` (rows, tokens): 1 for an image token, 0 for text.
# - `pixel_values` (patches, numbers) has no axis for rows: the patches of all pages of the batch follow one
#   another. Each has 2 frames x 3 colours x 16 x 16 pixels: a still page counts as two equal frames.
# - `image_grid_thw` (pages, 3) says how many patches each page has in time, height and width.
# - Four patches, 32 x 32 pixels, become one image token.

# %% [markdown]
# ### Exercise 2: count from the grid
# `grid` is the `image_grid_thw` of a batch of pages. Write `patches_and_tokens(grid)`. From the grid alone,
# it returns two numbers: the patches and the image tokens of the whole batch.
#
# <details><summary>Hint</summary>
#
# Multiply the three numbers of each page, then add up the pages. A token covers 2 x 2 patches.
#
# </details>


# %%
def patches_and_tokens(grid: torch.Tensor) -> tuple[int, int]:
    # <solution>
    patches = int(grid.prod(dim=1).sum())
    return patches, patches // 4
    # </solution>


batch = model.preprocess(rows[:4]["image"])
all_patches = batch["pixel_values"].shape[0]
all_tokens = int((batch["mm_token_type_ids"] == 1).sum())
check(
    "count from the grid",
    patches_and_tokens(batch["image_grid_thw"]),
    [
        (lambda a: len(a) == 2, "return two numbers: patches, tokens"),
        (lambda a: a[0] == all_patches, "patches: count every page of the batch, and use all three numbers"),
        (lambda a: a[1] == all_tokens, "tokens: a square of 32 x 32 pixels is one token"),
    ],
)

# %% [markdown]
# ## 4. Store pages at the size that the model reads
#
# Many scanners store 200 dots an inch. In every **epoch**, or pass over the data, the processor shrinks each
# page before the model sees it. **Predict:** of three stored sizes, which is prepared fastest, and which
# gives the most tokens?

# %%
stored = row["image"].size
sizes = {
    "as-scanned": (1736, round(1736 * stored[1] / stored[0])),  # about A4 at 200 dots an inch
    "as-stored": stored,
    "as-the-model-reads": (16 * wide, 16 * high),  # the grid, in pixels
}
some, took = rows[:16]["image"], {}
for what, size in sizes.items():
    scans = [str(run.folder / f"{what}_{k}.jpg") for k in range(len(some))]
    for path, page in zip(scans, some, strict=True):
        page.convert("RGB").resize(size).save(path, quality=88)
    start = time.perf_counter()
    features = model.preprocess(scans)
    took[what] = (time.perf_counter() - start) / len(scans)
    tokens = int(features["image_grid_thw"][0].prod()) // 4
    run.record(f"seconds/preprocess/{what}", took[what])
    run.record(f"tokens/{what}", tokens)
    print(f"{what:>20} {size}: {1000 * took[what]:.1f} ms a page, {tokens} image tokens")
times = took["as-scanned"] / took["as-the-model-reads"]
print(f"You saw {min(took, key=took.get)} take the least time, and the scan {times:.1f} times", end=" ")
print("as long as the page at reading size.")

# %% [markdown]
# All three sizes give the model the same number of tokens, so the extra pixels of a scan only cost time, in every
# epoch. Shrink large scans once, to no less than the reading size, and keep the originals.
#
# **Watch out:** the other queries' pages in a batch also serve as negatives, the **in-batch negatives**. If a
# page is in a batch twice, it is also a negative for its own query. Two samplers prevent that:
# [`NO_DUPLICATES`](https://sbert.net/docs/package_reference/base/sampler.html) decodes images to compare rows
# in each epoch; `NO_DUPLICATES_HASHED` does so once. Paths need no decoding, so we use them below.


# %%
def files(pages, name):
    """Page id to path, for all pages; a page that is not a file yet is written to the folder `name`."""
    folder = run.folder / name
    folder.mkdir(exist_ok=True)
    for page_id in pages.corpus.keys() - pages.paths.keys():
        pages.image(page_id).convert("RGB").save(folder / f"{page_id}.png")
    return {page_id: pages.paths.get(page_id, str(folder / f"{page_id}.png")) for page_id in pages.corpus}


pool, dev = build_corpus(rows), build_corpus(dev_data)  # all pages of the rows, each once
pool_files = files(pool, "train")
positives = [pool_files[min(pool.relevant[query])] for query in pool.queries]
pairs = Dataset.from_dict({"query": list(pool.queries.values()), "image": positives})
print(len(pool_files), "pages in", len(rows), "rows;", pairs[0])

# %% [markdown]
# ## 5. The same page twice
#
# Collections are full of copies: a cover page, a form, a file uploaded twice. A **judgement** says which page
# answers which query. It may name only one of two copies. If a training page is also in dev or test, that is
# **leakage**: the model is tested on a page that it has learned from.
#
# In the next cell, we upload one page again under a new name, and the judgement names that copy, not the
# original. `merge_judgements` then lets the first of equal pages stand for all. **Predict:** does a search
# that finds the original count as right, before and after merging?

# %%
page_paths = sorted(pool_files.values())
copy = str(run.folder / "uploaded_again.png")
Path(copy).write_bytes(Path(positives[0]).read_bytes())

corpus_paths = [*page_paths, copy]
# each path, and the first path that has the same bytes
canonical = evaluation.deduplicate_by_content(corpus_paths, corpus_paths)
judged = {"the first query": {copy}}
merged = evaluation.merge_judgements(judged, canonical)
run.record("copies/found", len(corpus_paths) - len(set(canonical.values())))
for what, judgements in {"judged": judged, "merged": merged}.items():
    pages = judgements["the first query"]
    run.record(f"original-counts/{what}", positives[0] in pages)
    print(f"{what}: {[Path(page).name for page in pages]}; the original counts: {positives[0] in pages}")


# %%
def fingerprints(rows):
    """The SHA-256, a hash of the bytes, of every page of the rows; no image is decoded."""
    found = set()
    for name in set(rows.column_names) - {"query"}:
        for page in rows.select_columns([name]).cast_column(name, Image(decode=False))[name]:
            found.add(sha256(page["bytes"] or Path(page["path"]).read_bytes()).hexdigest())
    return found


everything = train_data.shuffle(seed=SEED).select(range(min(P.train_rows, len(train_data))))
training, held_out = fingerprints(everything), fingerprints(dev_data)
planted = sha256(Path(copy).read_bytes()).hexdigest()
run.record("leaked/training-pages", len(training))
run.record("leaked/found", len(training & held_out))
run.record("leaked/planted-found", len(training & (held_out | {planted})))
print(f"{len(training)} training pages, {len(held_out)} dev pages, {len(training & held_out)} in both")
print(f"with our copy among the dev pages: {len(training & (held_out | {planted}))} in both")

# %% [markdown]
# You saw the original count only after the judgements were merged, so merge before you measure. The second
# cell compared **hashes**, short numbers computed from files' bytes, and found our copy. Compare all rows
# that you train on, as here, not a sample. A hash finds equal bytes only. If a sheet was scanned twice, the
# bytes differ: then compare embeddings, and look at the most similar pairs yourself.
#
# ## 6. Hard negatives
#
# A random page is an easy negative: it has little in common with the query. **Mining** takes a page that the
# model itself ranks high and that is not the positive.
# [`mine_hard_negatives`](https://sbert.net/docs/package_reference/util.html) takes strings, so we give it
# paths. Our copy is in its corpus. **Predict:** which page will it take for the first query?

# %%
options = {"corpus": corpus_paths, "num_negatives": 1, "batch_size": P.eval_batch_size, "verbose": False}
options["cache_folder"] = str(run.folder / "vectors")  # embed once, mine twice
for old in Path(options["cache_folder"]).glob("*.npy"):
    old.unlink()
mined = mine_hard_negatives(pairs, model, **options)
chosen = dict(zip(mined["query"], mined["negative"], strict=True))
print(pairs[0]["query"])
taken = chosen[pairs[0]["query"]]
run.record("mined/first-is-the-copy", taken == copy)
print(f"   positive {Path(positives[0]).name}, mined {Path(taken).name}")
print(
    "You saw the miner take",
    "the copy of the right page." if taken == copy else "a page that it ranks higher.",
)

# %% [markdown]
# The copy scores the same as the right page, and is mined if that ranks first. It is a **false negative**: the
# loss would push an answer away from its query. There are two filters:
#
# - **Judgements** remove what is known to answer, and nothing else.
# - A **margin** removes each candidate that scores nearly as high as the positive, right or wrong. Another
#   of the 12 nearest takes its place, if any. A relative margin of 0.05 removes what scores above 95% of the
#   positive's score.
#
# **Predict:** does the margin remove anything but the false negatives?


# %%
def false_negatives(mined):
    """Queries whose mined negative has the content of the page that answers them."""
    return {row["query"] for row in mined if canonical[row["negative"]] == canonical[row["image"]]}


margin = mine_hard_negatives(pairs, model, **options, relative_margin=0.05)
false, left = false_negatives(mined), false_negatives(margin)
after = dict(zip(margin["query"], margin["negative"], strict=True))
changed = [query for query in chosen if query in after and after[query] != chosen[query]]
lost = [query for query in chosen if query not in after]
filtered = mined.filter(lambda row: row["query"] not in false)
counts = {"": mined, "/false": false, "/false/after-margin": left, "/changed": changed, "/lost": lost}
for name, members in counts.items():
    run.record(f"mined{name}", len(members))
print(f"{len(mined)} mined, {len(false)} of them a copy of the right page; after the margin {len(left)}")
print(f"the margin gave {len(changed)} queries another negative, and {len(lost)} queries none")
unjudged = len({*changed, *lost} - false)
said = f"the negatives of {unjudged} other queries" if unjudged else "nothing else"
print(f"You saw the margin also remove {said}.", end=" ")
if unjudged:
    print("They are pages that no judgement names: hard negatives, or answers that nobody has judged.")

# %% [markdown]
# If nobody has judged the pages, a reranker (lesson 01) can score the candidates: pass `cross_encoder=`
# together with a margin.

# %% [markdown]
# ### Exercise 3: choose from figures
# Made-up figures: a query's positive scores 0.80; the table shows other pages. Which one does the miner take
# without a margin (`no_margin`), and with a relative margin of 0.05 (`with_margin`)? Which false negative does
# this margin not remove (`still_false`)?
#
# | page | score | does it answer? |
# | --- | --- | --- |
# | A | 0.80 | yes, a copy |
# | B | 0.78 | no, the same country |
# | C | 0.74 | yes, the same figures in another drawing |
# | D | 0.40 | no |
#
# <details><summary>Hint</summary>
#
# The margin is a share of the positive's score. Work out the highest score that it keeps.
#
# </details>

# %%
# <solution> stub: no_margin, with_margin, still_false = ..., ..., ...
no_margin, with_margin, still_false = "A", "C", "C"
# </solution>

check(
    "choose from figures",
    [no_margin, with_margin, still_false],
    [
        (lambda a: set(a) <= set("ABCD"), "answer with three letters, each in quotes"),
        (lambda a: a[0] == "A", "without a margin: the miner knows scores, not which page answers"),
        (lambda a: a[1] == "C", "with the margin: which page has the highest score below 0.80 less 5%?"),
        (lambda a: a[2] == "C", "still false: look for a page that answers and scores below the limit"),
    ],
)

# %% [markdown]
# ## 7. Is mining worth it?
#
# We compare two short trainings. Both have the same queries and positives, the same number of updates, and
# one negative a query. In one, the negatives are random pages. In the other, they are mined and filtered by
# judgements.
#
# - **NDCG@10** scores a ranking: 1 if the right page comes first, smaller for each later rank,
#   and 0 after rank ten.
# - The **95% interval** in brackets says how far the mean moves if other queries of the same kind are drawn.
#
# **Predict:** will the mined negatives win, and are the dev queries enough to tell?


# %%
def finetune(data):
    """A model after one pass over the rows; weights that match `P.frozen` stay as they are."""
    trained = load_model(P.frozen)
    if P.lora:
        add_lora(trained)  # lesson 07 shows it
    arguments = SentenceTransformerTrainingArguments(
        str(run.folder / "trainer"),
        num_train_epochs=1,
        per_device_train_batch_size=min(P.batch_size, len(data)),
        batch_sampler="no_duplicates",
        learning_rate=P.learning_rate,
        warmup_steps=P.warmup,
        bf16=P.bf16,
        fp16=P.fp16,
        seed=SEED,
        logging_steps=1000,
        **silent,
    )
    loss = losses.CachedMultipleNegativesRankingLoss(trained, mini_batch_size=P.mini_batch_size)
    SentenceTransformerTrainer(trained, arguments, data, loss=loss).train()
    return trained


# %%
def dev_scores(model):
    vectors = {"batch_size": P.eval_batch_size, "convert_to_tensor": True}
    queries = model.encode_query(list(dev.queries.values()), **vectors)
    pages = model.encode_document(list(dev.corpus.values()), **vectors)
    return evaluation.per_query_ndcg(queries, pages, list(dev.queries), list(dev.corpus), dev.relevant)


others = pd.Series(page_paths).sample(len(filtered), replace=True, random_state=SEED)
at_random = filtered.remove_columns("negative").add_column("negative", others.tolist())
scores = {"before": dev_scores(model), "random": dev_scores(finetune(at_random))}
scores["mined"] = dev_scores(finetune(filtered))

# %%
intervals = {name: {"dev": evaluation.bootstrap(values, SEED)} for name, values in scores.items()}
for name, row in intervals.items():
    run.record(f"ndcg@10/dev/{name}", row["dev"])
gain = evaluation.paired_bootstrap(scores["random"], scores["mined"], SEED)
run.record("ndcg@10/dev/gain-of-mining", gain)
print(f"mined over random, the same {gain.n} queries: {gain}")
if gain.low > 0:
    said = "above zero: mined negatives were better than random ones here"
elif gain.high < 0:
    said = "below zero: mined negatives were worse than random ones here"
else:
    said = "on both sides of zero: these queries cannot tell which is better"
print(f"So the interval lies {said}.")
figure = plots.systems(intervals, title="Before, and after one short training with random or mined negatives")
run.figure(
    "negatives", figure, "NDCG@10 on dev: before, and after random or mined negatives, with intervals."
)
run.record("rows", len(rows))
run.save()
figure

# %% [markdown]
# If the interval includes zero, that does not show that mining gains nothing. It shows that this experiment
# cannot tell: one seed, few updates, few queries. Both trainings also use in-batch negatives, so mined
# pages help only if they teach what those do not.

# %% [markdown]
# ## Three questions
#
# **1.** A data set has the columns `query`, `image`, `source` (a text). What does the loss do with `source`?
#
# - a) it ignores it
# - b) it uses it as a negative
# - c) it raises an error
#
# <details><summary>Answer</summary>
#
# **b.** Every column after the second is a negative. Not a: only label columns are taken out. Not c: a text is a valid
# input, so nothing fails.
#
# </details>
#
# **2.** Two pages of a dev set have the same bytes as training pages, under other names. What is certain to
# find them?
#
# - a) comparing file names
# - b) hashing all dev pages and a sample of the training rows
# - c) hashing all pages of both
#
# <details><summary>Answer</summary>
#
# **c.** Equal bytes give equal hashes. Not a: the names differ. Not b: the pages may be in the rows left out.
#
# </details>
#
# **3.** You have one judged positive for each query and no other judgements. What does a relative margin do?
#
# - a) it removes exactly the false negatives
# - b) it removes candidates that score near or above the positive, false or not
# - c) it lowers the number of candidates without looking at scores
#
# <details><summary>Answer</summary>
#
# **b.** It knows scores only. Not a: a false negative with a low score stays, and a true hard negative with a
# high score goes. Not c: the limit is a share of the positive's score.
#
# </details>

# %% [markdown]
# ## You have
# - broken a data set in four ways, and seen one error and one warning
# - followed a row to `input_ids`, `pixel_values` and the grid
# - compared three stored sizes of a page that give the model the same tokens
# - found a copy and a planted leak by hash, and merged judgements
# - mined hard negatives, removed a false one, and compared mined with random negatives
#
# **Next**: lesson 04 measures the model before any finetuning.
