#!/usr/bin/env python3
"""Makes tiny-faces/: a model that finds faces with the weights that facenet-pytorch has, and makes vectors of them with
a network of its form that is sixteen times narrower and has random weights; pictures; and in expected.json what
facenet-pytorch (PyTorch) says about them.

    python3 worker/engine/golden/make_tiny_faces.py worker/engine/golden/tiny-faces

Needs what scripts/faces-from-facenet-pytorch.py needs, scikit-image for a photograph, and pillow before version 13, as
make_tiny_clip.py does and for the same reason. The engine's tests compare every number.

    python3 worker/engine/golden/make_tiny_faces.py --full FOLDER

makes FOLDER/full, with a network of real width and random weights (100 MB), for the test of real sizes:

    cargo test -p stoker-engine --lib face_finder -- --ignored    # with FOLDER = .cache/models/faces
"""

import functools
import importlib.util
import json
import pathlib
import shutil
import sys
from importlib.metadata import distribution

import numpy as np
import PIL
import torch
from facenet_pytorch import MTCNN, InceptionResnetV1, fixed_image_standardization
from facenet_pytorch.models import inception_resnet_v1 as reference
from facenet_pytorch.models.utils.detect_face import extract_face
from PIL import Image, ImageEnhance
from skimage import data

HERE = pathlib.Path(__file__).parent
NARROWER = 16

# Names of pictures, and the smallest faces that are looked for on them. Those of tiny-clip have no faces.
LOOKS = [("astronaut.webp", 20), ("astronaut.webp", 60), ("crowd.webp", 20), ("crowd.webp", 33),
         ("../../tiny-clip/images/wide.png", 12), ("../../tiny-clip/images/tall.png", 20)]

NOTICE = """The photograph in images/ is of Eileen Collins, by NASA, in the public domain (https://flic.kr/p/r9qvLn); crowd.webp is
made of it.

The weights in model.safetensors whose names begin with pnet, rnet and onet are those of facenet-pytorch {version}
(https://github.com/timesler/facenet-pytorch), under this license:

"""


