#!/usr/bin/env python3
"""Trains the demo model on drawn pictures and writes it in the published checkpoint layout.

  python tools/train-demo-model.py --train DIR --eval DIR --out examples/demo-model [--seed N] [--steps A,B,C]

The folders come from `node tools/make-demo-dataset.ts` (domains `train` and `eval`). Three stages: the vision part alone learns to
name what lies under each image token; then everything together looks at a part of
each picture, which is cheap; then at whole pictures, as when served.
"""
import argparse
import json
import math
import os
import time

import numpy as np
import sentencepiece
import torch
import torch.nn.functional as F

from demo_model_data import IGNORE, LABELS, NO_PICTURE, SIDE, Batches, Conversations, Pictures
from demo_model_data import image_prefix, normalize, pack, patch_rows
from demo_model_files import ADDED, make_config, train_tokenizer, write_json, write_tokenizer_configs, write_weights
from demo_model_network import InternVL

VOCAB = 1009  # prime; large enough that every word of the questions and answers is one piece
VISION = {"hidden_size": 80, "num_attention_heads": 5, "num_hidden_layers": 3, "intermediate_size": 320}
LLM = {"hidden_size": 128, "num_attention_heads": 8, "num_key_value_heads": 4, "num_hidden_layers": 4, "intermediate_size": 384}


def answer_loss(model, packed, image_id, image_tokens=None):
    """(mean loss over answer tokens, share of them predicted right)"""
    ids, positions, mask, target = packed
    x = model.language_model(model.embed(ids, image_id, image_tokens), positions, mask)
    where = target != IGNORE
    logits, wanted = model.language_model.lm_head(x[where]), target[where]
    return F.cross_entropy(logits, wanted), (logits.argmax(-1) == wanted).float().mean().item()


class WordsUnderTokens(torch.nn.Module):
    """Teaches image tokens to resemble the embeddings of the words that name what lies under them.

    The language part then finds "circle" in a picture as it finds a word in a text, which it learns quickly. Thrown away later.
    """

    def __init__(self, tokenizer, width):
        super().__init__()
        self.words = [[tokenizer.piece_to_id("\u2581" + word) for word in group] for group in LABELS.values()]
        self.nothing = torch.nn.Parameter(torch.randn(len(self.words), 1, width) * 0.5)

    def forward(self, image_tokens, labels, embeddings):
        loss, right = 0, []
        for k, words in enumerate(self.words):
            logits = image_tokens @ torch.cat([self.nothing[k], embeddings[words]]).T * image_tokens.shape[-1] ** -0.5
            loss = loss + F.cross_entropy(logits.transpose(1, 2), labels[:, k], ignore_index=IGNORE)
            objects = labels[:, k] > 0
            right.append(round((logits.argmax(-1) == labels[:, k])[objects].float().mean().item(), 3))
        return loss, right


def rows_of(kept):
    return torch.from_numpy(np.stack([patch_rows(tokens) for tokens in kept.numpy()]))


@torch.no_grad()
def accuracy(model, pictures, talk, count, only_chosen):
    """Share of questions whose whole answer is the greedy one, by kind and overall.

    Every token of the right answer being the most likely one after those before it is the same as greedy decoding giving it.
    """
    everything = np.arange(SIDE * SIDE)
    right, asked = {}, {}
    for first in range(0, count, 10):
        numbers = range(first, min(first + 10, count))
        patches = torch.from_numpy(np.stack([pictures.patches(i)[patch_rows(everything)] for i in numbers]))
        questions = [[pictures.records[i]["chosen"]] if only_chosen else pictures.records[i]["questions"] for i in numbers]
        prefixes = [image_prefix(talk, everything) for _ in numbers]
        talks = [[[(q["question"], q["answer"])] for q in group] for group in questions]
        ids, positions, mask, target = pack(prefixes, talks, lambda turns: talk.tokens(turns, after_image=True))
        rows = torch.from_numpy(patch_rows(everything)).expand(len(numbers), -1)
        x = model.embed(ids, talk.image_id, model.encode(normalize(patches), rows))
        wrong = (model.language_model.lm_head(model.language_model(x, positions, mask)).argmax(-1) != target) & (target != IGNORE)
        for row, (group, conversations) in enumerate(zip(questions, talks)):
            end = len(prefixes[row][0])
            for q, turns in zip(group, conversations):
                start, end = end, end + len(talk.tokens(turns, after_image=True)[0])
                asked[q["kind"]] = asked.get(q["kind"], 0) + 1
                right[q["kind"]] = right.get(q["kind"], 0) + (not wrong[row, start:end].any().item())
    table = {kind: f"{100 * right[kind] / asked[kind]:.1f}" for kind in sorted(asked)}
    return 100 * sum(right.values()) / sum(asked.values()), table


class Muon(torch.optim.Optimizer):
    """Momentum whose step is made orthogonal (Newton-Schulz), for weight matrices: needs about half of Adam's steps here."""

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 0.05)
                x = p.grad.lerp(momentum, 0.95)
                tall = x.shape[0] > x.shape[1]
                x = x.T if tall else x
                x = x / (x.norm() + 1e-7)
                for _ in range(5):
                    a = x @ x.T
                    x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
                p.mul_(1 - 0.01 * group["lr"])
                p.add_(x.T if tall else x, alpha=-group["lr"] * max(1, p.shape[0] / p.shape[1]) ** 0.5)


