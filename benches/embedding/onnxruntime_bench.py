#!/usr/bin/env python3
"""Measures ONNX Runtime on the CPU: what the engine's throughput is compared with besides PyTorch.

Exports the model's network to ONNX, then goes from text to vector as sentence-transformers does: sentences sorted by length,
batches padded to their longest, the mean of the tokens' vectors, normalized. Prints one JSON object: sentences per second for
each batch size, the best of --rounds. With --expect, also the least cosine with the vectors of sentence_transformers_bench.py.
"""

import argparse
import json
import pathlib
import tempfile
import time

import numpy
import onnxruntime
import torch
from transformers import AutoModel, AutoTokenizer

LONGEST = 256  # tokens: the model's sentence_bert_config.json


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="directory of the model")
    parser.add_argument("--corpus", required=True, help="text file, one sentence a line")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--batch-sizes", default="8,32", help="batch sizes to try")
    parser.add_argument("--rounds", type=int, default=2, help="passes over the corpus per batch size")
    parser.add_argument("--expect", help="file of vectors to compare with")
    return parser.parse_args()


class Network(torch.nn.Module):
    """The model, with its inputs in the order in which they are exported."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, token_type_ids):
        answer = self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        return answer.last_hidden_state


def export(directory, file):
    """The network with everything but the batch's shape fixed."""
    network = Network(AutoModel.from_pretrained(directory, attn_implementation="eager")).eval()
    ones = torch.ones(2, 8, dtype=torch.int64)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    free = {0: "batch", 1: "tokens"}
    torch.onnx.export(
        network,
        (ones, ones, torch.zeros_like(ones)),
        file,
        input_names=names,
        output_names=["vectors"],
        dynamic_axes={name: free for name in names + ["vectors"]},
        dynamo=False,
    )


def embed(session, tokenizer, sentences, size):
    order = sorted(range(len(sentences)), key=lambda index: -len(sentences[index]))
    vectors = [None] * len(sentences)
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        texts = [sentences[index] for index in batch]
        inputs = dict(tokenizer(texts, padding=True, truncation=True, max_length=LONGEST, return_tensors="np"))
        tokens = session.run(["vectors"], inputs)[0]
        mask = inputs["attention_mask"][:, :, None]
        means = (tokens * mask).sum(1) / mask.sum(1)
        means /= numpy.linalg.norm(means, axis=1, keepdims=True)
        for index, vector in zip(batch, means):
            vectors[index] = vector
    return numpy.stack(vectors)


def main():
    options = arguments()
    lines = pathlib.Path(options.corpus).read_text(encoding="utf-8").splitlines()
    sentences = [line for line in lines if line.strip()]
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    with tempfile.TemporaryDirectory() as folder:
        file = str(pathlib.Path(folder) / "model.onnx")
        export(options.model, file)
        session = onnxruntime.InferenceSession(file, settings, providers=["CPUExecutionProvider"])
        embed(session, tokenizer, sentences[:64], 8)
        rates, vectors = {}, None
        for size in map(int, options.batch_sizes.split(",")):
            best = 0.0
            for _ in range(options.rounds):
                start = time.perf_counter()
                vectors = embed(session, tokenizer, sentences, size)
                best = max(best, len(sentences) / (time.perf_counter() - start))
            rates[size] = best
    result = {
        "sentences": len(sentences),
        "threads": options.threads,
        "sentences_per_second": {str(size): round(rate, 1) for size, rate in rates.items()},
        "best_sentences_per_second": round(max(rates.values()), 1),
        "version": onnxruntime.__version__,
    }
    if options.expect:
        expected = numpy.fromfile(options.expect, dtype="<f4").reshape(len(sentences), -1)
        result["least_cosine"] = round(float((vectors * expected).sum(1).min()), 7)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
