#!/usr/bin/env python3
"""Makes the folders of tiny/: small models of the real architectures with random weights, as transformers (PyTorch)
saves them, and in expected.json what it says about texts of all kinds.

    python3 worker/engine/golden/make_tiny.py worker/engine/golden/tiny

Needs the environment that benches/embedding/README.md describes. The engine's tests compare every number.
"""

import json
import pathlib
import shutil
import sys
import tempfile

import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, Pooling, Transformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

HIDDEN, HEADS, LAYERS, WIDE = 16, 2, 2, 24

TEXTS = [
    "",
    " ",
    "a",
    "The quick brown fox jumps over the lazy dog.",
    "  Leading, trailing   and inner\tblanks\n count for some tokenizers.  ",
    "Größe, naïve façade and e\u0301",
    "素早い茶色の狐 \U0001f98a",
    "zero\u200bwidth and control \x00 \x01",
    "[CLS] <s> special </s> [SEP] tokens",
    "I hate this, and I love that!",
    "The text goes on and on, well past what the model reads. " * 4,
]

CORPUS = TEXTS + ["the fox and the dog love to read what they hate", "this and that goes on"] * 20


def word_piece():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=150, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")])
    return tokenizer, dict(pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")


ROBERTA_NAMES = dict(pad_token="<pad>", unk_token="<unk>", cls_token="<s>", sep_token="</s>", mask_token="<mask>",
                     bos_token="<s>", eos_token="</s>")


def byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer, ROBERTA_NAMES


def unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.UnigramTrainer(vocab_size=150, special_tokens=special, unk_token="<unk>")
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return tokenizer, ROBERTA_NAMES


def labels(*names):
    return dict(id2label=dict(enumerate(names)), label2id={name: index for index, name in enumerate(names)})


SHAPE = dict(hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=WIDE)
ROBERTA = dict(SHAPE, max_position_embeddings=34, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1)

# Name, class, tokenizer, tokens that the tokenizer's configuration allows, configuration.
CLASSIFIERS = [
    ("bert", transformers.BertForSequenceClassification, word_piece, 24,
     dict(SHAPE, max_position_embeddings=32, **labels("neutral", "joy, or so", "Ärger"))),
    ("distilbert", transformers.DistilBertForSequenceClassification, word_piece, None,
     dict(dim=HIDDEN, n_layers=LAYERS, n_heads=HEADS, hidden_dim=WIDE, max_position_embeddings=28,
          problem_type="multi_label_classification", **labels("toxic", "insult", "threat", "spam"))),
    ("roberta", transformers.RobertaForSequenceClassification, byte_level, 512, ROBERTA),
    ("xlm-roberta", transformers.XLMRobertaForSequenceClassification, unigram, None, dict(ROBERTA, **labels("flagged"))),
]


def seeded(model_class, config, tokenizer):
    config = model_class.config_class(**dict(config, vocab_size=tokenizer.get_vocab_size()))
    torch.manual_seed(7)
    model = model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn_like(parameter) * 0.3
    return model


def save(folder, model, tokenizer, names, max_length):
    shutil.rmtree(folder, ignore_errors=True)
    limit = {} if max_length is None else dict(model_max_length=max_length)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names, **limit)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return fast


def reads(config, max_length):
    """Tokens that the network has positions for, and the tokenizer allows."""
    offset = config.pad_token_id + 1 if "roberta" in config.model_type else 0
    return min(config.max_position_embeddings - offset, max_length or 10**9)


def expected(folder, texts):
    made_with = {"torch": torch.__version__, "transformers": transformers.__version__}
    text = json.dumps({"made_with": made_with, "texts": texts}, indent=None, separators=(",", ":"))
    (folder / "expected.json").write_text(text.replace('{"text"', '\n{"text"') + "\n")


def classifier(root, name, model_class, make_tokenizer, max_length, config):
    tokenizer, names = make_tokenizer()
    model = seeded(model_class, config, tokenizer)
    fast = save(root / name, model, tokenizer, names, max_length)
    most = reads(model.config, max_length)
    single = model.config.problem_type != "multi_label_classification" and model.config.num_labels > 1
    texts = []
    for text in TEXTS:
        # One at a time: the reference must not depend on padding.
        tokens = fast(text, truncation=True, max_length=most, return_tensors="pt")
        tokens.pop("token_type_ids", None)
        with torch.no_grad():
            logits = model(**tokens).logits[0]
        scores = logits.softmax(-1) if single else logits.sigmoid()
        count = int(tokens["attention_mask"].sum())
        truncated = len(fast(text)["input_ids"]) > most
        texts.append({"text": text, "tokens": count, "truncated": truncated,
                      "numbers": [round(float(score), 8) for score in scores]})
    expected(root / name, texts)


def embedder(root, name, prompts):
    """A sentence-transformers model in the manner of E5: XLM-RoBERTa, mean pooling, and prompts."""
    tokenizer, names = unigram()
    with tempfile.TemporaryDirectory() as folder:
        network = seeded(transformers.XLMRobertaModel, ROBERTA, tokenizer)
        save(folder, network, tokenizer, names, None)
        modules = [Transformer(folder, max_seq_length=30), Pooling(HIDDEN, "mean"), Normalize()]
        model = SentenceTransformer(modules=modules, prompts=prompts, device="cpu")
    shutil.rmtree(root / name, ignore_errors=True)
    model.save(str(root / name), create_model_card=False)
    texts = []
    for prompt, prefix in [(None, ""), *prompts.items()]:
        for text in TEXTS:
            # One at a time: the reference must not depend on padding.
            vector = model.encode([text], prompt_name=prompt)[0]
            tokens = int(model.tokenize([prefix + text])["attention_mask"].sum())
            texts.append({"text": text, "prefix": prefix, "tokens": tokens,
                          "numbers": [round(float(number), 8) for number in vector]})
    expected(root / name, texts)


def main():
    root = pathlib.Path(sys.argv[1])
    for one in CLASSIFIERS:
        classifier(root, *one)
    embedder(root, "e5", {"query": "query: ", "passage": "passage: "})


if __name__ == "__main__":
    main()
