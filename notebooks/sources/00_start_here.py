# %% [markdown]
# # 00 · Start here
#
# **You will be able to**
# - check that this machine is ready, and fix what is not
# - choose the profile that fits your hardware and your time
# - search 1,500 page images with a query of your own, and see the end result of the course first
# - work in these notebooks: parameters, exercises, checks, solutions, and how to continue after a stop
#
# **Time** tiny 1 min · t4 1 min · full 1 min (and two minutes more the first time, to draw the pages)
#
# **Learning time** about 35 min
#
# **Memory** tiny 1.2 GB · t4 1.2 GB · full 1.2 GB
#
# **Read first** nothing

# %% tags=["parameters"]
PROFILE = "tiny"
SEED = 0
ROWS = 0

# %%
from course_utils.machine import quiet

quiet()  # drops library messages that ask nothing of you

import ipywidgets as widgets
import numpy as np
from datasets import load_dataset
from sentence_transformers import SentenceTransformer

from course_utils import evaluation, finetuned, overview, plots
from course_utils.checkpoints import checkpoint
from course_utils.corpus import build_corpus
from course_utils.dataset import page_table, prepare_dataset
from course_utils.exercises import check
from course_utils.profiles import load_profile
from course_utils.recording import Run

run = Run("00_start_here", profile=PROFILE, seed=SEED)

# %% [markdown]
# ## What you will build
#
# A model that looks at **page images**, such as charts, tables and scans, and finds the one that answers a question.
# No text is recognised (OCR). You take a model for text and images, train it further (*finetune* it) with [Sentence
# Transformers](https://sbert.net), and measure what it gained.
#
# On any laptop, the cells train a **stand-in**: a small model that comes with the course, of the same classes as
# `Qwen3-VL-Embedding-2B`. If you change one word, they train the published model on a GPU.
#
# ![A query and page images go through one embedding model. Each becomes a vector. The pages are ranked by their cosine
# with the query, the largest first.](images/00_search.svg)
#
# ## 1. Is this machine ready?
#
# `check_setup` looks at everything that lessons rely on. Each line says **OK**, **WARN** (lessons run, but read it)
# or **FAIL** (some will not run), and an arrow names the command that fixes it. In a terminal, `course check` prints
# the same.

# %%
setup = overview.check_setup(PROFILE)
for status in ("OK", "WARN", "FAIL"):
    run.record(f"checks/{status.lower()}", setup.count(status))
print(setup)

# %% [markdown]
# **Read it** from the top, since the first fault often causes the next. Two lines need an explanation:
#
# - `packages`: the figures in this course were measured with the versions in `requirements.lock`. Other versions
#   often work, so they give only a WARN.
# - `checkpoints`: each file of a stand-in has a SHA-256, a number computed from its bytes. If it differs, the download
#   is damaged.
#
# **Watch out** `No module named course_utils` means that Jupyter runs another Python: start it with `make lab`.
#
# ## 2. Which profile?
#
# A profile is a set of values: which model, which data, how many rows, which batch sizes. The code stays the same.

# %%
overview.profile_table()

# %%
overview.lesson_table()

# %% [markdown]
# The minutes of `tiny` are for two CPU cores; those of `t4` and `full` are estimates, since these two have not been
# run for this course. Begin with `tiny`, even if you have a GPU: it takes minutes.
#
# **On a GPU** set `PROFILE` in a notebook's second cell, or `course run 07 --profile full`.

# %% [markdown]
# ### Exercise 1: choose
# Write the name of the profile that you will start with on this machine.
#
# <details><summary>Hint</summary>
#
# The check's line `profile` recommends one, and the smallest runs everywhere.
#
# </details>

# %%
# <solution> stub: my_profile = ...
my_profile = "tiny"
# </solution>
check(
    "a profile for this machine",
    my_profile,
    [
        (lambda a: isinstance(a, str), "write its name in quotes"),
        (lambda a: a in overview.profile_table(), "the columns of the table above are the profiles"),
        (lambda a: a in setup.fits, "this machine has no GPU of that size: see the table's first row"),
    ],
)

# %% [markdown]
# ## 3. The result first
#
# The pages show real figures of The World Factbook (2015), drawn as statistical offices publish them, some as tilted,
# noisy scans. `prepare_dataset` draws them: **two minutes the first time**, seconds afterwards.
# [`load_dataset`](https://huggingface.co/docs/datasets/loading) loads them, with the same columns as the published data.
# (In `t4` and `full`, too, this lesson uses the pages and the result of `tiny`.)

