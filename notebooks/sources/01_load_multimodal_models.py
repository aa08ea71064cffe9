# %% [markdown]
# # 01 · Load multimodal models
#
# **You will be able to**
# - load an embedding model and a raw vision-language model, and say which modules each one got, and why it matters
# - ask a model what it takes, and say where the answer comes from
# - set pixels, dtype and attention, at load time or at call time, and say what each costs
# - let a reranker rank texts, pages and mixtures of the two
#
# **Time** tiny 1 min · t4 about 10 min · full about 10 min (the two on a GPU are estimates, not measured here)
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
import math
import time
from pathlib import Path

import pandas as pd
import torch
from datasets import load_dataset
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from sentence_transformers.util import load_file_path

from course_utils import evaluation, plots
from course_utils.checkpoints import checkpoint
from course_utils.corpus import build_corpus
from course_utils.dataset import prepare_dataset
from course_utils.exercises import check
from course_utils.profiles import load_profile
from course_utils.recording import Run

# %%
P = load_profile(PROFILE)
run = Run("01_load_multimodal_models", profile=PROFILE, seed=SEED)

# %% [markdown]
# ## 1. A ready embedding model
#
# A **multimodal embedding model** turns a text, or an image, into one vector, and puts both kinds into one space: a
# query lies near the page that answers it. `P` holds the settings of the profile; lines that begin with `run.` record
# figures for the report. `checkpoint` gives the folder of a small model that came with the course, its files checked;
# in the other profiles it gives the published name, and the library fetches that.
#
# What a folder of Sentence Transformers holds is written in `modules.json`: a list of modules that run one after
# another.

# %%
name = checkpoint(P.embedder)
modules = Path(load_file_path(name, "modules.json"))
for module in json.loads(modules.read_text(encoding="utf-8")):
    print(module["idx"], module["path"] or ".", module["type"].rsplit(".", 1)[-1])

# %%
kwargs = {"dtype": P.dtype, "attn_implementation": P.attention}
model = SentenceTransformer(name, device=device(), model_kwargs=kwargs)
model[0].processing_kwargs |= {"image": {"size": P.pixels}}
print("dimensions:", model.get_embedding_dimension())
print("smallest and largest area of an image, in pixels:", P.pixels)

# %% [markdown]
# **Transformer** reads the input and gives one vector for each of its tokens. **Pooling** makes one of them, here the
# last token's, which is the only one that has seen everything in a model that reads from left to right. **Normalize**
# makes its length one, so that a dot product is a cosine.
#
# Now a query against the pages of the dev split, which `build_corpus` collects from the rows, each once.
# `encode_query` and `encode_document` are one method with two prompts; this model has none, and lesson 02 shows what
# they are for. `ROWS` takes fewer rows.

# %%
dataset = prepare_dataset(P)
dev_data = load_dataset(dataset, P.dev_config, split=P.dev_split)
rows = dev_data.select(range(min(ROWS or len(dev_data), len(dev_data))))
dev = build_corpus(rows)
query_ids, page_ids = list(dev.queries), list(dev.corpus)
print(f"{len(query_ids)} queries, {len(page_ids)} pages")


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
# `P.raw_vlm` is a language model that looks at images and writes text. It has no `modules.json`: nobody said how to
# make one vector of it. `SentenceTransformer` loads it all the same. Predict: which modules will it get?

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
vectors = {"embedding-model": (query_vectors, page_vectors), "raw-vlm-mean": embed(raw)}
del raw  # on a GPU there is room for few such models at once

# %% [markdown]
# Two modules were added: Transformer and Pooling, with the **mean** of all tokens. No Normalize, no word of warning.
# That is a default, not a decision. For a model that reads from left to right, you would choose the last token, and
# you can: a model is a list of modules.

# %%
options = {"image": {"size": P.pixels}}
transformer = Transformer(raw_name, model_kwargs=kwargs, processing_kwargs=options)
pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="lasttoken")
last = SentenceTransformer(modules=[transformer, pooling], device=device())

vectors["raw-vlm-last-token"] = embed(last)
del last, transformer

# %%
intervals = {}
for which, (queries, pages) in vectors.items():
    scores = evaluation.per_query_ndcg(queries, pages, query_ids, page_ids, dev.relevant)
    intervals[which] = {"dev": evaluation.bootstrap(scores, SEED)}
    run.record(f"ndcg@10/dev/{which}", intervals[which]["dev"])
    print(f"{which:>20}: {intervals[which]['dev']}")
