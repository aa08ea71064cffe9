# %% [markdown]
# # 01 · Load multimodal models
#
# **You will be able to**
# - load an embedding model and a raw vision-language model, and say which modules each one got, and why it matters
# - follow a page from pixels to patches, tokens and one vector, and compute the number of tokens before a run
# - ask a model which inputs it takes, and set its pixel budget, dtype and attention
# - let a reranker score pages, alone and together with text
#
# **Time** tiny 1 min · t4 about 10 min · full about 10 min (the two on a GPU are estimates, not measured here)
#
# **Learning time** about 40 min
#
# **Memory** tiny 2 GB · t4 16 GB of GPU memory · full 24 GB of GPU memory
#
# **Read first** nothing

# %% tags=["parameters"]
PROFILE = "tiny"
SEED = 0
ROWS = 0

# %%
from course_utils.machine import device, quiet

quiet()  # drops library messages that ask nothing of you

import json
import time
from pathlib import Path

import ipywidgets as widgets
import pandas as pd
import torch
from datasets import load_dataset
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from sentence_transformers.util import batch_to_device, load_file_path

from course_utils import evaluation, plots
from course_utils.checkpoints import checkpoint
from course_utils.corpus import build_corpus
from course_utils.dataset import prepare_dataset
from course_utils.exercises import check
from course_utils.profiles import load_profile
from course_utils.recording import Run

# %% [markdown]
# ## 1. A ready embedding model
#
# A **multimodal embedding model** turns a text or an image into one vector, a row of numbers. Both kinds
# share one space: a query should lie near the page that answers it. A page takes this path:
#
# ![A page of 448 x 576 pixels becomes 224 x 288, then 14 x 18 patches of 16 x 16 pixels, then 7 x 9 = 63 image tokens
# in one row with text. The language model gives a state for each token. Pooling keeps the last; Normalize makes its
# length one.](images/01_page_to_vector.svg)
#
# `P` holds the settings of the profile. Lines that begin with `run.` record figures for the report.
# `checkpoint` gives a model's folder or published name. The model's file `modules.json` lists its
# **modules**, which run one after another.

# %%
P = load_profile(PROFILE)
run = Run("01_load_multimodal_models", profile=PROFILE, seed=SEED)
name = checkpoint(P.embedder)
modules = Path(load_file_path(name, "modules.json"))
for module in json.loads(modules.read_text(encoding="utf-8")):
    print(module["idx"], module["path"] or ".", module["type"].rsplit(".", 1)[-1])
kwargs = {"dtype": P.dtype, "attn_implementation": P.attention}
model = SentenceTransformer(name, device=device(), model_kwargs=kwargs)
model[0].processing_kwargs |= {"image": {"size": P.pixels}}
print("dimensions:", model.get_embedding_dimension())
print("smallest and largest area of an image, in pixels:", P.pixels)

# %% [markdown]
# The model reads **tokens**: pieces of text or of an image.
# [Transformer](https://sbert.net/docs/package_reference/base/modules.html) gives each token a vector, its
# state. [Pooling](https://sbert.net/docs/package_reference/sentence_transformer/modules.html) makes one
# vector from all states. Here it takes the last token's: the model reads from left to right, so only that
# token has seen everything. Normalize makes the vector's length one, so a dot product is a cosine.
#
# A **split** is a part of the data kept apart: dev is for trying things out, test for the final score.
# `build_corpus` collects the queries and pages of the dev split. `ROWS` limits the rows.
#
# **Predict:** the diagram shows 63 image tokens. How many tokens does the language model read for a page?

# %%
dataset = prepare_dataset(P)
dev_data = load_dataset(dataset, P.dev_config, split=P.dev_split)
rows = dev_data.select(range(min(ROWS or len(dev_data), len(dev_data))))
dev = build_corpus(rows)
query_ids, page_ids = list(dev.queries), list(dev.corpus)
print(f"{len(query_ids)} queries, {len(page_ids)} pages")


# %%
def grid(features):
    """Patches of one page: how many across and how many down."""
    _, down, across = features["image_grid_thw"][0].tolist()
    return across, down