# %%
tiny = load_profile("tiny")
dataset = prepare_dataset(tiny)
test_data = load_dataset(dataset, "eval", split="train")
test = build_corpus(test_data)
run.record("queries", len(test.queries))
run.record("pages", len(test.corpus))
scans = page_table(tiny).loc[list(test.corpus), "scan"].mean()
print(f"{len(test.queries)} queries over {len(test.corpus)} pages, {scans:.0%} of them scans")

# %%
row = test_data[0]
columns = ["image", "negative_0", "negative_1", "negative_2", "negative_3"]
captions = ["the answer", *columns[1:]]
plots.pages_row([row[column] for column in columns], captions, title=f"query: “{row['query']}”")

# %% [markdown]
# You saw one query, the page that answers it, and four look-alikes that make the search hard: the same country on other
# topics, and the same topic for other countries.
#
# A model turns each page and each query into a vector, its **embedding**. Lesson 07 finetunes the stand-in. It saves
# the vectors of all these pages and queries twice: **before** finetuning and **after** it. If you have run lesson 07,
# `finetuned.finetuned` reads your vectors. If not, it reads those that come with the course, and results made from
# them are labelled **precomputed**.

# %%
vectors = finetuned.finetuned("tiny")
assert vectors.query_ids == list(test.queries) and vectors.page_ids == list(test.corpus)
run.record("precomputed", int(vectors.label == "precomputed"))
print(f"vectors: {vectors.label or 'your own, from lesson 07'}")
print(f"before: queries {tuple(vectors.queries_before.shape)}, pages {tuple(vectors.pages_before.shape)}")

# %% [markdown]
# A search takes the dot product of the query's vector and each page's. The vectors have length one, so this is a cosine.
# The page with the largest one comes first. Change `my_query` and run the cell again. Name a country, and ask
# for something like prices, exports, ages, languages, roads or electricity. Not every country has a page on each topic.

# %%
my_query = "the languages that people speak in Bolivia"
kwargs = {"dtype": tiny.dtype, "attn_implementation": tiny.attention}
model = SentenceTransformer(vectors.model or checkpoint(tiny.embedder), model_kwargs=kwargs)
when = "after" if vectors.model else "before"  # your own finetuned model, if lesson 07 has made one
query_vectors, page_vectors = getattr(vectors, f"queries_{when}"), getattr(vectors, f"pages_{when}")
again = model.encode_query(test.queries["q0"], convert_to_tensor=True).cpu()
assert (again - query_vectors[0]).abs().max() < 1e-2, "these vectors are of another model"

asked = model.encode_query(my_query, convert_to_tensor=True).cpu()
found = [vectors.page_ids[k] for k in (page_vectors @ asked).topk(5).indices]
shown = page_table(tiny).loc[found]
captions = (shown["country"] + ": " + shown["topic"]).tolist()
title = vectors.title(f"{when} finetuning: “{my_query}”")
plots.pages_row([test.image(page) for page in found], captions, title=title)

# %% [markdown]
# Now the test query that finetuning helped most, first with the base model (the model before finetuning). Predict: do
# its wrong pages share the country with the right page, the topic, or neither?

# %%
ids = vectors.query_ids, vectors.page_ids
before = evaluation.per_query_ndcg(vectors.queries_before, vectors.pages_before, *ids, test.relevant)
after = evaluation.per_query_ndcg(vectors.queries_after, vectors.pages_after, *ids, test.relevant)
number = int(np.argmax(after - before))  # or any other from 0 to 299
query = vectors.query_ids[number]


# %%
def top_five(query_vectors, page_vectors):
    similarity = page_vectors @ query_vectors[number]
    return [vectors.page_ids[k] for k in similarity.topk(5).indices]


def show(found, when):
    shown, images = page_table(tiny).loc[found], [test.image(page) for page in found]
    captions, title = shown["country"] + ": " + shown["topic"], vectors.title(f"{when} finetuning")
    return plots.gallery(test.queries[query], images, found, test.relevant[query], title, captions)


found = top_five(vectors.queries_before, vectors.pages_before)
figure = show(found, "before")
run.figure("top_five_before", figure, "The five pages that the base model puts first for one query.")
figure

# %%
right = min(test.relevant[query])
wrong = page_table(tiny).loc[[page for page in found if page != right]]
answer = page_table(tiny).loc[right]
same = {name: int((wrong[name] == answer[name]).sum()) for name in ("country", "topic")}
topics = wrong["topic"].value_counts()
print(f"You saw {len(wrong)} wrong pages. {same['country']} share the country of the right page,", end=" ")
print(f"{same['topic']} its topic. Their most frequent topic is “{topics.index[0]}”", end=" ")
print(f"({topics.iloc[0]} of {len(wrong)}); the right page is on “{answer['topic']}”.")
figure = show(top_five(vectors.queries_after, vectors.pages_after), "after")
run.figure("top_five_after", figure, "The five pages that the finetuned model puts first for the same query.")
figure

