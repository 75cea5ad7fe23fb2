#!/usr/bin/env python3
"""Makes the folders of tiny-whisper/: small speech-to-text models of the real architecture with random weights, as
transformers (PyTorch) saves them, two recordings, and in expected.json what transformers says about them: log-mel
features, the encoder's output, the decoder's numbers, and the tokens that follow under the rules of timestamps.

    python3 worker/engine/golden/make_tiny_whisper.py worker/engine/golden/tiny-whisper

Needs torch, transformers, and the programs flac, lame and oggenc. The engine's tests compare every number.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import wave

import numpy
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

CORPUS = ["The quick brown fox jumps over the lazy dog, and the dog sleeps on.", "Größe, naïve façade \U0001f98a",
          "Say one sentence about the sea and another about the ship.", "In 1815 there were 12345 of them."] * 20
WORDS = 300
RATE = 16_000
HOP = 160
SECONDS_OF_WINDOW = 2
POSITIONS = SECONDS_OF_WINDOW * 50
DECODER_POSITIONS = 44
MOST_TOKENS = DECODER_POSITIONS // 2
MAX_INITIAL_TIMESTAMP = 10
# Between the likeliest token and the next, and between the two sides of the rule about the sum of timestamps.
MARGIN = 5e-3
FRAMES_SHOWN = [0, 1, 2, 57, 103, 160, 198, 199]
ROWS_SHOWN = [0, 1, 33, 80, 99]
LANGUAGES = ["<|en|>", "<|de|>", "<|haw|>"]
NAMES = ["<|endoftext|>", "<|startoftranscript|>", *LANGUAGES, "<|translate|>", "<|transcribe|>", "<|startoflm|>",
         "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]

# Name, mel bins, whether it knows several languages, and the seed to begin with: the first one is taken with which no
# choice is close.
MODELS = [("multilingual", 80, True, 48), ("english", 128, False, 4)]


def recording(seconds, seed):
    """Syllables of a voice that rises and falls, between pauses: no speech, but shaped like it."""
    rng = numpy.random.default_rng(seed)
    time = numpy.arange(int(seconds * RATE)) / RATE
    pitch = 120 + 30 * numpy.sin(2 * numpy.pi * 0.7 * time + seed)
    phase = 2 * numpy.pi * numpy.cumsum(pitch) / RATE
    voice = sum(numpy.sin(n * phase) / n * (1 + numpy.sin(2 * numpy.pi * (1.3 + n / 7) * time)) for n in range(1, 12))
    loudness = numpy.clip(numpy.sin(2 * numpy.pi * 2.1 * time), 0, 1) ** 2
    sound = 0.08 * voice * loudness + 0.002 * rng.standard_normal(time.size)
    return numpy.round(numpy.clip(sound, -1, 1) * 32767).astype(numpy.int16)


def write_wav(path, samples):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.astype("<i2").tobytes())


def compress(target):
    """The short recording in the other formats."""
    wav = target / "short.wav"
    for command in [["flac", "--silent", "-o", target / "short.flac", wav],
                    ["lame", "--quiet", "-b", "48", wav, target / "short.mp3"],
                    ["oggenc", "--quiet", "-q", "4", "--serial", "1", "-o", target / "short.ogg", wav]]:
        subprocess.run(command, check=True)
    # Two hours and a second of silence in a few kilobytes.
    subprocess.run(["flac", "--silent", "--lax", "-b", "65535", "--force-raw-format", "--endian=little", "--sign=signed",
                    "--channels=1", "--bps=16", "--sample-rate=8000", "-o", target / "hours.flac", "-"],
                   input=bytes(2 * 8000 * 7201), check=True)


def tokenizer():
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    words.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=WORDS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    assert words.get_vocab_size() == WORDS
    words.add_special_tokens(NAMES)
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token=NAMES[0], bos_token=NAMES[0], pad_token=NAMES[0])


class TooClose(Exception):
    """Rounding could turn a choice around: another seed is needed."""


def seeded(words, bins, multilingual, seed):
    ids = {name: words.convert_tokens_to_ids(name) for name in NAMES}
    vocabulary = ids["<|notimestamps|>"] + 1 + POSITIONS + 1
    config = WhisperConfig(
        vocab_size=vocabulary, num_mel_bins=bins, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=48, max_source_positions=POSITIONS,
        max_target_positions=DECODER_POSITIONS, pad_token_id=ids["<|endoftext|>"], bos_token_id=ids["<|endoftext|>"],
        eos_token_id=ids["<|endoftext|>"], decoder_start_token_id=ids["<|startoftranscript|>"])
    torch.manual_seed(seed)
    model = WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "encoder.embed_positions" not in name:
                parameter += torch.randn_like(parameter) * (0.1 if "norm" in name else 0.25)
        # A transcript ends at times.
        model.model.decoder.embed_tokens.weight[ids["<|endoftext|>"]] *= 1.5
    settings = model.generation_config
    settings.is_multilingual = multilingual
    settings.no_timestamps_token_id = ids["<|notimestamps|>"]
    settings.max_initial_timestamp_index = MAX_INITIAL_TIMESTAMP
    settings.suppress_tokens = [5, 6, 7, *(ids[name] for name in NAMES[1:] if name != "<|notimestamps|>")]
    settings.begin_suppress_tokens = [words.convert_tokens_to_ids("Ġ"), ids["<|endoftext|>"]]
    settings.do_sample = False
    if multilingual:
        settings.lang_to_id = {name: ids[name] for name in LANGUAGES}
        settings.task_to_id = {"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]}
    return model, ids


def features(samples, bins):
    """Of a whole recording and a window of silence behind it."""
    extractor = WhisperFeatureExtractor(feature_size=bins, chunk_length=SECONDS_OF_WINDOW)
    sound = numpy.concatenate([samples / 32768.0, numpy.zeros(SECONDS_OF_WINDOW * RATE)]).astype(numpy.float32)
    made = extractor(sound, sampling_rate=RATE, padding="longest", truncation=False, return_tensors="pt")
    return made.input_features


def logits_of(model, encoded, tokens):
    with torch.no_grad():
        out = model(encoder_outputs=(encoded,), decoder_input_ids=torch.tensor([tokens]))
    return out.logits[0]


def ruled(model, ids, scores, found):
    """The numbers of the next token under the rules, and how far its choice is from another one."""
    settings, begin = model.generation_config, ids["<|notimestamps|>"] + 1
    scores = scores.clone().double()
    scores[settings.suppress_tokens] = -torch.inf
    if not found:
        scores[settings.begin_suppress_tokens] = -torch.inf
    scores[ids["<|notimestamps|>"]] = -torch.inf
    stamps = [token for token in found if token >= begin]
    last = bool(found) and found[-1] >= begin
    before = len(found) < 2 or found[-2] >= begin
    if last and before:
        scores[begin:] = -torch.inf
    elif last:
        scores[:ids["<|endoftext|>"]] = -torch.inf
    if stamps:
        scores[begin:stamps[-1] + (0 if last and not before else 1)] = -torch.inf
    if not found:
        scores[:begin] = -torch.inf
        scores[begin + MAX_INITIAL_TIMESTAMP + 1:] = -torch.inf
    shares = torch.log_softmax(scores, -1)
    together, best_text = shares[begin:].logsumexp(-1), shares[:begin].max()
    if abs(together - best_text) < MARGIN:
        raise TooClose
    if together > best_text:
        scores[:begin] = -torch.inf
        shares = torch.log_softmax(scores, -1)
    best = torch.topk(shares, 2)
    if best.values[0] - best.values[1] < MARGIN:
        raise TooClose
    return int(best.indices[0]), float(best.values[0])


def window(model, ids, encoded, prompt):
    """Token by token, without a cache: slow, and nothing that could go wrong."""
    found, shares = [], []
    for _ in range(MOST_TOKENS):
        token, share = ruled(model, ids, logits_of(model, encoded, prompt + found)[-1], found)
        shares.append(share)
        if token == ids["<|endoftext|>"]:
            break
        found.append(token)
    return found, sum(shares) / (len(found) + 1)


def segments_of(found, ids, frames, seek):
    """Segments in units of 20 ms from the recording's beginning, and by how many frames to go on."""
    begin = ids["<|notimestamps|>"] + 1
    stamp = [token >= begin for token in found]
    single = stamp[-2:] == [False, True]
    cuts = [i + 1 for i in range(len(found) - 1) if stamp[i] and stamp[i + 1]]
    made, offset = [], seek // 2
    if cuts:
        if single:
            cuts.append(len(found))
        last = 0
        for cut in cuts:
            made.append((offset + found[last] - begin, offset + found[cut - 1] - begin, found[last:cut]))
            last = cut
        step = frames if single else (found[last - 1] - begin) * 2
    else:
        stamps = [token for token in found if token >= begin]
        length = stamps[-1] - begin if stamps and stamps[-1] != begin else frames // 2
        made.append((offset, offset + length, found))
        step = frames
    return made, step