def image_tokens_of(features):
    across, down = grid(features)
    return (across // 2) * (down // 2)  # 2 x 2 patches make a token


page = dev.image(page_ids[0]).convert("RGB")
features = model.preprocess([page])
across, down = grid(features)
row, image = features["input_ids"].shape[1], image_tokens_of(features)
run.record("tokens/page", image)
print(f"stored: {page.width} x {page.height} pixels; the model reads {16 * across} x {16 * down}")
print(f"patches: {across} x {down}; image tokens: {image}; vector: {model.encode([page]).shape[1]} numbers")
print(f"You saw a row of {row} tokens: {image} of the image and {row - image} of the chat message around it.")


# %% [markdown]
# The library writes each input as a chat message, so text stands around the image.
#
# Now we compare one query with all pages.
# [`encode_query`](https://sbert.net/docs/package_reference/sentence_transformer/model.html) and
# `encode_document` both make vectors; each may add its own prompt (lesson 02). The figure shows the four
# nearest pages. A thick border marks the relevant one.


# %%
def embed(model):
    """Vectors of all queries and of all pages, (queries, dimensions) and (pages, dimensions)."""
    options = {"batch_size": P.eval_batch_size, "convert_to_tensor": True}
    queries = model.encode_query(list(dev.queries.values()), **options)
    return queries, model.encode_document(list(dev.corpus.values()), **options)


query_vectors, page_vectors = embed(model)
first = model.similarity(query_vectors[:1], page_vectors)[0]
top = [page_ids[k] for k in first.argsort(descending=True)[:4].tolist()]
plots.gallery(dev.queries["q0"], [dev.image(page) for page in top], top, dev.relevant["q0"])

# %% [markdown]
# ## 2. A raw vision-language model
#
# A **raw vision-language model** (VLM), such as
# [Qwen3-VL](https://huggingface.co/docs/transformers/model_doc/qwen3_vl), looks at images and writes text. It
# has no `modules.json`: nobody has said how to make one vector from its states. `SentenceTransformer` still
# loads it. **Predict:** which modules will it get?

# %%
raw_name = checkpoint(P.raw_vlm)
print("its modules.json:", load_file_path(raw_name, "modules.json"))
raw = SentenceTransformer(raw_name, device=device(), model_kwargs=kwargs)
raw[0].processing_kwargs |= {"image": {"size": P.pixels}}


def described(model):
    names = " > ".join(type(module).__name__ for module in model)
    return f"{names} | pooling: {model[1].pooling_mode}"


print("embedding model:", described(model))
print("raw VLM:", described(raw))
run.record("modalities/raw-vlm", len(raw.modalities))
vectors = {"embedding-model": (query_vectors, page_vectors), "raw-vlm-mean": embed(raw)}
del raw  # on a GPU there is room for few such models at once

# %% [markdown]
# You saw two modules: Transformer, and Pooling with the **mean** of all tokens. No warning said so. A model
# is a list of modules, so you can choose the last token yourself. We score both, and a random order.
#
# - **NDCG@10** scores a ranking: 1 if the right page comes first, smaller for each later rank,
#   and 0 after rank ten.
# - The **95% interval** in brackets says how far the mean moves if other queries of the same kind are drawn.
#
# **Predict:** how much NDCG@10 does the mean cost?

# %%
options = {"image": {"size": P.pixels}}
transformer = Transformer(raw_name, model_kwargs=kwargs, processing_kwargs=options)
pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="lasttoken")
last = SentenceTransformer(modules=[transformer, pooling], device=device())
vectors["raw-vlm-last-token"] = embed(last)
del last, transformer

# %%
scores, intervals = {}, {}
for which, (queries, pages) in vectors.items():
    scores[which] = evaluation.per_query_ndcg(queries, pages, query_ids, page_ids, dev.relevant)
    intervals[which] = {"dev": evaluation.bootstrap(scores[which], SEED)}
    run.record(f"ndcg@10/dev/{which}", intervals[which]["dev"])
    print(f"{which:>20}: {intervals[which]['dev']}")
chance = evaluation.random_ceiling(query_ids, dev.relevant, len(page_ids)).mean()
cost = evaluation.paired_bootstrap(scores["raw-vlm-mean"], scores["raw-vlm-last-token"], SEED)
run.record("ndcg@10/dev/chance", chance)
run.record("ndcg@10/dev/cost-of-the-mean", cost)
print(f"{'random order':>20}: {chance:.3f}")
print(f"You saw one network with two poolings. The mean costs this much NDCG@10: {cost}.")
figure = plots.systems(intervals, title="Three ways to one vector")
run.figure(
    "pooling", figure, "NDCG@10 on dev pages: the embedding model, a raw VLM with two poolings; intervals."
)
figure

