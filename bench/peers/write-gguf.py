"""Writes a GGUF file of a given shape with random weights: write-gguf.py FILE TYPE < config.json"""

import json
import sys

import gguf
import numpy

ROWS = 64  # drawn once and repeated: speed depends on the shapes, not on the values


def main(path, type_name):
    config = json.load(sys.stdin)["llm_config"]
    kind = gguf.GGMLQuantizationType[type_name]
    hidden, inter, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    layers, heads, kv_heads = (
        config["num_hidden_layers"],
        config["num_attention_heads"],
        config["num_key_value_heads"],
    )
    head = hidden // heads
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inter)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_rope_dimension_count(head)
    writer.add_vocab_size(vocab)
    writer.add_tokenizer_model("no_vocab")

    tensors = {"token_embd": (vocab, hidden), "output_norm": (hidden,), "output": (vocab, hidden)}
    for layer in range(layers):
        tensors |= {
            f"blk.{layer}.attn_norm": (hidden,),
            f"blk.{layer}.attn_q": (hidden, hidden),
            f"blk.{layer}.attn_k": (kv_heads * head, hidden),
            f"blk.{layer}.attn_v": (kv_heads * head, hidden),
            f"blk.{layer}.attn_output": (hidden, hidden),
            f"blk.{layer}.ffn_norm": (hidden,),
            f"blk.{layer}.ffn_gate": (inter, hidden),
            f"blk.{layer}.ffn_up": (inter, hidden),
            f"blk.{layer}.ffn_down": (hidden, inter),
        }
    random = numpy.random.default_rng(1)
    rows = {
        cols: gguf.quantize(random.uniform(-1 / 64, 1 / 64, (ROWS, cols)).astype(numpy.float32), kind)
        for cols in {shape[-1] for shape in tensors.values() if len(shape) == 2}
    }

    def data(shape):
        if len(shape) == 1:
            return numpy.ones(shape, dtype=numpy.float32)
        return numpy.tile(rows[shape[1]], (-(-shape[0] // ROWS), 1))[: shape[0]]

    for name, shape in tensors.items():
        tensor = data(shape)
        raw = kind if tensor.dtype == numpy.uint8 else None
        writer.add_tensor_info(f"{name}.weight", tensor.shape, tensor.dtype, tensor.nbytes, raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for shape in tensors.values():
        writer.write_tensor_data(data(shape))
    writer.close()


main(*sys.argv[1:])
