"""A decoder and a vision layer in plain PyTorch, behind the protocol of engine-process.ts.

With what makes it fast: one product for query, key and value, one for gate and up, scaled dot product attention, a cache that is
written in place. Eager, or through torch.compile, which on a GPU also records CUDA graphs.
"""

import json
import sys
import time

import torch
import torch.nn.functional as F

MAX_LENGTH = 2304
MAX_SECONDS = 4


def random(dtype, *shape):
    return torch.empty(*shape, dtype=dtype).uniform_(-1 / 64, 1 / 64)


def rotate(x, cos, sin):
    """x: [sequences, heads, tokens, head]"""
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-b, a), dim=-1) * sin


class Decoder:
    def __init__(self, config, dtype, max_sequences):
        hidden, inter = config["hidden_size"], config["intermediate_size"]
        self.heads, self.kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self.head = hidden // self.heads
        self.eps = config["rms_norm_eps"]
        kv = self.kv_heads * self.head
        cache = (max_sequences, self.kv_heads, MAX_LENGTH, self.head)
        self.layers = [
            {
                "norm": random(dtype, hidden),
                "qkv": random(dtype, hidden + 2 * kv, hidden),
                "out": random(dtype, hidden, hidden),
                "mlp_norm": random(dtype, hidden),
                "gate_up": random(dtype, 2 * inter, hidden),
                "down": random(dtype, hidden, inter),
                "keys": random(dtype, *cache),
                "values": random(dtype, *cache),
            }
            for _ in range(config["num_hidden_layers"])
        ]
        self.embedding = random(dtype, config["vocab_size"], hidden)
        self.norm = random(dtype, hidden)
        self.lm_head = random(dtype, config["vocab_size"], hidden)
        frequencies = config["rope_theta"] ** (-torch.arange(0, self.head, 2) / self.head)
        angles = torch.outer(torch.arange(MAX_LENGTH), frequencies).repeat(1, 2)
        self.cos, self.sin = angles.cos().to(dtype), angles.sin().to(dtype)

    def forward(self, tokens, start):
        """tokens: [sequences, count] at positions start...; the logits of each last one"""
        sequences, count = tokens.shape
        end = start + count
        cos, sin = self.cos[start:end], self.sin[start:end]
        x = F.embedding(tokens, self.embedding)
        for layer in self.layers:
            h = F.rms_norm(x, x.shape[-1:], layer["norm"], self.eps)
            qkv = F.linear(h, layer["qkv"]).view(sequences, count, -1, self.head).transpose(1, 2)
            q, k, v = qkv.split((self.heads, self.kv_heads, self.kv_heads), dim=1)
            keys, values = layer["keys"][:sequences, :, :end], layer["values"][:sequences, :, :end]
            keys[:, :, start:] = rotate(k, cos, sin)
            values[:, :, start:] = v
            a = F.scaled_dot_product_attention(
                rotate(q, cos, sin), keys, values, is_causal=count > 1, enable_gqa=True
            )
            x = x + F.linear(a.transpose(1, 2).reshape(sequences, count, -1), layer["out"])
            h = F.rms_norm(x, x.shape[-1:], layer["mlp_norm"], self.eps)
            gate, up = F.linear(h, layer["gate_up"]).chunk(2, dim=-1)
            x = x + F.linear(F.silu(gate) * up, layer["down"])
        last = F.rms_norm(x[:, -1], x.shape[-1:], self.norm, self.eps)
        return F.linear(last, self.lm_head)