def learning_rate(step, steps, peak, warmup=30):
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--train", required=True)
    parser.add_argument("--eval", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", default="600,900,350", help="of the three stages")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--keep", type=int, default=96, help="image tokens looked at in the first two stages")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--matrix-learning-rate", type=float, default=0.01)
    parser.add_argument("--state", help="file that an interrupted training goes on from")
    parser.add_argument("--questions", type=int, default=16, help="single questions asked about each picture")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    os.makedirs(args.out, exist_ok=True)

    train, held_out = Pictures(args.train), Pictures(args.eval)
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "demo-chat.json"), encoding="utf8") as f:
        chat = json.load(f)
    sentences = [text for r in train.records[:2000] for q in r["questions"] for text in (q["question"], q["answer"])]
    sentences += [text for topic in chat for text in [*topic["questions"], topic["answer"]] for _ in range(200)]
    sentences += ["system", "user", "assistant", "Answer the questions.", NO_PICTURE] * 200
    sentences += ["".join(map(chr, range(32, 127)))] * 20  # every printable character has its piece
    pieces = VOCAB - len(ADDED)
    train_tokenizer(sentences, args.out, pieces)
    write_tokenizer_configs(args.out, pieces)
    tokenizer = sentencepiece.SentencePieceProcessor(os.path.join(args.out, "tokenizer.model"))
    config = make_config(VOCAB, VISION, LLM)
    write_json(args.out, "config.json", config)

    talk = Conversations(tokenizer, pieces, chat)
    model = InternVL(config)
    words = WordsUnderTokens(tokenizer, LLM["hidden_size"])
    parameters = [*model.parameters(), *words.parameters()]
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name and "lm_head" not in name]
    # The patch kernel sums 588 pixels that are mostly alike: at the full rate it soon drowns the position embeddings.
    kernel = model.vision_model.embeddings.patch_embedding.weight
    others = [p for p in parameters if all(p is not other for other in [*matrices, kernel])]
    rates = [{"params": others, "scale": 1.0}, {"params": [kernel], "scale": 0.1}]
    adam = torch.optim.AdamW(rates, lr=0, betas=(0.9, 0.98), weight_decay=0.01)
    muon = Muon([{"params": matrices, "scale": 1.0}], {"lr": 0})
    batches = Batches(train, talk, args.seed, args.batch, args.questions)
    vision_steps, part_steps, whole_steps = map(int, args.steps.split(","))
    ends = [vision_steps, vision_steps + part_steps, vision_steps + part_steps + whole_steps]
    first = 0
    if args.state and os.path.exists(args.state):
        saved = torch.load(args.state, weights_only=True)
        first = saved["step"]
        for part, name in ((model, "model"), (words, "words"), (adam, "adam"), (muon, "muon")):
            part.load_state_dict(saved[name])
    began = time.time()
    for step in range(first, ends[-1]):
        whole = step >= ends[1]
        batch = batches.get(step, SIDE * SIDE if whole else args.keep, ends[-1] if whole else ends[1])
        image_tokens = model.encode(normalize(batch["patches"]), rows_of(batch["kept"]))
        seen, named = words(image_tokens, batch["labels"], model.language_model.model.embed_tokens.weight)
        loss, share = torch.zeros(()), 0.0
        if step >= vision_steps:
            loss, share = answer_loss(model, batch["packed"], pieces, image_tokens)
            if step % 4 == 0:
                loss = loss + 0.2 * answer_loss(model, batch["text"], pieces)[0]
        for p in parameters:
            p.grad = None
        (loss + (0.3 if step >= vision_steps else 1.0) * seen).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer, peak in ((adam, args.learning_rate), (muon, args.matrix_learning_rate)):
            for group in optimizer.param_groups:
                group["lr"] = group["scale"] * learning_rate(step, ends[-1], peak)
            optimizer.step()
        if step % 20 == 0:
            print(f"{time.time() - began:6.0f}s step {step} loss {loss.item():.3f} right {share:.4f} labels {seen.item():.3f} {named}", flush=True)
        if args.state and step % 100 == 99:
            parts = {"model": model, "words": words, "adam": adam, "muon": muon}
            torch.save({"step": step + 1} | {name: part.state_dict() for name, part in parts.items()}, args.state)
        if step >= vision_steps and step % 100 == 99:
            print("held out", *accuracy(model, held_out, talk, 50, only_chosen=False), flush=True)
            write_weights(args.out, model.state_dict())

    with torch.no_grad():  # from here on the numbers are those of the written file
        for p in model.parameters():
            p.copy_(p.to(torch.bfloat16).float())
    write_weights(args.out, model.state_dict())
    for only_chosen in (True, False):
        print("held out", "one question each" if only_chosen else "all questions", *accuracy(model, held_out, talk, len(held_out), only_chosen))
    print(f"{time.time() - began:.0f} s")


if __name__ == "__main__":
    main()