def transcript(model, ids, words, samples, bins, prompt):
    mel = features(samples, bins)
    content, seek, all_segments, windows = -(-len(samples) // HOP), 0, [], []
    while seek < content:
        frames = min(POSITIONS * 2, content - seek)
        with torch.no_grad():
            encoded = model.model.encoder(mel[:, :, seek:seek + POSITIONS * 2]).last_hidden_state
        found, share = window(model, ids, encoded, prompt)
        made, step = segments_of(found, ids, frames, seek)
        windows.append({"seek": seek, "tokens": found, "average": round(share, 5)})
        for start, end, tokens in made:
            text = words.decode([token for token in tokens if token < ids["<|endoftext|>"]])
            if start != end and text.strip():
                longest = len(samples) * 1000 // RATE
                all_segments.append({"start": min(start * 20, longest), "end": min(end * 20, longest), "text": text})
        seek += step
    return windows, all_segments


def same_as_transformers(model, ids, samples, bins, prompt, first):
    """The first window by transformers' own generation, of which only the beginning is asked for."""
    more = {}
    if model.generation_config.is_multilingual:
        name = {value: key for key, value in ids.items()}
        more = dict(language=name[prompt[1]], task=name[prompt[2]][2:-2])
    mel = features(samples, bins)[:, :, :POSITIONS * 2]
    made = model.generate(mel, return_timestamps=True, max_new_tokens=MOST_TOKENS, return_segments=True, **more)
    theirs = made["segments"][0][0]["result"]
    theirs = theirs["sequences"].tolist() if isinstance(theirs, dict) else theirs.tolist()
    theirs = theirs[len(prompt):] if theirs[:len(prompt)] == prompt else theirs
    theirs = [token for token in theirs if token != ids["<|endoftext|>"]]
    assert theirs == first, (theirs, first)


def rounded(numbers):
    return [round(float(number), 5) for number in numbers]


def expected(model, ids, words, bins, samples):
    start = [ids["<|startoftranscript|>"]]
    mel = features(samples["short"], bins)[:, :, :POSITIONS * 2]
    with torch.no_grad():
        encoded = model.model.encoder(mel).last_hidden_state
    first = logits_of(model, encoded, start)[0]
    made = {
        "mel": {str(frame): rounded(mel[0, :, frame]) for frame in FRAMES_SHOWN},
        "encoded": {str(row): rounded(encoded[0, row]) for row in ROWS_SHOWN},
        "start": rounded(first),
        "no_speech": round(float(torch.softmax(first, -1)[ids["<|nospeech|>"]]), 7),
        "transcripts": [],
    }
    prompts = [start]
    if model.generation_config.is_multilingual:
        ranked = torch.topk(first[[ids[name] for name in LANGUAGES]], 2)
        if ranked.values[0] - ranked.values[1] < MARGIN:
            raise TooClose
        made["language"] = LANGUAGES[int(ranked.indices[0])][2:-2]
        assert int(model.detect_language(mel)[0]) == ids[f"<|{made['language']}|>"]
        prompts = [start + [ids[f"<|{language}|>"], ids[f"<|{task}|>"]]
                   for language, task in [("en", "transcribe"), ("de", "transcribe"), ("haw", "translate")]]
    for prompt in prompts:
        for name in samples:
            windows, segments = transcript(model, ids, words, samples[name], bins, prompt)
            same_as_transformers(model, ids, samples[name], bins, prompt, windows[0]["tokens"])
            forced = prompt + windows[0]["tokens"]
            mel = features(samples[name], bins)[:, :, :POSITIONS * 2]
            with torch.no_grad():
                encoded = model.model.encoder(mel).last_hidden_state
            numbers = logits_of(model, encoded, forced)[-1]
            made["transcripts"].append({"recording": name, "prompt": prompt, "windows": windows, "segments": segments,
                                        "last": rounded(numbers)})
    return made


def interesting(made):
    """Several windows, several segments, an end before the most tokens, and text."""
    windows = [window for one in made["transcripts"] for window in one["windows"]]
    ends = any(len(window["tokens"]) < MOST_TOKENS for window in windows)
    several = any(len(one["segments"]) > 2 for one in made["transcripts"])
    moves = any(window["seek"] % (POSITIONS * 2) for window in windows)
    return ends and several and moves


def main(target):
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    samples = {"short": recording(1.7, 1), "long": recording(5.3, 2)}
    for name in samples:
        write_wav(target / f"{name}.wav", samples[name])
    compress(target)
    words = tokenizer()
    made_with = {"torch": torch.__version__, "transformers": transformers.__version__}
    for name, bins, multilingual, first_seed in MODELS:
        for seed in range(first_seed, first_seed + 2000):
            model, ids = seeded(words, bins, multilingual, seed)
            try:
                made = expected(model, ids, words, bins, samples)
            except TooClose:
                continue
            if interesting(made):
                break
        else:
            raise SystemExit(f"{name}: no seed will do")
        print(name, "seed", seed, [len(one["windows"]) for one in made["transcripts"]])
        folder = target / name
        model.save_pretrained(folder)
        words.backend_tokenizer.save(str(folder / "tokenizer.json"))
        text = json.dumps(dict(made_with=made_with, seed=seed, **made), separators=(",", ":"))
        (folder / "expected.json").write_text(text.replace('{"recording"', '\n{"recording"') + "\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