# %% [markdown]
# In a running notebook, the next cell shows a box. Choose a test query or type your own words, and press Enter. Your
# own words have an "after" only once you have run lesson 07.

# %%
numbers = {text: k for k, text in enumerate(test.queries.values())}
embedders = {when: model}
if when == "after":
    embedders["before"] = SentenceTransformer(checkpoint(tiny.embedder), model_kwargs=kwargs)


def play(query):
    for side in ("before", "after"):
        if query in numbers:
            asked = getattr(vectors, f"queries_{side}")[numbers[query]]
        elif side in embedders:
            asked = embedders[side].encode_query(query, convert_to_tensor=True).cpu()
        else:
            continue
        found = [vectors.page_ids[k] for k in (getattr(vectors, f"pages_{side}") @ asked).topk(5).indices]
        shown, images = page_table(tiny).loc[found], [test.image(page) for page in found]
        captions, title = (shown["country"] + ": " + shown["topic"]).tolist(), f"{side} finetuning: “{query}”"
        display(plots.pages_row(images, captions, title=vectors.title(title)))


box = widgets.Combobox(
    value=test.queries[query], options=list(numbers), description="query", continuous_update=False
)
_ = widgets.interact(play, query=box)

# %% [markdown]
# One hand-picked query proves nothing, so we score all test queries.
#
# - **NDCG@10** is 1 if the right page comes first, smaller for each later rank, and 0 after rank 10.
# - The brackets are **95% intervals**: if we did this again with other samples of queries, about 95 of 100 such
#   intervals would hold the true mean.
#
# Predict: will the interval of the gain include zero?

# %%
count = ROWS or len(before)
intervals = {
    "before": evaluation.bootstrap(before[:count]),
    "after": evaluation.bootstrap(after[:count]),
    "gain": evaluation.paired_bootstrap(before[:count], after[:count]),
}
for name, interval in intervals.items():
    run.record(f"ndcg@10/{name}", interval)
    print(f"NDCG@10 {name:>6}: {interval}")
pair = intervals["before"], intervals["after"]
low, high = intervals["gain"].low, intervals["gain"].high
side = "lies above zero" if low > 0 else "lies below zero" if high < 0 else "includes zero: no gain is shown"
print(f"You saw that the interval of the gain {side}.")
figure = plots.before_after({"test": pair}, title=vectors.title("Before and after finetuning"))
run.figure("before_after", figure, "NDCG@10 before and after finetuning, with 95% intervals.")
run.save()
figure

# %% [markdown]
# **Read it**: the arrow goes from the base model to the finetuned one, and each bar is an interval. Lesson 07 trains
# that model, in minutes on a laptop. Lesson 08 shows where it gained, where it lost, and whether that could be luck.

# %% [markdown]
# ### Exercise 2: the rank of the right page
# Complete the function. `similarity` holds the cosines of one query with all pages; `right` is the position of the page
# that answers it. Return the page's rank: 1 for the largest cosine.
#
# <details><summary>Hint</summary>
#
# How many pages have a larger cosine than the right one?
#
# </details>


# %%
def rank_of(similarity: np.ndarray, right: int) -> int:
    # <solution>
    return int((similarity > similarity[right]).sum()) + 1
    # </solution>


cosines = np.array([0.2, 0.9, 0.5, 0.7])
check(
    "the rank of the right page",
    [rank_of(cosines, k) for k in range(4)],
    [
        (lambda a: None not in a, "not done yet: return a rank instead of `...`"),
        (lambda a: a[1] == 1, "the page with the largest cosine has rank 1"),
        (lambda a: a[0] == 4, "three pages stand before the one with the smallest cosine"),
        (lambda a: a == [4, 1, 3, 2], "count the pages that stand before it"),
    ],
)

# %% [markdown]
# ### Exercise 3: which result would convince you?
# Three colleagues each finetuned a model. These figures are made up:
#
# - A: one query's page went from rank 30 to rank 1
# - B: over 20 queries NDCG@10 went from 0.90 to 0.92, gain 0.02 [-0.03, 0.07]
# - C: over 500 queries it went from 0.90 to 0.92, gain 0.02 [0.01, 0.03]
#
# Whose result shows that finetuning helped?
#
# <details><summary>Hint</summary>
#
# Look at the interval of the gain, not at the size of the gain.
#
# </details>

