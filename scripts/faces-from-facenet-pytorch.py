#!/usr/bin/env python3
"""Makes a model's folder for face detection and face embedding out of what facenet-pytorch has.

    python3 scripts/faces-from-facenet-pytorch.py FOLDER [--recognizer 20180402-114759-vggface2.pt] [--margin PIXELS]

The three networks that find faces are in the package (MIT). The one that makes vectors is not: it is a file of the
package's releases, https://github.com/timesler/facenet-pytorch/releases/tag/v2.2.9, and without it the folder is for face
detection only. The margin is of the 160 pixels that a face is made, 0 as the package has it.

Needs torch, safetensors and facenet-pytorch, which asks for old versions of the others:

    pip install torch torchvision pillow requests tqdm safetensors && pip install --no-deps facenet-pytorch

Pickles run code when they are opened; torch reads these as weights only.
"""

import argparse
import json
import pathlib

import torch
from facenet_pytorch import MTCNN, InceptionResnetV1
from safetensors.torch import save_file

# Of training only.
LEFT_OUT = ("logits.", "num_batches_tracked")


def tensors(module, prefix=""):
    """A network's weights, each by its name."""
    state = module.state_dict().items()
    return {prefix + name: tensor.contiguous().float() for name, tensor in state
            if not any(part in name for part in LEFT_OUT)}


def save(folder, detector, recognizer=None, settings=None):
    """Writes a model's folder. `settings` are the recognizer's, where they are not the usual ones."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_type": "facenet",
              "detector": {"thresholds": detector.thresholds, "factor": detector.factor}}
    weights = tensors(detector)
    if recognizer is not None:
        config["recognizer"] = {"channels": 32, "dimensions": 512, "image_size": 160, "margin": 0, **(settings or {})}
        weights |= tensors(recognizer, "resnet.")
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--recognizer", type=pathlib.Path)
    parser.add_argument("--margin", type=int, default=0)
    arguments = parser.parse_args()
    recognizer = None
    if arguments.recognizer:
        recognizer = InceptionResnetV1(pretrained=None)
        state = torch.load(arguments.recognizer, weights_only=True, map_location="cpu")
        state = {name: tensor for name, tensor in state.items() if not name.startswith("logits.")}
        recognizer.load_state_dict(state)
    save(arguments.folder, MTCNN(device="cpu"), recognizer, {"margin": arguments.margin})


if __name__ == "__main__":
    main()
