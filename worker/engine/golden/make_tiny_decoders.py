#!/usr/bin/env python3
"""Makes the folders of tiny-decoders/: small language models of the real architectures with random weights, as
transformers (PyTorch) saves them and, one of them, as llama.cpp's converter lays a GGUF file out; and in expected.json
what transformers says about prompts: their tokens, the numbers after the last one, and what follows greedily.

    python3 worker/engine/golden/make_tiny_decoders.py worker/engine/golden/tiny-decoders

Needs torch, transformers, and the package `gguf`. The engine's tests compare every number.
"""

import json
import pathlib
import shutil
import sys

import gguf
import numpy
import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = ["The quick brown fox jumps over the lazy dog, and the dog sleeps on.", "Größe, naïve façade \U0001f98a",
          "Write one sentence about the sea and another about the ship.", "In 1815 there were 12345 of them."] * 20
TEXTS = ["The quick brown fox", "a", "Größe \U0001f98a 1815", "In 12345 ways, they'll say:\n\n  that's it " * 2]
CHATS = [[["user", "Write one sentence about the sea."]],
         [["system", " Be brief. "], ["user", "Hi"], ["assistant", "Hello!"], ["user", "And the ship?"]]]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'].strip() + "
            "'<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
NEW_TOKENS = 20
MARGIN = 2e-3
SHAPE = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
             max_position_embeddings=256, pad_token_id=0, bos_token_id=0, eos_token_id=2, attention_dropout=0.0)

# Name, class, what is special about it.
DECODERS = [
    ("llama", transformers.LlamaForCausalLM,
     dict(tie_word_embeddings=True, rope_parameters=dict(
         rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
         original_max_position_embeddings=64))),
    ("mistral", transformers.MistralForCausalLM, dict(sliding_window=8, head_dim=10, tie_word_embeddings=False)),
    ("qwen2", transformers.Qwen2ForCausalLM, dict(tie_word_embeddings=True)),
    ("qwen3", transformers.Qwen3ForCausalLM, dict(head_dim=16, tie_word_embeddings=False)),
]


def tokenizer():
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    words.decoder = decoders.ByteLevel()
    words.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=320, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return PreTrainedTokenizerFast(tokenizer_object=words, bos_token=SPECIAL[0], eos_token=SPECIAL[2],
                                   pad_token=SPECIAL[0], chat_template=TEMPLATE)


class TooClose(Exception):
    """Rounding could turn the choice of a token around: another seed is needed."""


def seeded(model_class, more, vocabulary, seed):
    config = model_class.config_class(**dict(SHAPE, vocab_size=vocabulary, **more))
    torch.manual_seed(seed)
    model = model_class(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter += torch.randn_like(parameter) * (0.1 if "norm" in name else 0.3)
    # Nothing is sampled, and nothing ends early.
    model.generation_config.do_sample = False
    return model


def greedy(model, ids):
    """Token by token, without a cache: slow, and nothing that could go wrong."""
    ids, found = list(ids), []
    for _ in range(NEW_TOKENS):
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1]
        best = torch.topk(logits, 2)
        if best.values[0] - best.values[1] < MARGIN:
            raise TooClose
        ids.append(int(best.indices[0]))
        found.append(ids[-1])
        if ids[-1] == SHAPE["eos_token_id"]:
            break
    return found


def expected(folder, model, words):
    prompts = []
    for text in TEXTS:
        prompts.append(({"text": text}, words(text, add_special_tokens=False)["input_ids"]))
    for chat in CHATS:
        messages = [dict(role=role, content=content) for role, content in chat]
        ids = words.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        prompts.append(({"chat": chat}, ids))
    entries = []
    for prompt, ids in prompts:
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1]
        entries.append(dict(prompt, tokens=ids, logits=[round(float(x), 5) for x in logits], greedy=greedy(model, ids)))
    made_with = {"torch": torch.__version__, "transformers": transformers.__version__}
    text = json.dumps({"made_with": made_with, "prompts": entries}, separators=(",", ":"))
    (folder / "expected.json").write_text(text.replace('{"text"', '\n{"text"').replace('{"chat"', '\n{"chat"') + "\n")


def neighbors(weights, heads):
    """Rows of queries or keys in the order in which GGUF files of the architecture `llama` turn them."""
    pairs = weights.shape[0] // heads // 2
    return weights.reshape(heads, 2, pairs, -1).swapaxes(1, 2).reshape(weights.shape)


def gguf_file(path, model, words):
    """As llama.cpp's converter writes it; gives the numbers that are left of the weights."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    vocabulary = json.loads(words.backend_tokenizer.to_str())["model"]
    names = [name for name, _ in sorted(vocabulary["vocab"].items(), key=lambda entry: entry[1])]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in vocabulary["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(names)
    writer.add_token_types([3 if name in SPECIAL else 1 for name in names])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(SHAPE["bos_token_id"])
    writer.add_eos_token_id(SHAPE["eos_token_id"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    kinds = [gguf.GGMLQuantizationType[name] for name in ("Q8_0", "Q4_0", "Q5_0", "F16", "Q5_1")]
    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
             "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
             "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    whole = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
             "lm_head.weight": "output.weight"}
    left = {}
    matrices = 0
    for name, tensor in model.state_dict().items():
        numbers = tensor.numpy().astype(numpy.float32)
        target = whole.get(name)
        if target is None:
            index, part = name.removeprefix("model.layers.").removesuffix(".weight").split(".", 1)
            target = f"blk.{index}.{names[part]}.weight"
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(target.split(".")[-2])
        kind = gguf.GGMLQuantizationType.F32
        if numbers.ndim == 2:
            kind = kinds[matrices % len(kinds)]
            matrices += 1
        stored = neighbors(numbers, heads) if heads else numbers
        data = gguf.quants.quantize(stored, kind)
        writer.add_tensor(target, data, raw_dtype=kind)
        # Rows are quantized each by itself, so their order makes no difference.
        left[name] = torch.tensor(gguf.quants.dequantize(gguf.quants.quantize(numbers, kind), kind).reshape(numbers.shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return left


def safetensors(folder, model, words):
    model.save_pretrained(folder)
    words.save_pretrained(folder)


def quantized(folder, model, words):
    model.load_state_dict(gguf_file(folder / "model.gguf", model, words))


def make(folder, model_class, more, save):
    words = tokenizer()
    for seed in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        model = seeded(model_class, more, len(words), seed)
        save(folder, model, words)
        try:
            return expected(folder, model, words)
        except TooClose:
            pass
    raise SystemExit(f"no seed is good for {folder}")


def main():
    root = pathlib.Path(sys.argv[1])
    for name, model_class, more in DECODERS:
        make(root / name, model_class, more, safetensors)
    plain = dict(tie_word_embeddings=False, rope_parameters=dict(rope_type="default", rope_theta=10000.0))
    make(root / "llama-gguf", transformers.LlamaForCausalLM, plain, quantized)


if __name__ == "__main__":
    main()
