"""Reading: each image token names the word pieces that lie in its 32 x 32 px, as a softmax over a word table."""

import torch
import torch.nn.functional as F

from course_utils.maintain.standins.general_pages import GeneralPages


class Reading:
    """Which word pieces there are to read in a corpus, and how well image tokens read them."""

    def __init__(self, tokenizer, corpus: GeneralPages):
        known = sorted({w.lower() for words in corpus.words for w, _ in words if any(c.isalpha() for c in w)})
        found = tokenizer(known, add_special_tokens=False)["input_ids"]
        pieces = {word: [p for p in parts if p > 7] for word, parts in zip(known, found, strict=True)}
        self.ids = torch.tensor(sorted({p for parts in pieces.values() for p in parts}))
        column = {int(p): k for k, p in enumerate(self.ids)}
        self.columns_of = {word: [column[p] for p in parts] for word, parts in pieces.items()}

    def loss(self, seen: torch.Tensor, table: torch.Tensor, scale: torch.Tensor, targets: list[dict[int, set[int]]]):
        """Cross entropy of the image tokens with words in them, and the share whose best guess is one of them.

        `seen` is (pictures * tokens, width), `table` (vocabulary, width); `targets` tells the columns of each picture's tokens.
        """
        each = len(seen) // len(targets)
        at = [n * each + token for n, found in enumerate(targets) for token in found]
        wanted = torch.zeros(len(at), len(self.ids))
        for row, columns in enumerate(c for found in targets for c in found.values()):
            wanted[row, list(columns)] = 1
        logits = scale * F.normalize(seen[at], dim=-1) @ F.normalize(table[self.ids], dim=-1).T
        loss = F.cross_entropy(logits, wanted / wanted.sum(1, keepdim=True))
        return loss, wanted.gather(1, logits.argmax(1, keepdim=True)).mean().item()
