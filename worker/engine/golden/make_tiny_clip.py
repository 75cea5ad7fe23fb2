#!/usr/bin/env python3
"""Makes the folders of tiny-clip/: small CLIP models with random weights, as transformers (PyTorch) saves them, and in
expected.json what it says about the pictures of tiny-clip/images, which are made here, too.

    python3 worker/engine/golden/make_tiny_clip.py worker/engine/golden/tiny-clip

Needs torch, transformers, numpy, and pillow before version 13: it resizes rows first, as all did that CLIP was trained
with, while 13 chooses, which changes pictures. Torchvision must not be there: it would resize them in another way.
The engine's tests compare every number.
"""

import hashlib
import json
import pathlib
import shutil
import sys

import numpy as np
import PIL
import torch
import transformers
from PIL import Image, ImageOps
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

CORPUS = ["a photo of a cat", "This is a photo of a dog.", "a blurry picture of the sea", "red and blue squares"] * 9

TEMPLATE = "This is a photo of {}."

# Labels of a job, and the template that it names.
QUESTIONS = [
    (["cat", "dog"], TEMPLATE),
    (["red squares", "the sea", "Größe \U0001f98a", "x"], "a blurry picture of {}"),
    (["only one"], "{}"),
]


def picture(width, height, channels=3):
    """A pattern of all frequencies that the engine's tests can make as well."""
    y, x, c = np.mgrid[0:height, 0:width, 0:channels]
    return ((x * 7 + y * 13 + c * 29) ^ (x * y // 8)).astype(np.uint8)


def write_pictures(folder):
    folder.mkdir(parents=True)
    save = lambda image, name, **options: image.save(folder / name, **options)
    rgb = lambda width, height: Image.fromarray(picture(width, height))
    save(rgb(100, 61), "wide.png")
    save(rgb(33, 90), "tall.png")
    save(rgb(7, 5), "small.png")
    save(rgb(32, 32), "exact.png")
    save(Image.fromarray(picture(45, 40, 4), "RGBA"), "transparent.png")
    save(Image.fromarray(picture(50, 38, 1)[:, :, 0], "L"), "gray.png")
    save(rgb(40, 44).quantize(16), "palette.png")
    save(rgb(60, 45), "lossless.webp", lossless=True)
    smooth = Image.fromarray(picture(12, 9)).resize((96, 72), Image.Resampling.BICUBIC)
    save(smooth, "photo.jpg", quality=90)
    save(smooth, "photo.webp", quality=90)
    turned = Image.Exif()
    turned[0x0112] = 6
    save(smooth, "turned.jpg", quality=90, exif=turned)
    frames = [rgb(24, 30).quantize(16), rgb(30, 24).resize((24, 30)).quantize(16)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:], duration=100)


def tokenizer():
    """CLIP's own kind, with few words."""
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    trainer = trainers.BpeTrainer(vocab_size=90, end_of_word_suffix="</w>", show_progress=False)
    trained.train_from_iterator([text.lower() for text in CORPUS], trainer)
    merges = [tuple(merge) for merge in json.loads(trained.to_str())["model"]["merges"]]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = letters + [letter + "</w>" for letter in letters] + ["".join(merge) for merge in merges]
    words = list(dict.fromkeys(words)) + ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: index for index, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=20)


TEXT = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, max_position_embeddings=20)
VISION = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40)

# Name, what differs in both towers, in the text's, in the pictures'; the pictures' size before and after it is cut.
MODELS = [
    # As OpenAI's: its files name the wrong token for the end.
    ("openai", dict(hidden_act="quick_gelu"), dict(eos_token_id=2), dict(image_size=32, patch_size=8),
     dict(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})),
    # As OpenCLIP's.
    ("laion", dict(hidden_act="gelu"), {}, dict(image_size=28, patch_size=14),
     dict(size={"shortest_edge": 40}, crop_size={"height": 28, "width": 28}, resample=2,
          image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.25, 0.3])),
    # Not cut, but squeezed.
    ("squeezed", dict(hidden_act="gelu"), {}, dict(image_size=24, patch_size=8),
     dict(size={"height": 24, "width": 24}, do_center_crop=False)),
]


def seeded(words, both, text, vision):
    end = len(words) - 1
    ids = dict(bos_token_id=end - 1, eos_token_id=end, pad_token_id=end, vocab_size=len(words))
    config = CLIPConfig(text_config={**TEXT, **ids, **both, **text}, vision_config={**VISION, **both, **vision},
                        projection_dim=12)
    torch.manual_seed(7)
    model = CLIPModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "logit_scale":
                parameter += torch.randn_like(parameter) * 0.25
    return model


def cut(processor, image):
    """Bytes of the picture as it is before it becomes numbers."""
    return processor(image, do_rescale=False, do_normalize=False)["pixel_values"][0]


def load(path):
    # As the pipelines of transformers load it.
    return ImageOps.exif_transpose(Image.open(path)).convert("RGB")


def rounded(numbers):
    return [round(float(number), 8) for number in numbers]


def one(root, name, both, text, vision, sizes):
    folder = root / name
    words = tokenizer()
    model = seeded(words, both, text, vision)
    processor = CLIPImageProcessorPil(**sizes)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    processor.save_pretrained(folder)
    pictures = []
    for path in sorted((root / "images").iterdir()):
        image = load(path)
        pixels = cut(processor, image)
        values = processor(image, return_tensors="pt")["pixel_values"]
        answers = []
        with torch.no_grad():
            features = model.get_image_features(pixel_values=values).pooler_output[0]
            for labels, template in QUESTIONS:
                # One at a time: the reference must not depend on padding.
                logits = [model(pixel_values=values, **words(template.replace("{}", label), return_tensors="pt"))
                          .logits_per_image[0, 0] for label in labels]
                scores = torch.stack(logits).softmax(-1)
                answers.append({"labels": labels, "template": template, "scores": rounded(scores)})
        pictures.append({"file": path.name, "pixels": pixels.astype(np.uint8).tobytes().hex(),
                         "features": rounded(features / features.norm()), "answers": answers})
    write_expected(folder, pictures)


def digests(root):
    """What real sizes become: digests only, since the engine's tests can make the pictures."""
    usual = CLIPImageProcessorPil()
    sizes = [(640, 480), (375, 500), (224, 224), (1023, 301), (100, 80), (225, 224)]
    lines = []
    for width, height in sizes:
        pixels = cut(usual, Image.fromarray(picture(width, height)))
        digest = hashlib.sha256(np.ascontiguousarray(pixels.astype(np.uint8)).tobytes()).hexdigest()
        lines.append({"width": width, "height": height, "sha256": digest})
    (root / "digests.json").write_text(json.dumps(lines, separators=(",", ":")).replace("},", "},\n") + "\n")


def write_expected(folder, pictures):
    made_with = {"torch": torch.__version__, "transformers": transformers.__version__, "pillow": PIL.__version__}
    document = json.dumps({"made_with": made_with, "pictures": pictures}, separators=(",", ":"))
    (folder / "expected.json").write_text(document.replace('{"file"', '\n{"file"') + "\n")


def emptied_root():
    """The folder that was asked for, with nothing in it."""
    if int(PIL.__version__.split(".")[0]) >= 13:
        sys.exit(f"pillow is {PIL.__version__}, and has to be before 13")
    root = pathlib.Path(sys.argv[1])
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    return root


def main():
    root = emptied_root()
    write_pictures(root / "images")
    for model in MODELS:
        one(root, *model)
    digests(root)


if __name__ == "__main__":
    main()