def folders():
    """The script that makes folders of models."""
    path = HERE / "../../../scripts/faces-from-facenet-pytorch.py"
    spec = importlib.util.spec_from_file_location("folders", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def narrow(layer, *sizes, **settings):
    """A layer with fewer channels; what is no number of channels stays."""
    first, second, *rest = sizes
    return layer(first if first == 3 else first // NARROWER, second // NARROWER, *rest, **settings)


def narrow_network():
    """The reference's code, with fewer channels in each layer that it makes."""
    layers = reference.nn

    class Narrow:
        def __getattr__(self, name):
            return getattr(layers, name)

        Conv2d = staticmethod(functools.partial(narrow, layers.Conv2d))
        Linear = staticmethod(functools.partial(narrow, layers.Linear))

        @staticmethod
        def BatchNorm2d(channels, **settings):
            return layers.BatchNorm2d(channels // NARROWER, **settings)

        @staticmethod
        def BatchNorm1d(channels, **settings):
            return layers.BatchNorm1d(channels // NARROWER, **settings)

    reference.nn = Narrow()
    try:
        return InceptionResnetV1()
    finally:
        reference.nn = layers


def seeded(network):
    """Random weights that make different vectors of different faces."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ".bn." in name or name.startswith("last_bn"):
                parameter.copy_(torch.rand(parameter.shape, generator=generator) * 0.8
                                + (0.6 if name.endswith("weight") else -0.4))
        # The batch norms learn what is usual from noise, as in training.
        network.train()
        for module in network.modules():
            if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
                module.momentum = None
        for _ in range(3):
            noise = torch.rand((8, 3, 10, 10), generator=generator) * 2 - 1
            network(torch.nn.functional.interpolate(noise, size=160, mode="bilinear"))
    return network.eval()


def pictures(folder):
    folder.mkdir(parents=True)
    photo = Image.fromarray(data.astronaut()).crop((96, 0, 352, 240))
    save = dict(lossless=True, quality=100, method=6)
    photo.save(folder / "astronaut.webp", **save)
    head = photo.crop((56, 24, 216, 200))
    crowd = Image.new("RGB", (420, 240), (70, 80, 95))
    for (x, y), side, change in [
        ((10, 20), 150, lambda it: it),
        ((170, 10), 100, lambda it: it.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        ((180, 120), 110, lambda it: ImageEnhance.Brightness(it).enhance(0.6)),
        ((300, 20), 64, lambda it: it.rotate(10, Image.Resampling.BICUBIC, fillcolor=(70, 80, 95))),
        ((300, 130), 80, lambda it: ImageEnhance.Contrast(it).enhance(1.5)),
        # At the edge of the image.
        ((375, 60), 90, lambda it: it),
    ]:
        crowd.paste(change(head).resize((side, side * 11 // 10), Image.Resampling.BICUBIC), (x, y))
    crowd.save(folder / "crowd.webp", **save)


def rounded(numbers, digits=4):
    return [round(float(number), digits) for number in np.asarray(numbers).reshape(-1)]


def look(detector, recognizer, image, margin):
    """The faces of an image, the largest first, and their vectors."""
    try:
        boxes, probabilities, points = detector.detect(image, landmarks=True)
    except RuntimeError:
        # It cannot say of a picture that there is nothing to look at.
        boxes = None
    faces = []
    for box, probability, five in zip(boxes, probabilities, points) if boxes is not None else []:
        box = np.asarray(box, dtype=np.float64)
        face = fixed_image_standardization(extract_face(image, box, 160, margin))
        with torch.no_grad():
            vector = recognizer(face.unsqueeze(0))[0]
        faces.append({"box": rounded(box), "probability": round(float(probability), 6),
                      "landmarks": rounded(np.asarray(five, dtype=np.float64)), "vector": rounded(vector, 7)})
    return faces


def one(folder, recognizer, settings, images):
    detector = MTCNN(keep_all=True, device="cpu")
    folders().save(folder, detector, recognizer, settings)
    expected = []
    for name, smallest in LOOKS:
        detector.min_face_size = smallest
        image = Image.open(images / name).convert("RGB")
        faces = look(detector, recognizer, image, settings["margin"])
        expected.append({"file": name, "smallest": smallest, "faces": faces})
        for face in faces:
            print(name, smallest, face["box"], face["probability"], face["vector"][:3])
        print(name, smallest, len(faces), "faces")
    made_with = {"torch": torch.__version__, "facenet-pytorch": distribution("facenet-pytorch").version,
                 "pillow": PIL.__version__}
    document = json.dumps({"made_with": made_with, "looks": expected}, separators=(",", ":"))
    (folder / "expected.json").write_text(document.replace('{"file"', '\n{"file"') + "\n")


def license_text():
    """What the package says of its license."""
    package = distribution("facenet-pytorch")
    [path] = [path for path in package.files if path.name == "LICENSE.md"]
    return NOTICE.format(version=package.version) + path.locate().read_text()


def main():
    if int(PIL.__version__.split(".")[0]) >= 13:
        sys.exit(f"pillow is {PIL.__version__}, and has to be before 13")
    # Each network begins with numbers of its own.
    torch.manual_seed(7)
    if sys.argv[1] == "--full":
        network = seeded(InceptionResnetV1())
        one(pathlib.Path(sys.argv[2]) / "full", network, {"margin": 0}, HERE / "tiny-faces" / "images")
        return
    root = pathlib.Path(sys.argv[1])
    shutil.rmtree(root, ignore_errors=True)
    pictures(root / "images")
    settings = {"channels": 32 // NARROWER, "dimensions": 512 // NARROWER, "margin": 14}
    one(root, seeded(narrow_network()), settings, root / "images")
    (root / "NOTICE").write_text(license_text())
    (root / "model.safetensors").chmod(0o644)


if __name__ == "__main__":
    main()
