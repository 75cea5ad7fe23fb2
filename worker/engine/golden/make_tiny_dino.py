#!/usr/bin/env python3
"""Makes the folders of tiny-dino/: small DINOv2 models with random weights, as transformers (PyTorch) saves them, and in
expected.json what it says about the pictures of tiny-clip/images.

    python3 worker/engine/golden/make_tiny_dino.py worker/engine/golden/tiny-dino

Needs what make_tiny_clip.py needs, for the same reasons. The engine's tests compare every number.
"""

import torch
from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

from make_tiny_clip import emptied_root, load, rounded, write_expected

VISION = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, mlp_ratio=2, layerscale_value=0.5)
PLAIN = (Dinov2Config, Dinov2Model)
REGISTERS = (Dinov2WithRegistersConfig, Dinov2WithRegistersModel)

# Name, kind, what differs in its configuration; the pictures' size before and after they are cut.
MODELS = [
    # Pictures as large as in training.
    ("same", PLAIN, dict(image_size=32, patch_size=8), (40, 32)),
    # As all of Meta's, which are trained with pictures of 518 pixels and look at 224.
    ("smaller", PLAIN, dict(image_size=70, patch_size=10), (36, 30)),
    ("larger", PLAIN, dict(image_size=24, patch_size=8, use_swiglu_ffn=True), (44, 40)),
    ("registers", REGISTERS, dict(image_size=56, patch_size=8, num_register_tokens=3), (32, 24)),
]


def one(root, name, kind, config, sizes):
    folder = root / name
    of_config, of_model = kind
    torch.manual_seed(7)
    model = of_model(of_config(**VISION, **config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn_like(parameter) * 0.25
    resized, cut = sizes
    processor = BitImageProcessorPil(
        size={"shortest_edge": resized}, crop_size={"height": cut, "width": cut},
        image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    pictures = []
    for path in sorted((root / "../tiny-clip/images").iterdir()):
        values = processor(load(path), return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            vector = model(pixel_values=values).pooler_output[0]
        pictures.append({"file": path.name, "features": rounded(vector / vector.norm())})
    write_expected(folder, pictures)


def main():
    root = emptied_root()
    for model in MODELS:
        one(root, *model)


if __name__ == "__main__":
    main()
