#!/usr/bin/env python3
"""Makes the folders of tiny-siglip/: small SigLIP models with random weights, as transformers (PyTorch) saves them, and
in expected.json what it says about the pictures of tiny-clip/images.

    python3 worker/engine/golden/make_tiny_siglip.py worker/engine/golden/tiny-siglip

Needs what make_tiny_clip.py needs, for the same reasons. The engine's tests compare every number.
"""

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, SiglipConfig, SiglipModel
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from make_tiny_clip import CORPUS, QUESTIONS, emptied_root, load, rounded, write_expected

POSITIONS = 40

# What a trainer could find; it finds something else each time.
PIECES = ["\u2581a", "\u2581of", "\u2581photo", "\u2581the", "\u2581this", "\u2581is", "\u2581cat", "\u2581dog", "\u2581sea",
          "\u2581pic", "ture", "\u2581blur", "ry", "\u2581red", "\u2581and", "\u2581blue", "\u2581squ", "are", "es", "s"]


def tokenizer(pad):
    """SigLIP's own kind, with few words: in small letters, without punctuation, and no token where a text begins."""
    letters = sorted({letter for text in CORPUS for letter in text.lower() if letter.isalpha()} | {"\u2581"})
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(piece, -2.0 - index / 8) for index, piece in enumerate(PIECES)]
    pieces += [(letter, -8.0 - index / 8) for index, letter in enumerate(letters)]
    words = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    words.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(Regex(r"[!-/:-@\[-`{-~]"), ""),
         normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()])
    words.pre_tokenizer = pre_tokenizers.Metaspace()
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=POSITIONS, eos_token="</s>",
                                   unk_token="<unk>", pad_token=pad, model_input_names=["input_ids"])


TEXT = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=28,
            max_position_embeddings=POSITIONS)
VISION = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40)

# Name, the token that texts are filled up with, what differs in the text's network, in the pictures', and the pictures'
# processor.
MODELS = [
    # As Google's: what ends a text fills it up, too.
    ("base", "</s>", {}, dict(image_size=32, patch_size=8), dict(size={"height": 32, "width": 32})),
    # Networks of different widths, a token of its own for filling up, and patches that do not fill pictures, as in
    # Google's so400m-patch14-384.
    ("narrow", "<pad>", dict(hidden_size=16, projection_size=24), dict(image_size=30, patch_size=14),
     dict(size={"height": 30, "width": 30}, resample=2, image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.25, 0.3])),
]


def seeded(words, text, vision):
    config = SiglipConfig(text_config={**TEXT, "vocab_size": len(words), **text}, vision_config={**VISION, **vision})
    torch.manual_seed(7)
    model = SiglipModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn_like(parameter) * 0.25
        model.logit_scale.fill_(2.5)
        model.logit_bias.fill_(-0.75)
    return model


def one(root, name, pad, text, vision, sizes):
    folder = root / name
    words = tokenizer(pad)
    model = seeded(words, text, vision)
    processor = SiglipImageProcessorPil(**sizes)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    processor.save_pretrained(folder)
    pictures = []
    for path in sorted((root / "../tiny-clip/images").iterdir()):
        values = processor(load(path), return_tensors="pt")["pixel_values"]
        answers = []
        with torch.no_grad():
            features = model.get_image_features(pixel_values=values).pooler_output[0]
            for labels, template in QUESTIONS:
                texts = [template.replace("{}", label) for label in labels]
                ids = words(texts, padding="max_length", truncation=True, return_tensors="pt")
                logits = model(pixel_values=values, **ids).logits_per_image[0]
                answers.append({"labels": labels, "template": template, "scores": rounded(logits.sigmoid())})
        pictures.append({"file": path.name, "features": rounded(features / features.norm()), "answers": answers})
    write_expected(folder, pictures)


def main():
    root = emptied_root()
    for model in MODELS:
        one(root, *model)


if __name__ == "__main__":
    main()