chance = evaluation.random_ceiling(query_ids, dev.relevant, len(page_ids)).mean()
run.record("ndcg@10/dev/chance", chance)
print(f"{'chance':>20}: {chance:.3f}")
figure = plots.systems(intervals, title="Three ways to one vector")
run.figure(
    "pooling", figure, "NDCG@10 on dev pages: the embedding model, a raw VLM with two poolings; intervals."
)
figure

# %% [markdown]
# The two raw lines are one network with two poolings. The distance between them is what the default costs.
#
# **In `tiny`** one thing flatters the raw model's last token: the small VLM and the small embedding model share their
# weights (see the model cards), so with the right pooling the raw one *is* the embedding model. A published raw VLM
# was never taught to compare, and stays low with any pooling until it is finetuned. Look at the mean, which nobody
# trained for.

# %% [markdown]
# ## 3. What does a model take?
#
# A **modality** is a kind of input. `modalities` lists them, `supports` answers for one or for a pair in one input,
# such as a page with its title.

# %%
asked = ["text", "image", "video", "audio", ("text", "image"), ("text", "audio")]
print(model.modalities)
names = [" + ".join(m) if isinstance(m, tuple) else m for m in asked]
answers = pd.DataFrame({"input": names, "supported": [model.supports(m) for m in asked]})
print(answers.to_string(index=False))

# %% [markdown]
# How does it know? From the **processor**, the part that turns inputs to tensors: a tokenizer stands for text, an
# image processor for images, a video processor for video, a feature extractor for audio, a chat template for
# messages. A pair is supported if the model takes each part, and messages, since the library writes a pair as one
# message.
#
# So take parts of the processor away, and ask the library again. Predict what is left with the tokenizer alone.

# %%
processor = model[0].processor
parts = {"whole-processor": processor, "tokenizer-alone": processor.tokenizer}
parts |= {"image-processor-alone": processor.image_processor}
for what, part in parts.items():
    found, _ = model[0].infer_modalities(model[0].model, part)
    print(f"{what:>22}: {list(found)}")
    run.record(f"modalities/{what}", len(found))

# %% [markdown]
# The network did not change; without its image processor it takes text, and messages made of text. If a model of yours
# "does not support images", look for a missing `processor_config.json` before you look anywhere else.

# %% [markdown]
# ### Exercise 1: what can go in?
# Write `unsupported(model, modalities)`: those of a list of modalities that the model does not take, in the list's
# order.
#
# *Hint: one question to `supports` for each.*


# %%
def unsupported(model, modalities: list) -> list:
    # <solution>
    return [modality for modality in modalities if not model.supports(modality)]
    # </solution>


check(
    "what a model does not take",
    [unsupported(model, asked), unsupported(model, ["text"])],
    [
        (lambda a: a[0] is not None, "give back a list: put your answer in place of `...`"),
        (lambda a: list(a[1]) == [], "text is supported, so nothing of ['text'] is left"),
        (lambda a: "audio" in a[0], "there is no feature extractor, so audio is not supported"),
        (lambda a: ("text", "audio") in a[0], "a pair needs both of its parts"),
        (lambda a: list(a[0]) == asked[3::2], "only what contains audio is left, in the order of the list"),
    ],
)

# %% [markdown]
# ## 4. Load time and call time
#
# Three dictionaries tell a model how to work:
#
# | what | when | to whom |
# | --- | --- | --- |
# | `model_kwargs` | load | the network: `dtype`, `attn_implementation` |
# | `processor_kwargs` | load | the processor: what is then written into its files when you save |
# | `processing_kwargs` | call | the processor, for one call, or for all if set on the module |
#
# The **pixel budget** matters most. Qwen3-VL shrinks an image until its area is at most `longest_edge`, which despite
# its name is an area, and spends one token on every 32x32 pixels that fit. Predict: with a quarter of the pixels,
# what happens to tokens, and to seconds?

# %%
pages = [dev.image(page) for page in page_ids[:24]]


def budget(area):
    """Processor arguments for images of at most `area` pixels."""
    return {"image": {"size": P.pixels | {"longest_edge": int(area)}}}


def image_tokens_of(features):
    return int(features["image_grid_thw"].prod()) // 4  # patches of 16x16, four to a token