class Vision:
    """Patches, one transformer layer, pixel shuffle and projector, from the bytes of a picture."""

    def __init__(self, config, dtype):
        vision, out = config["vision_config"], config["llm_config"]["hidden_size"]
        self.dtype = dtype
        self.width, self.heads, self.patch = vision["hidden_size"], vision["num_attention_heads"], vision["patch_size"]
        self.eps = vision["layer_norm_eps"]
        width, inter = self.width, vision["intermediate_size"]
        self.side = vision["image_size"] // self.patch
        self.patches = random(dtype, width, 3, self.patch, self.patch)
        self.patch_bias, self.out_bias = random(dtype, width), random(dtype, width)
        self.cls = random(dtype, 1, 1, width)
        self.positions = random(dtype, 1, self.side**2 + 1, width)
        self.norms = [random(dtype, width) for _ in range(4)]
        self.scales = [random(dtype, width) for _ in range(2)]
        self.qkv, self.out = random(dtype, 3 * width, width), random(dtype, width, width)
        self.up, self.up_bias = random(dtype, inter, width), random(dtype, inter)
        self.down, self.down_bias = random(dtype, width, inter), random(dtype, width)
        self.shuffle_norm = (random(dtype, 4 * width), random(dtype, 4 * width))
        self.project = [(random(dtype, out, 4 * width), random(dtype, out)), (random(dtype, out, out), random(dtype, out))]
        self.pixels = torch.randint(0, 256, (vision["image_size"], vision["image_size"], 3), dtype=torch.uint8)

    def forward(self):
        pixels = ((self.pixels.float() / 255 - 0.45) / 0.22).permute(2, 0, 1)[None].to(self.dtype)
        x = F.conv2d(pixels, self.patches, self.patch_bias, stride=self.patch).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls, x), dim=1) + self.positions
        tokens, width = x.shape[1], self.width
        h = F.rms_norm(x, (width,), self.norms[0], self.eps)
        q, k, v = F.linear(h, self.qkv).chunk(3, dim=-1)
        q, k = F.rms_norm(q, (width,), self.norms[1], self.eps), F.rms_norm(k, (width,), self.norms[2], self.eps)
        heads = [t.view(1, tokens, self.heads, -1).transpose(1, 2) for t in (q, k, v)]
        a = F.scaled_dot_product_attention(*heads).transpose(1, 2).reshape(1, tokens, width)
        x = x + F.linear(a, self.out, self.out_bias) * self.scales[0]
        h = F.rms_norm(x, (width,), self.norms[3], self.eps)
        x = x + F.linear(F.gelu(F.linear(h, self.up, self.up_bias)), self.down, self.down_bias) * self.scales[1]
        half = self.side // 2
        x = x[:, 1:].reshape(half, 2, half, 2, width).transpose(1, 2).reshape(half * half, 4 * width)
        x = F.layer_norm(x, (4 * width,), *self.shuffle_norm)
        return F.linear(F.gelu(F.linear(x, *self.project[0])), *self.project[1])


def timed(run, times, warm_up):
    """Seconds of each run, a GPU's work included."""

    def run_whole():
        run()
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()

    if warm_up:
        run_whole()
    seconds = []
    end = time.perf_counter() + MAX_SECONDS
    while len(seconds) < times and (not seconds or time.perf_counter() < end):
        begin = time.perf_counter()
        run_whole()
        seconds.append(time.perf_counter() - begin)
    return seconds


class Engine:
    def load(self, shape, dtype, threads, device="cpu", compiled=False, sequences=32, **_):
        torch.set_num_threads(threads)
        torch.set_default_device(device)
        self.decoder = Decoder(shape["llm_config"], getattr(torch, dtype), sequences)
        self.vision = Vision(shape, getattr(torch, dtype))
        compile = (lambda f: torch.compile(f, dynamic=False, mode="reduce-overhead")) if compiled else (lambda f: f)
        self.decode_forward, self.vision_forward = compile(self.decoder.forward), compile(self.vision.forward)
        return {"version": torch.__version__}

    def decode(self, sequences, context, times, warmUp):
        tokens = torch.randint(0, 5000, (sequences, 1))
        return {"seconds": timed(lambda: self.decode_forward(tokens, context), times, warmUp)}

    def prefill(self, tokens, times, warmUp):
        prompt = torch.randint(0, 5000, (1, tokens))
        return {"seconds": timed(lambda: self.decode_forward(prompt, 0), times, warmUp)}

    def image(self, times, warmUp):
        return {"seconds": timed(self.vision_forward, times, warmUp)}


engine = Engine()
with torch.inference_mode():
    for line in sys.stdin:
        command = json.loads(line)
        try:
            reply = getattr(engine, command.pop("op"))(**command)
        except Exception as error:  # the caller names it in its page
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)
