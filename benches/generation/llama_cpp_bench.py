"""Prefill and decode speed of llama.cpp on a GGUF file, in tokens per second.

    python llama_cpp_bench.py --model FILE --prompt-tokens FILE --tokens N --threads N

The prompt is the one that `generation_bench` reports (`prompt_token_ids` of its result), so that both read and write the
same tokens. Greedy; the best of three rounds each. One JSON object on standard output.
"""

import argparse
import json
import time

from llama_cpp import Llama

ROUNDS = 3


def measure(model, prompt, tokens):
    """Seconds of the prefill and of so many tokens one after the other."""
    model.reset()
    start = time.perf_counter()
    model.eval(prompt)
    read = time.perf_counter()
    for _ in range(tokens):
        token = model.sample(temp=0.0)
        model.eval([token])
    return read - start, time.perf_counter() - read


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompt-tokens", required=True, help="a result of generation_bench")
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    with open(options.prompt_tokens, encoding="utf-8") as file:
        prompt = json.load(file)["prompt_token_ids"]
    model = Llama(
        model_path=options.model,
        n_ctx=2048,
        n_batch=512,
        n_threads=options.threads,
        n_threads_batch=options.threads,
        verbose=False,
    )
    rounds = [measure(model, prompt, options.tokens) for _ in range(ROUNDS)]
    prefill, decode = min(round[0] for round in rounds), min(round[1] for round in rounds)
    print(
        json.dumps(
            {
                "prompt_tokens": len(prompt),
                "prefill_tokens_per_second": len(prompt) / prefill,
                "generated_tokens": options.tokens,
                "decode_tokens_per_second": options.tokens / decode,
            }
        )
    )


if __name__ == "__main__":
    main()
