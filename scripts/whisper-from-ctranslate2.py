#!/usr/bin/env python3
"""Turns a folder with a Whisper model of CTranslate2 (model.bin, config.json, tokenizer.json) into one as transformers
saves it: config.json, generation_config.json and model.safetensors, the same numbers under other names.

    scripts/whisper-from-ctranslate2.py DIRECTORY

Needs nothing but Python. What is joined in one file is taken apart: queries, keys and values.
"""

import json
import pathlib
import struct
import sys

FLOAT16 = 4
HEAD_WIDTH = 64
BANDS = 80


def variables(path):
    """Names with shape and bytes, as `Model::load` of CTranslate2 reads them."""
    data, at = memoryview(path.read_bytes()), 0

    def read(form):
        nonlocal at
        (value,) = struct.unpack_from(form, data, at)
        at += struct.calcsize(form)
        return value

    def text():
        nonlocal at
        length = read("<H")
        at += length
        return bytes(data[at - length:at]).rstrip(b"\0").decode()

    version, spec = read("<I"), text()
    if (version, spec) != (6, "WhisperSpec"):
        raise SystemExit(f"{path} is version {version} of {spec}, expected 6 of WhisperSpec")
    read("<I")
    found = {}
    for _ in range(read("<I")):
        name = text()
        shape = [read("<I") for _ in range(read("<B"))]
        kind, size = read("<B"), read("<I")
        if kind == FLOAT16:
            found[name] = (shape, data[at:at + size])
        at += size
    return found


def rows(variable, begin, end):
    shape, data = variable
    row = len(data) // shape[0]
    return [end - begin, *shape[1:]], data[begin * row:end * row]


def tensors(found):
    """The same under the names of transformers."""
    made = {}
    hidden = found["decoder/embeddings/weight"][0][1]

    def norm(source, target):
        made[f"{target}.weight"], made[f"{target}.bias"] = found[f"{source}/gamma"], found[f"{source}/beta"]

    def linear(source, target):
        made[f"{target}.weight"], made[f"{target}.bias"] = found[f"{source}/weight"], found[f"{source}/bias"]

    def parts(source, target, names):
        for place, name in enumerate(names):
            span = place * hidden, (place + 1) * hidden
            made[f"{target}.{name}_proj.weight"] = rows(found[f"{source}/weight"], *span)
            if name != "k":
                made[f"{target}.{name}_proj.bias"] = rows(found[f"{source}/bias"], *span)

    for name in ("conv1", "conv2"):
        linear(f"encoder/{name}", f"model.encoder.{name}")
    made["model.decoder.embed_tokens.weight"] = found["decoder/embeddings/weight"]
    for side in ("encoder", "decoder"):
        made[f"model.{side}.embed_positions.weight"] = found[f"{side}/position_encodings/encodings"]
        norm(f"{side}/layer_norm", f"model.{side}.layer_norm")
        index = 0
        while f"{side}/layer_{index}/ffn/linear_0/weight" in found:
            source, target = f"{side}/layer_{index}", f"model.{side}.layers.{index}"
            parts(f"{source}/self_attention/linear_0", f"{target}.self_attn", "qkv")
            linear(f"{source}/self_attention/linear_1", f"{target}.self_attn.out_proj")
            norm(f"{source}/self_attention/layer_norm", f"{target}.self_attn_layer_norm")
            if side == "decoder":
                parts(f"{source}/attention/linear_0", f"{target}.encoder_attn", "q")
                parts(f"{source}/attention/linear_1", f"{target}.encoder_attn", "kv")
                linear(f"{source}/attention/linear_2", f"{target}.encoder_attn.out_proj")
                norm(f"{source}/attention/layer_norm", f"{target}.encoder_attn_layer_norm")
            linear(f"{source}/ffn/linear_0", f"{target}.fc1")
            linear(f"{source}/ffn/linear_1", f"{target}.fc2")
            norm(f"{source}/ffn/layer_norm", f"{target}.final_layer_norm")
            index += 1
    return made


def write_safetensors(path, made):
    header, at = {}, 0
    for name in sorted(made):
        shape, data = made[name]
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in sorted(made):
            file.write(made[name][1])


def configs(folder, made):
    ids = {token["content"]: token["id"]
           for token in json.loads((folder / "tokenizer.json").read_text())["added_tokens"]}
    given = json.loads((folder / "config.json").read_text())
    vocabulary, hidden = made["model.decoder.embed_tokens.weight"][0]
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    config = {"model_type": "whisper", "vocab_size": vocabulary, "d_model": hidden, "num_mel_bins": BANDS,
              "activation_function": "gelu", "decoder_start_token_id": start, "eos_token_id": end,
              "max_source_positions": made["model.encoder.embed_positions.weight"][0][0],
              "max_target_positions": made["model.decoder.embed_positions.weight"][0][0]}
    for side in ("encoder", "decoder"):
        config[f"{side}_layers"] = sum(name.startswith(f"model.{side}.layers.") and name.endswith("fc1.bias")
                                       for name in made)
        config[f"{side}_attention_heads"] = hidden // HEAD_WIDTH
        config[f"{side}_ffn_dim"] = made[f"model.{side}.layers.0.fc1.bias"][0][0]
    generation = {"is_multilingual": vocabulary >= 51865, "no_timestamps_token_id": ids["<|notimestamps|>"],
                  "suppress_tokens": given["suppress_ids"], "begin_suppress_tokens": given["suppress_ids_begin"]}
    return config, generation


def main(folder):
    made = tensors(variables(folder / "model.bin"))
    config, generation = configs(folder, made)
    write_safetensors(folder / "model.safetensors", made)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    (folder / "generation_config.json").write_text(json.dumps(generation) + "\n")
    (folder / "model.bin").unlink()


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
