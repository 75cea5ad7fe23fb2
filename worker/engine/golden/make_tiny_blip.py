#!/usr/bin/env python3
"""Makes the folders of tiny-blip/: small BLIP models with random weights, as transformers (PyTorch) saves them, and in
expected.json what it says about the pictures of tiny-clip/images that every decoder decodes to the same pixels.

    python3 worker/engine/golden/make_tiny_blip.py worker/engine/golden/tiny-blip

Needs torch, transformers, numpy, and pillow before version 13, as make_tiny_clip.py does and for the same reason.
Torchvision must not be there. The engine's tests compare every number and every token.

    python3 worker/engine/golden/make_tiny_blip.py --full FOLDER

makes FOLDER/full, one model of the size of Salesforce/blip-image-captioning-base (900 MB), for the test of real sizes:

    cargo test -p stoker-engine --test blip -- --ignored    # with FOLDER = .cache/models/blip
"""

import json
import pathlib
import shutil
import sys

import numpy as np
import PIL
import torch
import transformers
from PIL import Image, ImageOps
from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

# Pictures that are compressed with losses are decoded to colors that differ by a little.
LOSSY = ["photo.jpg", "turned.jpg", "photo.webp"]

# None: the model begins by itself.
PROMPTS = [None, "a picture of", "Größe, cats!"]

MAX_TOKENS = 12

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ",", ".", "!", "'", "a", "the", "picture", "photo", "of", "on",
         "cat", "dog", "sea", "red", "blue", "square", "grosse", "##s", "##ing", "##er", "walk", "look", "two", "and",
         "with", "in", "sit", "##t", "green", "small"]

TEXT = dict(hidden_size=20, num_hidden_layers=2, num_attention_heads=2, intermediate_size=28,
            max_position_embeddings=24)
VISION = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, hidden_act="gelu")

# Name, seed, what differs in the text's network, in the pictures', and the pictures' processor.
MODELS = [
    # As the base model of Salesforce, with networks of different widths as in its large one.
    ("base", 22, {}, dict(image_size=32, patch_size=8), dict(size={"height": 32, "width": 32})),
    # Words that are not those of the output.
    ("untied", 31, dict(layer_norm_eps=1e-5), dict(image_size=28, patch_size=14, layer_norm_eps=1e-6),
     dict(size={"height": 28, "width": 28}, resample=2, image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.25, 0.3])),
]


def tokenizer():
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    return BertTokenizer(vocab=vocabulary, do_lower_case=True, model_max_length=24)


def ids():
    """The first token is behind the tokenizer's words, as in Salesforce's models."""
    return dict(vocab_size=len(WORDS) + 2, bos_token_id=len(WORDS), sep_token_id=WORDS.index("[SEP]"), pad_token_id=0)


def seeded(name, seed, text, vision):
    # A wide network would make too much of numbers that are good for a narrow one.
    noise = 0.03 if name == "full" else 0.3
    tied = name != "untied"
    config = BlipConfig(text_config={**TEXT, **ids(), **text, "tie_word_embeddings": tied},
                        vision_config={**VISION, **vision}, tie_word_embeddings=tied)
    torch.manual_seed(seed)
    model = BlipForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn_like(parameter) * noise
        bias = model.text_decoder.cls.predictions.decoder.bias
        # Captions are made of words, and end now and then.
        bias[:WORDS.index("[MASK]") + 1] -= 9.0
        bias[len(WORDS):] -= 9.0
        bias[WORDS.index("[SEP]")] += 10.0
    return model


def load(path):
    # As the pipelines of transformers load it.
    return ImageOps.exif_transpose(Image.open(path)).convert("RGB")


def rounded(numbers):
    return [round(float(number), 6) for number in numbers]


def prompt_ids(words, model, prompt):
    """The prompt's tokens as `generate` begins with them."""
    begin = model.config.text_config.bos_token_id
    if prompt is None:
        return [begin]
    tokens = words(prompt)["input_ids"]
    assert tokens[0] == words.cls_token_id and tokens[-1] == words.sep_token_id
    return [begin] + tokens[1:-1]


def say(model, words, values, seen, prompt):
    begin = prompt_ids(words, model, prompt)
    first = torch.tensor([begin])
    numbers = model.text_decoder(input_ids=first, encoder_hidden_states=seen, is_decoder=True).logits[0, -1]
    given = {} if prompt is None else {key: value for key, value in words(prompt, return_tensors="pt").items()
                                       if key != "token_type_ids"}
    said = model.generate(pixel_values=values, max_new_tokens=MAX_TOKENS, do_sample=False, num_beams=1, **given)[0]
    said = said.tolist()
    assert said[:len(begin)] == begin, (said, begin)
    # The margin by which each token was chosen: a caption is a fact only where it is not within rounding.
    logits = model.text_decoder(input_ids=torch.tensor([said]), encoder_hidden_states=seen, is_decoder=True).logits[0]
    best = logits[len(begin) - 1:len(said) - 1].topk(2).values
    margin = float((best[:, 0] - best[:, 1]).min())
    ended = said[-1] == model.config.text_config.sep_token_id
    return {"prompt": prompt, "prompt_tokens": begin, "next": rounded(numbers), "tokens": said[len(begin):],
            "ended": ended, "margin": round(margin, 5), "text": words.decode(said[1:], skip_special_tokens=True)}


def one(root, pictures, name, seed, text, vision, sizes):
    folder = root / name
    words = tokenizer()
    model = seeded(name, seed, text, vision)
    processor = BlipImageProcessorPil(**sizes)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    processor.save_pretrained(folder)
    expected = []
    for path in pictures:
        values = processor(load(path), return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            seen = model.vision_model(pixel_values=values).last_hidden_state
            captions = [say(model, words, values, seen, prompt) for prompt in PROMPTS]
        rows = [rounded(row) for row in (seen[0, 0], seen[0, -1])]
        expected.append({"file": path.name, "rows": rows, "captions": captions})
    made_with = {"torch": torch.__version__, "transformers": transformers.__version__, "pillow": PIL.__version__}
    document = json.dumps({"made_with": made_with, "max_tokens": MAX_TOKENS, "pictures": expected},
                          separators=(",", ":"), ensure_ascii=False)
    (folder / "expected.json").write_text(document.replace('{"file"', '\n{"file"') + "\n")
    for picture in expected:
        for caption in picture["captions"]:
            print(name, picture["file"], caption["margin"], caption["ended"], caption["text"])


def main():
    if int(PIL.__version__.split(".")[0]) >= 13:
        sys.exit(f"pillow is {PIL.__version__}, and has to be before 13")
    pictures = sorted((pathlib.Path(__file__).parent / "tiny-clip" / "images").iterdir())
    pictures = [path for path in pictures if path.name not in LOSSY]
    if sys.argv[1] == "--full":
        text = dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072,
                    max_position_embeddings=512, vocab_size=30524)
        vision = dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072,
                      image_size=384, patch_size=16)
        few = [path for path in pictures if path.name in ["gray.png", "wide.png"]]
        one(pathlib.Path(sys.argv[2]), few, "full", 7, text, vision, {})
        return
    root = pathlib.Path(sys.argv[1])
    shutil.rmtree(root, ignore_errors=True)
    for model in MODELS:
        one(root, pictures, *model)


if __name__ == "__main__":
    main()
