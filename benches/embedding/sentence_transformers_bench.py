#!/usr/bin/env python3
"""Measures PyTorch sentence-transformers on the CPU or a GPU: the engine's comparator.

Prints one JSON object: sentences per second for each batch size (best of --rounds, everything from text to
vector included), the seconds from process start to the first vector, and the versions used. With --out, writes
the vectors of all sentences as little-endian f32, one after the other, for the engine's benchmark to compare.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="directory of the model")
    parser.add_argument("--corpus", required=True, help="text file, one sentence a line")
    parser.add_argument("--limit", type=int, default=0, help="use only the first N sentences")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", default="f32", choices=["f32", "tf32", "f16", "bf16"], help="on a GPU")
    parser.add_argument("--threads", type=int, default=0, help="threads of PyTorch (default: its own choice)")
    parser.add_argument("--batch-sizes", default="8,32,64", help="batch sizes to try")
    parser.add_argument("--rounds", type=int, default=2, help="passes over the corpus per batch size")
    parser.add_argument("--cold-starts", type=int, default=3, help="processes to start for the cold start")
    parser.add_argument("--out", help="file for the vectors")
    parser.add_argument("--first", help=argparse.SUPPRESS)
    return parser.parse_args()


def load(options):
    import torch
    from sentence_transformers import SentenceTransformer

    if options.threads:
        torch.set_num_threads(options.threads)
    model = SentenceTransformer(options.model, device=options.device)
    if options.precision == "tf32":
        torch.set_float32_matmul_precision("high")
    elif options.precision == "f16":
        model.half()
    elif options.precision == "bf16":
        model.bfloat16()
    return model


def read_corpus(options):
    lines = pathlib.Path(options.corpus).read_text(encoding="utf-8").splitlines()
    sentences = [line for line in lines if line.strip()]
    return sentences[: options.limit or None]


def throughput(model, sentences, batch_size, rounds):
    best = 0.0
    vectors = None
    for _ in range(rounds):
        start = time.perf_counter()
        vectors = model.encode(sentences, batch_size=batch_size, show_progress_bar=False)
        best = max(best, len(sentences) / (time.perf_counter() - start))
    return best, vectors


def cold_start(options, sentence):
    """Seconds until a fresh process has embedded one sentence; the best of a few."""
    command = [sys.executable, __file__, "--model", options.model, "--corpus", options.corpus, "--first", sentence]
    command += ["--threads", str(options.threads), "--device", options.device, "--precision", options.precision]
    best = float("inf")
    for _ in range(options.cold_starts):
        start = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            best = min(best, time.perf_counter() - start)
        if process.returncode:
            sys.exit(process.returncode)
    return best


def main():
    options = arguments()
    if options.first is not None:
        vector = load(options).encode([options.first])[0]
        print(len(vector), flush=True)
        return
    sentences = read_corpus(options)
    import sentence_transformers
    import torch
    import transformers

    model = load(options)
    model.encode(sentences[:64])
    rates, vectors = {}, None
    for size in map(int, options.batch_sizes.split(",")):
        rates[size], vectors = throughput(model, sentences, size, options.rounds)
    if options.out:
        vectors.astype("<f4").tofile(options.out)
    print(json.dumps({
        "sentences": len(sentences),
        "device": torch.cuda.get_device_name() if options.device == "cuda" else options.device,
        "precision": options.precision,
        "threads": torch.get_num_threads(),
        "sentences_per_second": {str(size): round(rate, 1) for size, rate in rates.items()},
        "best_sentences_per_second": round(max(rates.values()), 1),
        "cold_start_seconds": round(cold_start(options, sentences[0]), 3) if options.cold_starts else None,
        "versions": {
            "torch": torch.__version__,
            "sentence_transformers": sentence_transformers.__version__,
            "transformers": transformers.__version__,
        },
    }))


if __name__ == "__main__":
    main()
