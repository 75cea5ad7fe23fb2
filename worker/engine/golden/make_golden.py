#!/usr/bin/env python3
"""Makes all-minilm-l6-v2.json: what sentence-transformers (PyTorch) says about texts of all kinds.

    python3 worker/engine/golden/make_golden.py .cache/models/all-minilm-l6-v2 \\
        > worker/engine/golden/all-minilm-l6-v2.json

Needs the environment that benches/embedding/README.md describes. The engine's tests compare every number.
"""

import json
import sys

import sentence_transformers
import torch
from sentence_transformers import SentenceTransformer

TEXTS = [
    "",
    " ",
    "\t\r\n",
    "a",
    "?",
    "...",
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of "
    "a wife.",
    "The quick brown fox jumps over the lazy dog.",
    "THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG.",
    "  Leading, trailing   and inner\tblanks\n are not words.  ",
    "One\nline\nafter\nanother",
    "How do I reset my password?",
    "I forgot my login, what now?",
    "3.14159 is not 22/7, and 1e-9 is not 0.",
    "SELECT name FROM users WHERE id = 42; -- comment",
    "fn main() { println!(\"{:?}\", vec![1, 2, 3]); }",
    "https://example.com/path?query=value&other=1#fragment",
    "user.name+tag@example.org",
    "Donaudampfschifffahrtsgesellschaftskapitän",
    "L'élève a reçu une très mauvaise note à l'école.",
    "Größe, Straße, naïve, façade, Ångström, e\u0301 and \u00e9",
    "Быстрая коричневая лиса прыгает через ленивую собаку.",
    "素早い茶色の狐がのろまな犬を飛び越える。",
    "敏捷的棕色狐狸跳过了懒狗。",
    "الثعلب البني السريع يقفز فوق الكلب الكسول.",
    "\U0001f98a jumps over \U0001f436 \U0001f469\u200d\U0001f4bb \U0001f1e9\U0001f1ea",
    "zero\u200bwidth\u00a0and\u2028separators\ufeff",
    "control \x00 \x01 \x7f characters",
    "[CLS] special [SEP] tokens [MASK] in the text [PAD] [UNK]",
    "supercalifragilisticexpialidocious " * 3 + "x" * 150,
    "word " * 254,
    "The text goes on and on, well past what the model reads. " * 60,
]


def main():
    model = SentenceTransformer(sys.argv[1], device="cpu")
    lengths = [int(model.tokenize([text])["attention_mask"].sum()) for text in TEXTS]
    # One at a time: the reference must not depend on padding.
    vectors = [model.encode([text])[0] for text in TEXTS]
    print(json.dumps({
        "made_with": {"torch": torch.__version__, "sentence_transformers": sentence_transformers.__version__},
        "texts": [
            {"text": text, "tokens": tokens, "embedding": [round(float(number), 8) for number in vector]}
            for text, tokens, vector in zip(TEXTS, lengths, vectors)
        ],
    }, indent=None, separators=(",", ":")).replace('{"text"', '\n{"text"'))


if __name__ == "__main__":
    main()
