"""Why a lesson failed, in one word, and what to do, in one sentence."""

ADVICE = {
    "memory": "Close other programs, or pass a smaller ROWS or batch size with `-p`.",
    "disk": "The disk is full: make room, then go on with `--resume`.",
    "network": "A file could not be fetched: check the connection, or use `--profile tiny`, which needs none.",
    "dependency": "A package is missing or of another version: install `requirements.lock` again.",
    "kernel": "The notebook's Python process ended by itself, most often for lack of memory: close other programs and "
    "run it again with `--resume`. If it never starts, install `requirements.lock` again, which brings ipykernel.",
    "timeout": "A cell took longer than its limit: run it again on a quieter machine with `--resume`.",
    "assertion": "A check in the lesson did not hold: open the notebook at this cell and compare the values.",
    "error": "Open the notebook at this cell: everything before it is there with its output.",
}

NETWORK = "ConnectionError ConnectError ConnectTimeout ReadTimeout OfflineModeIsEnabled LocalEntryNotFoundError"
NETWORK += " HfHubHTTPError HTTPError URLError gaierror"
# (class, names of errors, words in their messages), the first that fits
CLASSES = [
    ("disk", "", ("no space left on device", "disk quota exceeded")),
    ("memory", "MemoryError OutOfMemoryError", ("out of memory", "can't allocate memory", "cannot allocate memory")),
    ("timeout", "CellTimeoutError", ()),
    ("kernel", "DeadKernelError NoSuchKernel", ("kernel died", "kernel didn't respond")),
    ("dependency", "ImportError ModuleNotFoundError PackageNotFoundError", ()),
    ("network", NETWORK, ("couldn't connect to", "offline mode is enabled", "name resolution")),
    ("assertion", "AssertionError", ()),
]


def classify(name: str, message: str) -> tuple[str, str]:
    """Class of an error and one sentence of advice. A CourseError already says what to do."""
    if name == "CourseError":
        return "set-up", message
    text = message.lower()
    for kind, names, words in CLASSES:
        if name in names.split() or any(word in text for word in words):
            return kind, ADVICE[kind]
    return "error", ADVICE["error"]