# %% [markdown]
# So look at the modules of every model that you load. A wrong pooling raises no error.
#
# **In `tiny`** the raw VLM and the embedding model share their weights, so with the last token they score the
# same. A published raw VLM was not trained to compare vectors, so it also needs finetuning.

# %% [markdown]
# ### Exercise 1: pooling by hand
# In a batch, short rows are filled up with **padding**, before or after the text. `mask`, of shape (rows,
# tokens), is 1 at real tokens and 0 at padding. `states` has the shape (rows, tokens, dimensions). Write
# `last_token(states, mask)`, which returns the state of each row's last *real* token.
#
# <details><summary>Hint</summary>
#
# Number the places of a row with `torch.arange`. Where is `mask * places` largest?
#
# </details>


# %%
def last_token(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    # <solution>
    places = torch.arange(mask.shape[1])
    last = (mask * places).argmax(dim=1)
    return states[torch.arange(len(states)), last]
    # </solution>


toy, after = torch.arange(24.0).reshape(2, 4, 3), torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
with torch.no_grad():
    read = model[0](batch_to_device(model.preprocess(list(dev.queries.values())[:4]), model.device))
    library = model[1](read)["sentence_embedding"].float().cpu()
states, mask = read["token_embeddings"].float().cpu(), read["attention_mask"].cpu()
check(
    "pooling by hand",
    last_token,
    [
        (lambda f: f(toy, after) is not None, "not done yet: return the states instead of `...`"),
        (lambda f: f(toy, after).shape == (2, 3), "return one state for each row: (rows, dimensions)"),
        (lambda f: torch.equal(f(toy, after)[0], toy[0, 1]), "a state of padding must not be returned"),
        (lambda f: torch.equal(f(toy, after.flip(1))[0], toy[0, 3]), "padding can stand before the text too"),
        (lambda f: torch.equal(f(states, mask), library), "the library's Pooling gives different states"),
    ],
)

# %% [markdown]
# ## 3. Which inputs does a model take?
#
# A **modality** is a kind of input. `supports` says whether a model takes one, or several in one input. The
# library looks at the **processor**, the part that turns inputs into tensors. A tokenizer stands for text, an
# image processor for images, a feature extractor for audio, a chat template for messages, which can hold
# several modalities.
#
# The next cell also shows the library only one part of the processor. **Predict:** what is left with only the
# tokenizer?

# %%
asked = ["text", "image", "video", "audio", ("text", "image"), ("text", "audio")]
names = [" + ".join(m) if isinstance(m, tuple) else m for m in asked]
answers = pd.DataFrame({"input": names, "supported": [model.supports(m) for m in asked]})
print(answers.to_string(index=False))
processor = model[0].processor
parts = {"whole-processor": processor, "tokenizer-alone": processor.tokenizer}
parts |= {"image-processor-alone": processor.image_processor}
found = {}
for what, part in parts.items():
    found[what] = list(model[0].infer_modalities(model[0].model, part)[0])
    print(f"{what:>22}: {found[what]}")
    run.record(f"modalities/{what}", len(found[what]))
print("You saw the same network. With the tokenizer alone it takes:", " and ".join(found["tokenizer-alone"]))

# %% [markdown]
# The tokenizer also holds the chat template, so messages remain, of text only. If your model does not take images, first
# check that no file of its processor is missing.
#
# ## 4. Load time and call time
#
# | argument | takes effect at | what it sets |
# | --- | --- | --- |
# | `model_kwargs` | load | the network: `dtype`, `attn_implementation` |
# | `processor_kwargs` | load | the processor; saved with the model |
# | `processing_kwargs` | call | the processor, for one call; if set on the module, for all, and saved with the model |
#
# The **pixel budget** decides how finely the model sees a page. Qwen3-VL shrinks an image until its area is
# at most `longest_edge`. Despite its name, that is an area. The next cell shows a page within four budgets; in
# a running notebook, its slider shows others.
#
# **Predict:** does a quarter of the pixels need a quarter of the tokens, or fewer? And a quarter of the time?

# %%
pages = [dev.image(page).convert("RGB") for page in page_ids[:24]]
areas = [P.longest_edge // 16, P.longest_edge // 4, P.longest_edge // 2, P.longest_edge]


def budget(area):
    """Processor arguments for images of at most `area` pixels."""
    return {"image": {"size": P.pixels | {"longest_edge": int(area)}}}


def show(*areas):
    """The first page as the model sees it within each budget."""
    sizes = [grid(model.preprocess(pages[:1], processing_kwargs=budget(area))) for area in areas]
    views = [pages[0].resize((16 * across, 16 * down)) for across, down in sizes]
    captions = [f"{view.width} x {view.height} pixels" for view in views]
    display(plots.pages_row(views, captions, title="One page, as the model sees it"))


show(*areas)
slider = widgets.IntSlider(
    areas[1], areas[0], areas[-1], step=1024, description="budget", continuous_update=False
)
_ = widgets.interact(lambda area: show(area), area=slider)

# %%
lines = []
for area in areas:
    tokens = image_tokens_of(model.preprocess(pages[:1], processing_kwargs=budget(area)))
    model.encode(pages[:2], processing_kwargs=budget(area), batch_size=2)  # warm up
    start = time.perf_counter()
    model.encode(pages, processing_kwargs=budget(area), batch_size=8)
    seconds = (time.perf_counter() - start) / len(pages)
    lines.append({"pixels": area, "image tokens": tokens, "ms a page": 1000 * seconds})
    run.record(f"tokens/pixels/{area}", tokens)
    run.record(f"seconds/pixels/{area}", seconds)
table = pd.DataFrame(lines)
print(table.round(1).to_string(index=False))
share = table.iloc[1] / table.iloc[3]
print(f"You saw a quarter of the pixels need {share['image tokens']:.0%} of the tokens", end=" ")
print(f"and {share['ms a page']:.0%} of the time.")
figure = plots.cost_of_pixels(table)
run.figure("pixels", figure, "Image tokens and milliseconds a page by pixel budget, on this machine.")
figure

# %% [markdown]
# Each side is rounded down to whole tokens, so the share of tokens can fall below that of pixels. Lesson 08
# measures what fewer pixels do to the *score*.
#
# **Watch out:** a pixel limit can be ignored without a warning
# ([reported](https://github.com/huggingface/transformers/issues/41955)). So count the tokens of a page.
#
# The next cell sets a quarter of the budget at load time, and the whole budget in one call. **Predict:**
# which one counts?

# %%
small = budget(P.longest_edge // 4)["image"]  # {"size": {...}}
loaded = SentenceTransformer(name, device=device(), model_kwargs=kwargs, processor_kwargs=small)
at_load = image_tokens_of(loaded.preprocess(pages[:1]))
at_call = image_tokens_of(loaded.preprocess(pages[:1], processing_kwargs=budget(P.longest_edge)))
print(f"processor_kwargs, at load: {at_load} image tokens")
print(f"processing_kwargs, at call: {at_call} image tokens")
counts = "the call's budget counts" if at_call > at_load else "the budget set at load still counts"
print(f"You saw {at_call} tokens in the call and {at_load} without it. So {counts}.")
del loaded

# %% [markdown]
# ### Exercise 2: tokens before you run
# If a page has more pixels than the budget, both sides are divided by √(pixels / budget), then rounded down
# to a multiple of 32. One token is 32x32 pixels. Write `image_tokens` for such pages; `area` is the budget.
#
# <details><summary>Hint</summary>
#
# Compute the divisor first. Then count the whole tokens along each side; `//` divides and rounds down.
#
# </details>


# %%
def image_tokens(width: int, height: int, area: int) -> int:
    # <solution>
    factor = (width * height / area) ** 0.5
    return int(width / factor // 32) * int(height / factor // 32)
    # </solution>


tried = (60_000, 30_000)
ours = [image_tokens(*pages[0].size, area) for area in tried] + [image_tokens(1654, 2339, 600 * 600)]
counted = [image_tokens_of(model.preprocess(pages[:1], processing_kwargs=budget(area))) for area in tried]
scan = "an A4 scan of 1654x2339 pixels has 15 x 22 tokens within 600x600: divide by the root"
check(
    "image tokens",
    ours,
    [
        (lambda a: a[0] is not None, "not done yet: return a number instead of `...`"),
        (lambda a: all(n == int(n) for n in a), "return a whole number"),
        (lambda a: a[2] == 330, f"{scan}, then round each side down"),
        (lambda a: a[:2] == counted, "the processor gives a different number of tokens"),
    ],
)

# %% [markdown]
# ### dtype and attention
#
# The **dtype** is the number format of the weights. In **attention**, tokens exchange information. Its
# [implementation](https://huggingface.co/docs/transformers/attention_interface) affects speed: `sdpa` is part
# of torch and runs everywhere; flash attention needs a GPU and an extra package.
#
# **Predict:** if you do not set `dtype`, do you get float32, torch's default?

# %%
unset = SentenceTransformer(name, device="cpu")
for which, loaded in {"unset": unset, P.dtype: model}.items():
    weights = list(loaded.parameters())
    print(f"dtype {which}: {weights[0].dtype}, {sum(w.nbytes for w in weights) / 2**20:.0f} MiB")
    run.record(f"bytes/parameter/{which}", weights[0].element_size())
print(f"You saw that unset means {next(unset.parameters()).dtype}: the dtype of the files.")
print("attention, as asked for above:", model[0].model.config._attn_implementation)
del unset, loaded

# %% [markdown]
# bfloat16 needs half the memory of float32, but can be slow on a CPU. Ask for float32 on a CPU, bfloat16 on a
# modern GPU, and float16 on a T4, which has no bfloat16 units.

# %% [markdown]
# ### Exercise 3: what did they change?
# Four colleagues wanted the embedding model above, in float32. Each made one mistake. They saw:
#
# | | pooling | modalities | image tokens of a page | bytes of a weight |
# | --- | --- | --- | --- | --- |
# | A | last token | text, image, video, message | 12 | 4 |
# | B | last token | text, image, video, message | 63 | 2 |
# | C | mean | text, image, video, message | 63 | 4 |
# | D | last token | text, message | – | 4 |
# | right in `tiny` | last token | text, image, video, message | 63 | 4 |
#
# Name each mistake: `"raw"` (loaded the raw VLM), `"processor"` (a part is missing), `"pixels"` (another
# budget) or `"dtype"` (left unset). We measured what one of them costs in NDCG@10. Whose? Give the letter as
# `"measured"`.
#
# <details><summary>Hint</summary>
#
# Compare each row with the last one.
#
# </details>

# %%
# <solution> stub: mistakes = {"A": ..., "B": ..., "C": ..., "D": ..., "measured": ...}
mistakes = {"A": "pixels", "B": "dtype", "C": "raw", "D": "processor", "measured": "C"}
# </solution>
known = {"raw", "processor", "pixels", "dtype"}
check(
    "what did they change",
    mistakes,
    [
        (lambda a: {a[who] for who in "ABCD"} == known, "use each of the four names once"),
        (lambda a: a["D"] == "processor", "D: which part shows the library that a model takes images?"),
        (lambda a: a["B"] == "dtype", "B: how many bytes does a float32 weight have?"),
        (lambda a: a["A"] == "pixels", "A: what decides the number of image tokens?"),
        (lambda a: a["measured"] == "C", "measured: section 2 compares two poolings of one network"),
    ],
)

# %% [markdown]
# ## 5. A reranker
#
# A **reranker**, a [`CrossEncoder`](https://sbert.net/docs/cross_encoder/usage/usage.html), reads a query and
# a page together and gives one score. The network runs once for each pair, so give it few candidates. `rank`
# takes a query and documents; `predict` takes pairs.
#
# The next cell ranks four pages for the first query: the pages of three other queries, then its own page.
# **Predict:** which place does its own page take?

# %%
reranker = CrossEncoder(checkpoint(P.reranker), device=device(), model_kwargs=kwargs)
reranker[0].processing_kwargs |= {"image": {"size": P.pixels}}
print(" > ".join(type(module).__name__ for module in reranker), "|", reranker.modalities)
query, right = dev.queries["q0"], min(dev.relevant["q0"])
candidates = [min(dev.relevant[other]) for other in query_ids[1:4]] + [right]
documents = [dev.image(page) for page in candidates]
hits = reranker.rank(query, documents)
ranked = [candidates[hit["corpus_id"]] for hit in hits]
shown = [documents[hit["corpus_id"]] for hit in hits]
place = 1 + ranked.index(right)
margin = hits[0]["score"] - hits[1]["score"]
run.record("reranker/first-example/place", place)
run.record("reranker/first-example/margin", margin)
print(f"You saw the query's own page at place {place}. The first page leads the second by {margin:.3f}.")
captions = [f"score {hit['score']:.3f}" for hit in hits]
plots.gallery(query, shown, ranked, dev.relevant["q0"], captions=captions)

# %% [markdown]
# The last module is [LogitScore](https://sbert.net/docs/package_reference/cross_encoder/modules.html). It
# asks the language model for the next word after query and page. The **logit** says how much the model
# prefers *yes* to *no*. A sigmoid turns it into a score between 0 and 1. **Predict:** which logit gives a
# score of 0.5?

# %%
pairs = [(query, document) for document in shown]
values = reranker.predict(pairs)
logits = reranker.predict(pairs, activation_fn=torch.nn.Identity())
print(pd.DataFrame({"page": ranked, "logit": logits, "score": values}).round(3).to_string(index=False))
difference = (torch.sigmoid(torch.tensor(logits)) - torch.tensor(values)).abs().max().item()
run.record("reranker/sigmoid-difference", difference)
print(f"The sigmoid of the logits differs from the scores by at most {difference:.1e}.")
print(f"So a logit of 0 gives a score of {torch.sigmoid(torch.tensor(0.0)).item()}.")

# %% [markdown]
# One query proves nothing. Each row of the data also has **look-alikes**, pages easily mistaken for the right
# one. We count how often the right page comes first among them.
#
# Documents may be texts, pages, or dictionaries with both. So we also give one look-alike together with the
# query's own words. **Predict:** does this wrong page then beat the right one more often?

# %%
columns = [column for column in rows.column_names if column == "image" or column.startswith("negative_")]
firsts, plain, worded = [], [], []
for row in rows.select(range(min(ROWS or 40, len(rows)))):
    documents = [row[column] for column in columns]
    documents += [{"text": row["query"], "image": row[columns[1]]}]
    values = reranker.predict([(row["query"], document) for document in documents], batch_size=8)
    firsts.append(float(values[:-1].argmax() == 0))
    plain.append(float(values[1] > values[0]))
    worded.append(float(values[-1] > values[0]))
interval = evaluation.bootstrap(firsts, SEED)
more = evaluation.paired_bootstrap(plain, worded, SEED)
run.record("right-first/reranker", interval)
run.record("wrong-page-wins/more-with-the-query-s-words", more)
run.save()
print(f"Share of queries with the right page first: {interval}; by guessing {1 / len(columns):.2f}.")
print(f"The look-alike beats the right page for {sum(plain):.0f} of {len(plain)} queries,", end=" ")
print(f"and with the query's words for {sum(worded):.0f}. The share changes by {more}.")
if plain == worded:
    print("You saw no query change sides. So this interval has no width;", end=" ")
    print("it does not prove that words never matter.")
else:
    verdict = "cannot" if more.low <= 0 <= more.high else "can"
    print(f"So these queries {verdict} distinguish this change from zero.")

# %% [markdown]
# ## Three questions
#
# **1.** A raw VLM in `SentenceTransformer` searches badly, without an error. What do you check first?
#
# - a) the pooling
# - b) the batch size
# - c) the prompts
#
# <details><summary>Answer</summary>
#
# **a.** Without `modules.json`, the library takes the mean of all tokens for a Qwen3-VL. Not b: the batch size
# decides time and memory. Not c: a raw VLM was trained without prompts for search.
#
# </details>
#
# **2.** A page of 896 x 1152 pixels must fit an area of 448 x 576. How many image tokens does it become?
#
# - a) 63
# - b) 252
# - c) 1,008
#
# <details><summary>Answer</summary>
#
# **b.** Both sides are halved: 448 / 32 = 14 across, 576 / 32 = 18 down. Not a: 63 tokens fill only 224 x
# 288. Not c: those are patches, four to a token.
#
# </details>
#
# **3.** For one query, your reranker gives a page 0.9, and another reranker gives another page 0.8. What follows?
#
# - a) the first page is the better answer
# - b) the first page answers the query with a probability of 90%
# - c) nothing yet
#
# <details><summary>Answer</summary>
#
# **c.** Compare scores only if one model gave both. Not a: each model has its own scale. Not b: nobody has
# checked that scores are probabilities.
#
# </details>

# %% [markdown]
# ## You have
# - loaded a ready model and a raw one, and measured what the default pooling costs
# - followed a page to one vector, pooled by hand, and computed image tokens before a run
# - found the modalities in the parts of the processor, and set the pixel budget, dtype and attention
# - ranked pages with a reranker, read its logits, and added words to a page
#
# **Next**: lesson 02 gives a model every kind of input. Lesson 09 trains rerankers.
