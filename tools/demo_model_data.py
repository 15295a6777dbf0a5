"""Turns the drawn pictures and their questions into training batches.

All conversations about one picture share its prefix (system text and image tokens) in one sequence: a mask lets each see
the prefix and itself alone, and each counts its positions from the end of the prefix. So the loss is exactly that of separate
conversations, at the price of one pass over the picture.
"""
import io
import json
import os
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image

SIZE, PATCH, SIDE = 448, 14, 16  # picture side in pixels, patch side in pixels, image tokens along a side
IM_END = 7
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
LABELS = {  # the words for what lies under an image token, by what they tell
    "colour": ["red", "orange", "yellow", "green", "blue", "purple", "black"],
    "shape": ["circle", "square", "triangle", "star"],
    "row": ["top", "bottom"],
    "column": ["left", "right"],
}
NO_PICTURE = "Please show me a picture first."
IGNORE = -100


class Pictures:
    """A folder of make-demo-dataset.ts; pixels are decoded and resized when asked for, exactly as they are when served."""

    def __init__(self, folder):
        with open(os.path.join(folder, "pictures.jsonl"), encoding="utf8") as f:
            self.records = [json.loads(line) for line in f]
        self.pixels = np.memmap(os.path.join(folder, "pictures.bin"), dtype=np.uint8, mode="r")

    def __len__(self):
        return len(self.records)

    def patches(self, i):
        """uint8 [1024, 3 * 14 * 14], patches in rows, each channel by channel as the patch kernel has it"""
        r = self.records[i]
        png = self.pixels[r["offset"] : r["offset"] + r["length"]].tobytes()
        image = np.asarray(Image.open(io.BytesIO(png)).convert("RGB").resize((SIZE, SIZE), Image.BICUBIC))
        n = SIZE // PATCH
        return image.reshape(n, PATCH, n, PATCH, 3).transpose(0, 2, 4, 1, 3).reshape(n * n, -1)

    def labels(self, i):
        """[4, 256]: for each kind of label the word of the object under each token, from 1; 0 for none, IGNORE along the outlines"""
        r = self.records[i]
        t = np.arange(SIDE * SIDE)  # token t covers row t % 16, column t // 16 (pixel shuffle v1)
        y, x = (t % SIDE + 0.5) / SIDE * r["height"], (t // SIDE + 0.5) / SIDE * r["width"]
        labels = np.zeros((len(LABELS), SIDE * SIDE), np.int64)
        for o in r["objects"]:
            distance = np.hypot(x - o["x"], y - o["y"]) / o["radius"]
            row, column = o["place"].split()
            labels[:, distance < 1.25] = IGNORE
            for label, words, word in zip(labels, LABELS.values(), (o["colour"], o["shape"], row, column)):
                label[distance < 0.8] = words.index(word) + 1
        return labels


def normalize(patches):
    """uint8 [..., 588] -> normalized float32"""
    x = patches.to(torch.float32).view(*patches.shape[:-1], 3, PATCH * PATCH) / 255
    return ((x - MEAN[:, None]) / STD[:, None]).flatten(-2)


class Conversations:
    def __init__(self, tokenizer, image_id, chat):
        self.sp, self.image_id, self.chat = tokenizer, image_id, chat
        control = {"im_start": 6, "im_end": IM_END, "img": 68, "end_img": 70}
        encode = tokenizer.encode
        system = [control["im_start"], *encode("system\nAnswer the questions."), IM_END, control["im_start"]]
        self.text_prefix = system + encode("user\n")
        self.before_image = self.text_prefix + [control["img"]]
        self.after_image = [control["end_img"]]
        self.prefix_length = len(self.before_image) + SIDE * SIDE + 1
        self.next_user = [control["im_start"], *encode("user\n")]
        self.assistant = [control["im_start"], *encode("assistant\n")]

    def tokens(self, turns, after_image):
        """(ids, is_answer) of the turns that follow the prefix; the answer's <|im_end|> counts as answer"""
        ids, answer = [], []
        for n, (question, reply) in enumerate(turns):
            # the line break after </img> belongs to the same piece of text as the question
            head = self.next_user if n else []
            head = head + self.sp.encode(("\n" if after_image and n == 0 else "") + question) + [IM_END] + self.assistant
            tail = self.sp.encode(reply) + [IM_END]
            ids += head + tail
            answer += [False] * len(head) + [True] * len(tail)
        return ids, answer

    def chat_turn(self, rng):
        topic = rng.choice(self.chat)
        return rng.choice(topic["questions"]), topic["answer"]

    def about(self, record, rng, singles):
        """Turns of several conversations about a picture: single questions, one longer talk, now and then small talk."""
        questions = record["questions"]
        by_kind = {}
        for q in questions:
            by_kind.setdefault(q["kind"], []).append(q)
        pair = lambda q: (q["question"], q["answer"])
        # Places of objects are learned last: they are always asked for.
        picked = [q for q in questions if q["question"].startswith("Where")]
        picked += [rng.choice(by_kind[kind]) for kind in by_kind] + rng.sample(questions, len(questions))
        conversations = [[pair(q)] for q in picked[:singles]]
        talk = [pair(rng.choice(by_kind[rng.choice(list(by_kind))])) for _ in range(rng.randint(2, 5))]
        if rng.random() < 0.3:
            talk.insert(rng.randrange(len(talk) + 1), self.chat_turn(rng))
        conversations.append(talk)
        if rng.random() < 0.3:
            conversations.append([self.chat_turn(rng)])
        return conversations

    def without_picture(self, record, rng):
        turns = []
        for _ in range(rng.randint(1, 3)):
            q = rng.choice(record["questions"])
            turns.append((q["question"], NO_PICTURE) if rng.random() < 0.3 else self.chat_turn(rng))
        return turns


def pack(prefixes, conversations, encode):
    """Sequences of one prefix and its conversations each -> ids, positions, mask, targets (padded).

    prefixes: list of (ids, positions, next position); conversations: per prefix a list of turns.
    """
    rows = []
    for (ids, positions, start), talks in zip(prefixes, conversations):
        ids, positions = list(ids), list(positions)
        block, target = [0] * len(ids), [IGNORE] * len(ids)
        for number, turns in enumerate(talks, 1):
            new, answer = encode(turns)
            ids += new
            positions += range(start, start + len(new))
            block += [number] * len(new)
            # a position predicts the next token of its own conversation
            target += [new[i + 1] if i + 1 < len(new) and answer[i + 1] else IGNORE for i in range(len(new))]
        rows.append((ids, positions, block, target))
    longest = max(len(row[0]) for row in rows)
    pad = lambda values, filler: values + [filler] * (longest - len(values))
    ids, positions, block, target = (
        torch.tensor([pad(row[k], filler) for row in rows]) for k, filler in enumerate((0, 0, -1, IGNORE))
    )
    index = torch.arange(longest)
    mask = ((block[:, None] == 0) | (block[:, None] == block[:, :, None])) & (index[None, :] <= index[:, None])
    return ids, positions, mask[:, None], target


class Batches:
    """Batch number n is a pure function of (seed, n); a thread prepares the following ones."""

    def __init__(self, pictures, conversations, seed, batch, singles, ahead=3):
        self.pictures, self.talk, self.seed, self.batch, self.singles, self.ahead = pictures, conversations, seed, batch, singles, ahead
        self.pool, self.waiting = ThreadPoolExecutor(1), {}

    def get(self, n, keep, last):
        """keep: how many of the 256 image tokens are looked at (all tokens of a picture, or a part to train faster)"""
        for k in range(n, min(n + self.ahead, last)):
            if k not in self.waiting:
                self.waiting[k] = self.pool.submit(self.make, k, keep)
        return self.waiting.pop(n).result()

    def make(self, n, keep):
        rng = random.Random(self.seed * 1_000_003 + n)
        total = len(self.pictures)
        chosen = [(n * self.batch + k) * 7919 % total for k in range(self.batch)]
        patches, kept, labels, prefixes, talks = [], [], [], [], []
        for i in chosen:
            label = self.pictures.labels(i)
            order = np.random.default_rng(rng.getrandbits(32)).random(SIDE * SIDE) + (label[0] != 0)
            tokens = np.sort(np.argsort(-order)[:keep])
            kept.append(tokens)
            patches.append(self.pictures.patches(i)[patch_rows(tokens)])
            labels.append(label[:, tokens])
            prefixes.append(image_prefix(self.talk, tokens))
            talks.append(self.talk.about(self.pictures.records[i], rng, singles=self.singles))
        encode = lambda turns: self.talk.tokens(turns, after_image=True)
        text_records = [self.pictures.records[rng.randrange(total)] for _ in range(8)]
        text = [[self.talk.without_picture(record, rng)] for record in text_records]
        prefix = self.talk.text_prefix
        text_prefixes = [(prefix, range(len(prefix)), len(prefix))] * len(text)
        return {
            "patches": torch.from_numpy(np.stack(patches)),
            "kept": torch.from_numpy(np.stack(kept)),
            "labels": torch.from_numpy(np.stack(labels)),
            "packed": pack(prefixes, talks, encode),
            "text": pack(text_prefixes, text, lambda turns: self.talk.tokens(turns, after_image=False)),
        }


def patch_rows(tokens):
    """The four patches (2 x 2, in pixel-shuffle channel order) of each image token -> patch numbers [4 * tokens]"""
    a, b = tokens % SIDE, tokens // SIDE
    return np.stack([(2 * a + di) * 2 * SIDE + 2 * b + dj for di in (0, 1) for dj in (0, 1)], axis=-1).reshape(-1)


def image_prefix(talk, tokens):
    start = len(talk.before_image)
    ids = talk.before_image + [talk.image_id] * len(tokens) + talk.after_image
    positions = [*range(start), *(start + tokens).tolist(), start + SIDE * SIDE]
    return ids, positions, talk.prefix_length