# %%
# <solution> stub: convincing = ...
convincing = "C"
# </solution>
check(
    "which result convinces",
    convincing,
    [
        (lambda a: a in ("A", "B", "C"), "answer with one letter in quotes"),
        (lambda a: a != "A", "A: one query, chosen after the fact"),
        (lambda a: a == "C", "B: this interval includes zero"),
    ],
)

# %% [markdown]
# ## 4. How to work in these notebooks
#
# - **Run cells in order**, with Shift+Enter. Lessons run in any order.
# - **Predict** before you run a cell, and compare.
# - **Parameters** are in the second cell of each lesson. `ROWS` makes a lesson shorter, `SEED` changes the random
#   draws. From a terminal: `course run 07 -p ROWS 640`.
# - **Exercises** have a `...` for your answer, a hint, and a check. ✗ says what is wrong; ✓ means that your answer is
#   right. Nothing later depends on them, so you may skip any.
# - **Solutions** are in `notebooks/solutions`: the same notebooks, with the exercises filled in.
# - **Stopped half way?** `course run --resume` skips finished lessons and continues a training from its last
#   checkpoint; in a notebook, set `RESUME = True`.
# - **Where are my results?** In `build/`: figures, plots, your model, and after `course run` the report `index.html`.
#   `course clean` frees the disk space.
# - **Memory**: each open notebook keeps its model in memory. When you are done, shut down its kernel.
#
# Three kinds of notes: **Watch out** (a common mistake), **On a GPU** (what changes in `t4` and `full`), **Go
# deeper** (papers and documentation).

# %% [markdown]
# ## 5. The field's words
#
# | word | meaning |
# | --- | --- |
# | query, document | what is asked; what is searched, here a page image |
# | corpus | all documents that are searched |
# | embedding | a vector that stands for a text or an image; similar ones lie near each other |
# | cosine similarity | dot product of two vectors of length one; ranks the pages |
# | qrels | relevance judgements: which pages answer which query |
# | anchor, positive | a training query, and the page that answers it |
# | hard negative | a wrong page that looks right |
# | in-batch negative | another query's page in the same batch, wrong for this one |
# | loss | the number that training makes smaller |
# | NDCG@10 | score of the first ten ranks, 0 to 1, early ranks count more |
# | recall@k | of all relevant pages, the share within the first k ranks |
# | MRR | mean of 1 / rank of the first relevant page |
# | interval | how uncertain a mean is: of 100 such intervals, from other queries, about 95 hold the true mean |
# | slice | a part of the queries, such as those for scans |
# | VLM | vision-language model: reads images and text |
# | processor | turns images and text into the model's input |
# | pixel budget | largest area of an image; decides the number of image tokens |
# | pooling | makes one vector of many token vectors |
# | Matryoshka | training so that a vector's first components also work alone |
# | gradient caching | large batches in the memory of small ones |
# | LoRA | trains small added matrices instead of all weights |
# | reranker | reads query and page together; slower, more exact |
# | late interaction | one vector for each token, compared at search time |
# | Router | one model for text, another for images, joined |
# | stand-in | a small model made for this course, of the published class |

# %% [markdown]
# ## Three questions
#
# **1.** A plot is labelled "precomputed". What does that mean?
#
# - a) its figures are published ones · b) they come with the course, from a run of its code · c) they are estimates
#
# <details><summary>Answer</summary>
#
# **b.** After you run lesson 07, your own replace them. Not a: figures of others are labelled "published". Not c:
# estimates are labelled so.
#
# </details>
#
# **2.** What decides which page comes first?
#
# - a) the words that query and page share · b) the length of the page's vector · c) the cosine of their vectors
#
# <details><summary>Answer</summary>
#
# **c.** Not a: no text is read from the page, the model embeds its image. Not b: all vectors have length one.
#
# </details>
#
# **3.** The interval of a gain is [-0.01, 0.04]. What follows?
#
# - a) these queries cannot tell whether there is a gain · b) there is no gain · c) there is a gain of 0.015
#
# <details><summary>Answer</summary>
#
# **a.** Not b: a gain of 0.03 fits these queries, too. Not c: 0.015 is the middle of the interval, but a loss of 0.005
# also lies inside it.
#
# </details>

# %% [markdown]
# ## You have
# - checked this machine, and know which command fixes what
# - chosen a profile
# - searched with a query of your own, and seen what finetuning gained over all test queries
# - learned how parameters, exercises, checks, solutions and `--resume` work
#
# **Next**: lesson 01 loads the models. Lesson 07 finetunes, so that this result becomes your own.