# %%
lines = []
for area in (P.longest_edge // 16, P.longest_edge // 4, P.longest_edge // 2, P.longest_edge):
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
figure = plots.cost_of_pixels(table)
run.figure(
    "pixels", figure, "Image tokens and milliseconds a page by pixel budget: both grow with the pixels."
)
figure

# %% [markdown]
# Tokens grow with pixels, but not quite in step: each side is cut down to whole tokens, and small pages lose most by
# it. Seconds grow too; what is left at few pixels is opening and shrinking the page. What few pixels do to the
# *score* is lesson 08's plot. The budget above was given **at call time**, and each call had its own. At **load
# time** it becomes the processor's, and the clean way to keep one is the attribute that we set at the top.

# %%
small = budget(P.longest_edge // 4)["image"]  # {"size": {...}}
loaded = SentenceTransformer(name, device=device(), model_kwargs=kwargs, processor_kwargs=small)
at_load = loaded.preprocess(pages[:1])
at_call = loaded.preprocess(pages[:1], processing_kwargs=budget(P.longest_edge))
print(f"processor_kwargs, at load: {image_tokens_of(at_load)} image tokens")
print(f"processing_kwargs, at call: {image_tokens_of(at_call)} image tokens")
del loaded

# %% [markdown]
# The call wins over the load. Whatever you choose, **train and search with the same budget**: a model that learned to
# read large print does not read small print. The old names `min_pixels` and `max_pixels` still load, with a warning,
# and stick in the saved files, where they overrule a later `size` without a word.

# %% [markdown]
# ### Exercise 2: tokens before you run
# A page is `width` x `height` pixels. If its area exceeds the budget, both sides are divided by the same factor
# √(area / budget), then cut down to a multiple of 32; one token is 32x32 pixels. Write `image_tokens`. (Pages within
# the budget are rounded instead, which we leave out: the function is for pages that are too large.)
#
# *Hint: `math.floor(side / factor / 32)` is the number of tokens along one side.*


# %%
def image_tokens(width: int, height: int, area: int) -> int:
    # <solution>
    factor = math.sqrt(width * height / area)
    return math.floor(width / factor / 32) * math.floor(height / factor / 32)
    # </solution>


areas = (60_000, 30_000)
ours = [image_tokens(*pages[0].size, area) for area in areas] + [image_tokens(1654, 2339, 600 * 600)]
library = [image_tokens_of(model.preprocess(pages[:1], processing_kwargs=budget(area))) for area in areas]
scan = "an A4 scan of 1654x2339 pixels has 15 x 22 tokens within 600x600: the root of area by budget"
check(
    "image tokens",
    ours,
    [
        (lambda a: a[0] is not None, "give back a number: put your answer in place of `...`"),
        (lambda a: all(n == int(n) for n in a), "give a whole number"),
        (lambda a: a[2] == 330, f"{scan}, then each side cut down"),
        (lambda a: a[:2] == library, "the processor comes to another number of tokens"),
    ],
)

# %% [markdown]
# ### dtype, and attention
#
# What does a model weigh, and in which numbers does it compute? Predict: without `dtype`, do you get float32, torch's
# default?

# %%
unset = SentenceTransformer(name, device="cpu")
for which, loaded in {"unset": unset, P.dtype: model}.items():
    weights = list(loaded.parameters())
    print(f"dtype {which}: {weights[0].dtype}, {sum(w.nbytes for w in weights) / 2**20:.0f} MiB")
    run.record(f"bytes/parameter/{which}", weights[0].element_size())
del unset

# %% [markdown]
# Unset means *as the files are stored*, here bfloat16; on a CPU the library warns, above. That halves the memory, and
# on a processor without bfloat16 units it is slower; finetuning all weights in it loses small updates. So on a CPU
# ask for float32, on a modern GPU for bfloat16, and on a T4, which has none, for float16.
#
# **Attention** has several implementations with the same results. The fastest need a GPU and a package of their own,
# so code that has to run anywhere asks for the best and falls back.


# %%
def load_with(attentions: list[str]) -> SentenceTransformer:
    """The model with the first of the attention implementations that this machine has."""
    for attention in attentions:
        options = {"dtype": P.dtype, "attn_implementation": attention}
        try:
            return SentenceTransformer(name, device=device(), model_kwargs=options)
        except ImportError as error:
            print(f"{attention}: not here ({str(error).splitlines()[0][:70]}…)")
    raise ImportError(f"none of {attentions} works here")


def vectors_with(attentions):
    loaded = load_with(attentions)
    print("runs with:", loaded[0].model.config._attn_implementation)
    return loaded.encode(list(dev.queries.values())[:8], convert_to_tensor=True).float()


# %%
fast, slow = vectors_with(["kernels-community/flash-attn2", "sdpa"]), vectors_with(["eager"])
difference = (fast - slow).abs().max().item()
print(f"largest difference from eager attention: {difference:.1e}")
run.record("attention/difference", difference)

# %% [markdown]
# `sdpa` is part of torch and runs everywhere, on a T4 too. `eager` writes the formula out; it is the slowest, and the
# one to debug with.
#
# ## 5. A reranker
#
# An embedding model never sees query and page together. A **reranker**, a `CrossEncoder`, does: one pass for each pair,
# one score out. It is slow, so it gets a few candidates. `rank` takes a query and documents, and `predict` takes pairs.
# Documents may be of any kind that the model supports, side by side.

# %%
reranker = CrossEncoder(checkpoint(P.reranker), device=device(), model_kwargs=kwargs)
reranker[0].processing_kwargs |= {"image": {"size": P.pixels}}
print(" > ".join(type(module).__name__ for module in reranker), "|", reranker.modalities)

# %%
query, right = dev.queries["q0"], min(dev.relevant["q0"])
others = [page for page in top if page != right][:2]
documents = [
    dev.image(others[0]),
    "A page on coffee, without any figures.",
    dev.image(right),
    {"text": query, "image": dev.image(others[1])},
]
kinds = ["another page", "a text", "the right page", "the query's own words on another page"]
print(f"\n{query}")
for hit in reranker.rank(query, documents):
    print(f"{hit['score']:.3f}  {kinds[hit['corpus_id']]}")

# %% [markdown]
# Scores lie between 0 and 1, since a sigmoid closes the model. It ends in **LogitScore**: the language model is asked
# for its next word after query and document, and the score is how much rather it would say *yes* than *no*. `predict`
# gives the same for pairs, and with the identity in place of the sigmoid the bare difference of the two logits.

# %%
pairs = [(query, document) for document in documents]
scores = reranker.predict(pairs)
logits = reranker.predict(pairs, activation_fn=torch.nn.Identity())
print(pd.DataFrame({"document": kinds, "logit": logits, "score": scores}).round(3).to_string(index=False))
difference = (torch.sigmoid(torch.tensor(logits)) - torch.tensor(scores)).abs().max().item()
run.record("reranker/sigmoid-difference", difference)

# %% [markdown]
# So much for one query. Now each dev query with its own page and the look-alikes that its row of the data set brings
# along: how often is the right page first?

# %%
columns = [name for name in rows.column_names if name == "image" or name.startswith("negative_")]
firsts = []
for row in rows.select(range(min(ROWS or 40, len(rows)))):
    values = reranker.predict([(row["query"], row[column]) for column in columns], batch_size=8)
    firsts.append(float(values.argmax() == 0))
interval = evaluation.bootstrap(firsts, SEED)
run.record("right-first/reranker", interval)
run.save()
print(f"The right page first among {len(columns)}: {interval}; by guessing {1 / len(columns):.2f}")

# %% [markdown]
# Is the mixture with the query's own words above or below the right page? A model that reads only words falls for it.
# And is the right page on top? A small reranker can be wrong about one query, and here it may even put the coffee
# above a page. One query is an anecdote; the share over all of them, with its interval, is the figure. In `tiny`, the
# reranker met these wordings for the first time. Lesson 09 trains rerankers, and measures when they are worth their
# seconds.
#
# **Watch out**: a score of 0.9 is not a probability until somebody has checked (*calibration*), and scores of two
# models do not compare.

# %% [markdown]
# ## You have
# - loaded a ready model and a raw one, and measured what the default pooling of the raw one does to the score
# - asked for modalities, and found them in the parts of the processor
# - set pixels at load and at call time, met the dtype that "unset" means, and fallen back in attention
# - ranked texts, pages and a mixture with a reranker, and read its logits
#
# **Next**: lesson 02 gives a model every kind of input there is, and looks at where the vectors land.
