# %% [markdown]
# # 03 · Visual document data
#
# **You will be able to**
# - lay out a data set so that the loss reads it as you mean it, and recognise when it does not
# - store page images so that training does not wait for them
# - follow one row through the collator to tensors, and name each shape
# - find pages that are there twice, and pages that leaked from test to train
# - mine hard negatives, throw out the false ones, and measure whether the work was worth it
#
# **Time** tiny 2 min · t4 about 30 min · full about 40 min (the two on a GPU are estimates, not measured here)
#
# **Memory** tiny 3 GB · t4 16 GB of GPU memory · full 80 GB of GPU memory
#
# **Read first** lesson 01, for pixels and tokens

# %% tags=["parameters"]
PROFILE = "tiny"
SEED = 0
ROWS = 0

# %%
import io
import logging
import pickle
import re
import shutil
import time
from pathlib import Path

from course_utils.machine import device, quiet

quiet()  # drops library messages that ask nothing of you

import pandas as pd
import torch
from datasets import Dataset, Image, disable_caching, disable_progress_bars, load_dataset
from PIL import Image as Pillow
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.base.sampler import NoDuplicatesBatchSampler
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from sentence_transformers.sentence_transformer.training_args import (
    BatchSamplers,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.util import mine_hard_negatives

from course_utils import evaluation
from course_utils import plots
from course_utils.checkpoints import checkpoint
from course_utils.exercises import check
from course_utils.corpus import build_corpus
from course_utils.pages.dataset import build_documents
from course_utils.profiles import SHORTEST_EDGE, load_profile
from course_utils.recording import Run

P = load_profile(PROFILE)
run = Run("03_visual_document_data", profile=PROFILE, seed=SEED)
run.folder.mkdir(parents=True, exist_ok=True)
torch.manual_seed(SEED)
disable_progress_bars()  # those of data sets
disable_caching()  # so that a second run measures the same work as the first

# %% [markdown]
# ## 1. The schema
#
# The published data set and ours have the same columns: a **query** (the anchor), the **image** of a page that answers it (the
# positive), and four **hard negatives**: pages that look alike and do not answer. Ours come as paths; the published one as images.

# %%
if P.dataset == "factbook":
    documents = build_documents()
    data = load_dataset("parquet", data_files={"train": documents.train, "dev": documents.dev}).with_format(
        None
    )
    train_data, dev_data = data["train"], data["dev"]
else:  # images are written to files once, so that the cells below can speak of paths
    train_data = load_dataset(P.dataset, "train", split="train").shuffle(seed=SEED)
    train_data = train_data.select(range(min(256 + 60, len(train_data))))

    def to_paths(row, index):
        for column in [name for name in row if name != "query"]:
            path = run.folder / f"{index}-{column}.png"
            row[column].convert("RGB").save(path)
            row[column] = str(path)
        return row

    train_data = Dataset.from_list([to_paths(row, index) for index, row in enumerate(train_data)])
    train_data, dev_data = train_data.train_test_split(
        min(60, len(train_data) // 4), seed=SEED, shuffle=False
    ).values()
rows = train_data.shuffle(seed=SEED).select(range(min(ROWS or 256, len(train_data))))
dev = build_corpus(dev_data)
print(rows)
columns = [name for name in rows.column_names if name != "query"]
plots.pages_row([rows[0][name] for name in columns], columns, title=rows[0]["query"])

# %% [markdown]
# Two of the negatives share the country with the positive, two the topic: to tell them apart, a model has to read both.
#
# ## 2. The column rule
#
# The **loss** scores how well each query (the **anchor**) finds its own page (the **positive**) among all pages of the batch.
# How does it know which column is what? Not by name. **The first column is the anchor, the second the positive, all
# others are negatives**, in the order in which they stand. Only four names mean something: `label`, `labels`, `score` and `scores`
# are taken out as labels. We break the rule in four ways. Predict for each: an error, a warning, or silence?


# %%
def load_model(frozen=""):
    """The embedding model; parameters whose name matches `frozen` are not trained."""
    model = SentenceTransformer(
        checkpoint(P.embedder),
        device=device(),
        model_kwargs={"dtype": P.dtype, "attn_implementation": P.attention},
    )
    model[0].processing_kwargs |= {
        "image": {"size": {"shortest_edge": SHORTEST_EDGE, "longest_edge": P.longest_edge}}
    }
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not (frozen and re.search(frozen, name)))
    model.model_card_data.widget = [{}]  # something, or the trainer decodes pages for examples
    return model


model = load_model()
kept = ["query", "image", "negative_0"]
good = (
    rows.select(range(8))
    .select_columns(kept)
    .cast_column("image", Image())
    .cast_column("negative_0", Image())
)


def first_batch(data, batch_size=4):
    """What the trainer would hand to the loss: one dictionary of features for each column, and labels."""
    arguments = SentenceTransformerTrainingArguments(
        str(run.folder / "trainer"),
        per_device_train_batch_size=batch_size,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = SentenceTransformerTrainer(model, arguments, data, loss=MultipleNegativesRankingLoss(model))
    return trainer.collect_features(next(iter(trainer.get_train_dataloader())))


# %%
broken = {
    "as it should be": good,
    "image before query": good.select_columns(["image", "query", "negative_0"]),
    "a stray column": good.add_column("country", ["Chad"] * len(good)),
    "a column called label": good.add_column("label", [1.0] * len(good)),
    "images not decoded": good.cast_column("image", Image(decode=False)),
}
heard = io.StringIO()
listener = logging.StreamHandler(heard)
logging.getLogger("sentence_transformers").addHandler(listener)
for what, broken_data in broken.items():
    heard.seek(0), heard.truncate()
    torch.manual_seed(SEED)  # the same rows each time
    try:
        features, labels = first_batch(broken_data)
        with torch.no_grad():
            loss = MultipleNegativesRankingLoss(model)(features, labels).item()
        outcome = f"{len(features)} columns reach the loss, labels {labels if labels is None else labels.tolist()}, loss {loss:.4f}"
        run.record(f"columns/{what.replace(' ', '-')}", len(features))
    except ValueError as error:
        outcome = f"ValueError: {str(error)[:120]}"
    said = [line for line in heard.getvalue().splitlines() if "olumn" in line and "forward pass" not in line]
    print(f"{what}: {outcome}" + (f"\n   warned: {said[0][:150]}…" if said else ""))
logging.getLogger("sentence_transformers").removeHandler(listener)

# %% [markdown]
# - **Order**: it trains. Pages ask, queries are looked for, and hard negatives stand among queries. Only a warning tells.
# - **A stray column** is embedded as one more negative: here the word "Chad", four times, at the cost of a forward pass. The
#   loss hardly shows it.
# - **`label`** is taken out, and this loss ignores it. A column of *pages* by that name would be lost as silently.
# - **Undecoded images** are the one case that stops. Errors are the kind ones.
#
# So select the columns that you mean, in the order that you mean, just before training.

# %% [markdown]
# ### Exercise 1: the columns of a loss
# Write `for_loss(rows, negatives)`: the rows with the anchor, the positive and the first `negatives` hard negatives, in order,
# whatever else the data set has.
#
# *Hint: `rows.select_columns([...])` keeps columns in the order of the list.*


# %%
def for_loss(rows, negatives: int):
    # <solution>
    return rows.select_columns(["query", "image", *(f"negative_{k}" for k in range(negatives))])
    # </solution>


messy = (
    rows.select(range(2))
    .select_columns(["negative_1", "image", "negative_0", "query"])
    .add_column("page", [1, 2])
)
check(
    "the columns of a loss",
    [for_loss(messy, 2), for_loss(messy, 0)],
    [
        (lambda a: all(isinstance(x, Dataset) for x in a), "return a data set"),
        (lambda a: a[0].column_names[:2] == ["query", "image"], "first the anchor, then the positive"),
        (
            lambda a: a[0].column_names == ["query", "image", "negative_0", "negative_1"],
            "then negative_0, negative_1 and so on, by number and not as they stand, and nothing else",
        ),
        (lambda a: a[1].column_names == ["query", "image"], "with no negatives, two columns are left"),
    ],
)

# %% [markdown]
# ## 3. Images as objects, paths, or `Image()`
#
# One column, three ways. `Image()` is a promise: the file stays where it is, and is opened when a row is read. Predict which is
# smallest in memory, and which is fastest to read.

# %%
some = rows.select(range(min(64, len(rows))))["image"]
opened = [Pillow.open(path).convert("RGB") for path in some]
ways = {
    "PIL images in a list": (lambda: opened, sum(len(page.tobytes()) for page in opened)),
    "paths": (lambda: Dataset.from_dict({"image": some}), len(pickle.dumps(some))),
    "Image() over paths": (
        lambda: Dataset.from_dict({"image": some}).cast_column("image", Image()),
        len(pickle.dumps(some)),
    ),
    "Image() with the bytes inside": (
        lambda: Dataset.from_dict(
            {"image": [{"bytes": Path(p).read_bytes(), "path": None} for p in some]}
        ).cast_column("image", Image()),
        sum(Path(p).stat().st_size for p in some),
    ),
}
table = []
for what, (make, size) in ways.items():
    made = make()
    start = time.perf_counter()
    for row in made:
        if not isinstance(row, Pillow.Image) and not isinstance(row["image"], str):
            row["image"].load()
    seconds = time.perf_counter() - start
    table.append(
        {
            "column": what,
            "KiB held a page": size / 1024 / len(some),
            "ms to read a page": 1000 * seconds / len(some),
        }
    )
    run.record(f"seconds/read/{re.sub('[^a-z]+', '-', what.lower()).strip('-')}", seconds / len(some))
print(pd.DataFrame(table).round(2).to_string(index=False))

# %% [markdown]
# PIL images are ready and heavy: a hundred thousand pages would not fit. Paths cost nothing until somebody opens them: their row is fast because no page was read. The
# model itself can open them: a column of plain path strings is embedded just like `Image()`. Bytes inside make one file that can be
# moved, which is how the published set is stored.
#
# ## 4. One row, all the way
#
# The trainer hands a batch to the **collator**, which gives each column to `model.preprocess`: that is all it does. Follow a row.

# %%
one = rows.select(range(1))
inputs = {"query": one["query"], "image": one["image"]}
for column, values in inputs.items():
    features = model.preprocess(values)
    print(column)
    for name, value in features.items():
        if torch.is_tensor(value):
            print(f"   {name:<22} {tuple(value.shape)}")
grid = features["image_grid_thw"][0].tolist()
patches = features["pixel_values"].shape[0]
image_tokens = int((features["mm_token_type_ids"] == 1).sum())
run.record("tokens/image", image_tokens)
run.record("patches", patches)
print(
    f"\ngrid {grid}: {patches} patches of {features['pixel_values'].shape[1]} numbers, {image_tokens} image tokens of "
    f"{features['input_ids'].shape[1]} tokens in all"
)
print("the model reads:", model[0].processor.tokenizer.decode(features["input_ids"][0])[:60], "…")

# %% [markdown]
# - `input_ids` (rows, tokens): the chat message as numbers; a page stands in it as a row of image tokens.
# - `pixel_values` (patches, numbers): **no row axis**; the patches of all pages of a batch follow one another, each 2 frames x
#   3 colours x 16 x 16 pixels. Which belong to which page says `image_grid_thw` (rows, 3): time, height, width in patches.
# - four patches, 32x32 pixels, become one image token.

# %% [markdown]
# ### Exercise 2: count from the grid
# A batch of pages comes with its `image_grid_thw`. How many rows has its `pixel_values`, and how many image tokens are there?
#
# *Hint: multiply along each row of the grid, add up; a token is four patches.*


# %%
def patches_and_tokens(grid: torch.Tensor) -> tuple[int, int]:
    # <solution>
    patches = int(grid.prod(dim=1).sum())
    return patches, patches // 4
    # </solution>


batch = model.preprocess(rows.select(range(4))["image"])
check(
    "count from the grid",
    patches_and_tokens(batch["image_grid_thw"]),
    [
        (lambda a: len(a) == 2, "return two numbers: patches, tokens"),
        (
            lambda a: a[0] == batch["pixel_values"].shape[0],
            "patches: time x height x width of each page, added up",
        ),
        (lambda a: a[1] == int((batch["mm_token_type_ids"] == 1).sum()), "2 x 2 patches are one token"),
    ],
)

# %% [markdown]
# ## 5. Twice the same page
#
# Document collections are full of copies: a cover page, a form, a scan uploaded twice. In a corpus, a copy takes a place from the
# page that is judged relevant. Between train and test, it is **leakage**: the exam's page was in the lessons. Names do not
# tell; content does. We plant both, and find them by hash.

# %%
page_paths = sorted({row[name] for row in rows for name in columns})
test_paths = sorted(dev.paths.values())
copy = run.folder / "uploaded_again.png"
shutil.copy(rows[0]["image"], copy)

corpus_paths = [*page_paths, str(copy)]
canonical = evaluation.deduplicate_by_content(corpus_paths, corpus_paths)
copies = {path: first for path, first in canonical.items() if path != first}
print(f"{len(corpus_paths)} files, {len(set(canonical.values()))} different pages")
for path, first in copies.items():
    print(f"   {Path(path).name} is {Path(first).name}")

judged = {"q": {rows[0]["image"]}}
print(
    "judgements merged:",
    {
        query: {Path(page).name for page in pages}
        for query, pages in evaluation.merge_judgements(judged, canonical).items()
    },
)

both = [*page_paths, *test_paths]
leaked = {
    path
    for path, first in evaluation.deduplicate_by_content(both, both).items()
    if path != first and path in set(test_paths)
}
both.append(str(copy))  # as if it were a test page
planted = {
    path
    for path, first in evaluation.deduplicate_by_content(both, both).items()
    if path != first and path == str(copy)
}
run.record("copies/found", len(copies))
run.record("leaked/found", len(leaked))
run.record("leaked/planted-found", len(planted))
print(f"dev pages that are also in training: {len(leaked)}; with one planted: {len(leaked | planted)}")

# %% [markdown]
# A hash finds equal bytes. The same sheet scanned twice has other bytes: there, compare embeddings and look at the pairs above
# 0.99. Do it before you split, since after it you only find what is already lost.
#
# ## 6. Hard negatives
#
# Random negatives are too easy: a page on the coffee of Brazil is no rival for one on the railways of Chad. **Mining** takes what
# the model itself ranks high and is not the positive. `mine_hard_negatives` wants strings, so it gets paths. Our copy from
# above is in its corpus. Predict: for the first query, what will it bring?

# %%
pairs = Dataset.from_dict({"query": rows["query"], "image": rows["image"]})
options = {
    "corpus": corpus_paths,
    "num_negatives": 1,
    "verbose": False,
    "batch_size": P.eval_batch_size,
    "cache_folder": str(run.folder / "vectors"),
}  # embed once, mine twice
shutil.rmtree(run.folder / "vectors", ignore_errors=True)
mined = mine_hard_negatives(pairs, model, **options)
chosen = dict(zip(mined["query"], mined["negative"]))
print(
    f"{rows[0]['query']}\n   positive {Path(rows[0]['image']).name}, mined {Path(chosen[rows[0]['query']]).name}"
)

margin = mine_hard_negatives(pairs, model, **options, relative_margin=0.05)
false = [
    query
    for query, positive in zip(rows["query"], rows["image"])
    if query in chosen and canonical[chosen[query]] == canonical[positive]
]
filtered = mined.filter(lambda row: row["query"] not in set(false))
after_margin = dict(zip(margin["query"], margin["negative"]))
left = [
    query
    for query, positive in zip(rows["query"], rows["image"])
    if query in after_margin and canonical[after_margin[query]] == canonical[positive]
]
run.record("mined", len(mined))
run.record("mined/false", len(false))
run.record("mined/false/after-margin", len(left))
print(
    f"{len(mined)} mined, {len(false)} of them false by judgement; with a relative margin of 0.05 {len(margin)} remain, {len(left)} false"
)

# %% [markdown]
# The copy of the right page, of course: a **false negative**, the most harmful kind of label, since the loss pushes the answer away
# from its query. Two filters: **judgements**, where you have them, and a **margin**, which drops candidates that score nearly as
# well as the positive, right or wrong. The margin costs some honest hard negatives; without judgements it is the best there is.
#
# Is mining worth it? The same queries and positives, the same number of updates, one negative each: drawn at random, or mined.


# %%
def finetune(data):
    """A model after one pass over the rows, image tower as in lesson 07."""
    trained = load_model(P.frozen)
    if P.lora:
        from peft import LoraConfig

        trained.add_adapter(
            LoraConfig(r=16, target_modules=r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj)")
        )
    arguments = SentenceTransformerTrainingArguments(
        str(run.folder / "trainer"),
        per_device_train_batch_size=min(P.batch_size, len(data)),
        num_train_epochs=1,
        seed=SEED,
        learning_rate=P.learning_rate,
        warmup_steps=P.warmup,
        bf16=P.bf16,
        fp16=P.fp16,
        save_strategy="no",
        report_to="none",
        batch_sampler=BatchSamplers.NO_DUPLICATES,
        dataloader_pin_memory=False,
        logging_steps=1000,
        disable_tqdm=True,
    )
    loss = CachedMultipleNegativesRankingLoss(trained, mini_batch_size=P.mini_batch_size)
    SentenceTransformerTrainer(trained, arguments, data, loss=loss).train()
    return trained


def dev_scores(model):
    vectors = {"batch_size": P.eval_batch_size, "convert_to_tensor": True}
    queries, pages = (
        model.encode_query(list(dev.queries.values()), **vectors),
        model.encode_document(list(dev.corpus.values()), **vectors),
    )
    return evaluation.per_query_ndcg(queries, pages, list(dev.queries), list(dev.corpus), dev.relevant)


at_random = filtered.add_column(
    "other", pd.Series(page_paths).sample(len(filtered), replace=True, random_state=SEED).tolist()
)
at_random = at_random.select_columns(["query", "image", "other"])
scores = {
    "before": dev_scores(model),
    "random": dev_scores(finetune(at_random)),
    "mined": dev_scores(finetune(filtered)),
}

# %%
intervals = {name: evaluation.bootstrap(values, SEED) for name, values in scores.items()}
gain = evaluation.paired_bootstrap(scores["random"], scores["mined"], SEED)
for name, interval in intervals.items():
    run.record_interval(f"ndcg@10/dev/{name}", interval.mean, interval.low, interval.high)
run.record_interval("ndcg@10/dev/gain-of-mining", gain.mean, gain.low, gain.high)
print(f"mined over random, the same {gain.n} queries: {gain}")
figure = plots.systems(
    {name: {"dev": interval} for name, interval in intervals.items()},
    title="Random or mined negatives, one short training",
)
run.figure(
    "negatives",
    figure,
    "NDCG@10 on dev pages before training, after training with random and with mined negatives, with intervals.",
)
figure

# %% [markdown]
# If the interval of the difference holds zero, this budget cannot tell: a few updates, sixty queries. That is worth knowing before
# you mine a million pages. In-batch negatives come for free with every row; what mining adds must be more than that.
#
# ## 7. Resize once, and choose the sampler
#
# Scanners store 200 dots an inch. The processor throws most of them away, in every epoch and every evaluation, before the model
# sees one. Store pages at the size that the model reads, once.

# %%
size = (1736, 2232)  # as many pixels as A4 at 200 dots an inch
stored = {"as scanned": [], "as the model reads": []}
for k, page in enumerate(opened[:16]):
    for what, pixels in {"as scanned": size, "as the model reads": page.size}.items():
        path = run.folder / f"{what.replace(' ', '_')}_{k}.jpg"
        page.resize(pixels).save(path, quality=88)
        stored[what].append(str(path))
for what, paths in stored.items():
    start = time.perf_counter()
    features = model.preprocess(paths)
    seconds = (time.perf_counter() - start) / len(paths)
    run.record(f"seconds/preprocess/{what.replace(' ', '-')}", seconds)
    print(
        f"{what:>20}: {1000 * seconds:.1f} ms a page, {Path(paths[0]).stat().st_size / 1024:.0f} KiB, "
        f"{int(features['image_grid_thw'][0].prod()) // 4} image tokens"
    )

# %% [markdown]
# The same number of tokens, at a fraction of the time. The second hidden cost is the **batch sampler**. With in-batch
# negatives, one page must not be twice in a batch, or it is its own negative. `NO_DUPLICATES` looks at the values of every row, and
# where those are images, it decodes them, in each epoch. `NO_DUPLICATES_HASHED` does it once. Path strings need no decoding.


# %%
def seconds_to_batch(data, hashed: bool, epochs=2) -> float:
    """Seconds to make all batches of some epochs; with `hashed`, as NO_DUPLICATES_HASHED does."""
    start = time.perf_counter()
    sampler = NoDuplicatesBatchSampler(
        data, 16, drop_last=True, generator=torch.Generator(), seed=SEED, precompute_hashes=hashed
    )
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        list(sampler)
    return time.perf_counter() - start


as_paths = rows.select(range(min(128, len(rows)))).select_columns(["query", "image"])
as_images = as_paths.cast_column("image", Image())
for what, sampled in {"images": as_images, "paths": as_paths}.items():
    for name, hashed in {"NO_DUPLICATES": False, "NO_DUPLICATES_HASHED": True}.items():
        seconds = seconds_to_batch(sampled, hashed)
        run.record(f"seconds/sampler/{what}-{name.lower().replace('_', '-')}", seconds)
        print(
            f"{what:>7}, {name:>20}: {1000 * seconds / len(sampled) / 2:.2f} ms a row and epoch, of 2 epochs"
        )
run.record("rows", len(rows))
run.save()

# %% [markdown]
# Two epochs are few: hashing is paid once, so for images it pays off with every further one. Path strings need no decoding, so
# there it only costs. Lesson 07 trains for one epoch, on pages that
# were stored at reading size.

# %% [markdown]
# ## You have
# - broken the column rule in four ways, and seen how little of it raises an error
# - compared images as objects, paths and promises
# - followed a row to `input_ids`, `pixel_values` and the grid
# - found a copy and a leak by hash, and merged judgements
# - mined hard negatives, caught a false one, and measured mined against random
#
# **Next**: lesson 04 measures a retriever, before anybody trains one.
