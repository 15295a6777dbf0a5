"""The files of the demo checkpoint: tokenizer, configs and sharded bfloat16 weights in the published layout."""
import json
import os

import sentencepiece
import torch
from safetensors.torch import save_file

CONTROL = ["<|Human|>", "<|Assistant|>", "<|System|>", "<|im_start|>", "<|im_end|>", "<|im_sep|>"]  # ids 3..8
ADDED = ["<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>"]  # after the last piece


def native_pieces():
    """Pieces 9..133 stand where the published vocabulary has them; only <img> (68) and </img> (70) are ever used."""
    named = {9: "<|fim_prefix|>", 10: "<|fim_middle|>", 11: "<|fim_suffix|>", 68: "<img>", 70: "</img>"}
    named.update({12 + i: f"<h{i + 1}>" for i in range(6)} | {18 + i: f"</h{i + 1}>" for i in range(6)})
    return [named.get(i, f"<|reserved{i:03d}|>") for i in range(9, 134)]


def train_tokenizer(sentences, folder, pieces):
    """A sentencepiece BPE of exactly `pieces` pieces: byte fallback, digits split, no dummy prefix, text kept as is."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_prefix=os.path.join(folder, "tokenizer"),
        model_type="bpe",
        vocab_size=pieces,
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1,
        unk_piece="<unk>", bos_piece="<|startoftext|>", eos_piece="<|endoftext|>",
        control_symbols=CONTROL,
        user_defined_symbols=native_pieces(),
        byte_fallback=True,
        split_digits=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
    )
    os.remove(os.path.join(folder, "tokenizer.vocab"))


def write_tokenizer_configs(folder, pieces):
    added = {token: pieces + i for i, token in enumerate(ADDED)}
    entry = lambda content: {"content": content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    known = {0: "<unk>", 1: "<|startoftext|>", 2: "<|endoftext|>", 6: "<|im_start|>", 7: "<|im_end|>", 68: "<img>", 70: "</img>"}
    known.update({number: token for token, number in added.items()})
    extra = ["<img>", "</img>", *ADDED]
    write_json(folder, "added_tokens.json", dict(sorted(added.items())))
    write_json(folder, "tokenizer_config.json", {
        "add_bos_token": False,
        "add_eos_token": False,
        # <|im_start|> is no special token in the published table either
        "added_tokens_decoder": {str(i): entry(token) | {"special": i != 6} for i, token in known.items()},
        "additional_special_tokens": extra,
        "bos_token": "<|startoftext|>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "legacy": True,
        "model_max_length": 4096,
        "pad_token": "<unk>",
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer",
        "unk_token": "<unk>",
        "use_default_system_prompt": False,
    })
    write_json(folder, "special_tokens_map.json", {
        "additional_special_tokens": [entry(token) for token in extra],
        "bos_token": entry("<|startoftext|>"),
        "eos_token": entry("<|im_end|>"),
        "pad_token": entry("<unk>"),
        "unk_token": entry("<unk>"),
    })
    write_json(folder, "generation_config.json", {"_from_model_config": True, "transformers_version": "4.37.2"})


def make_config(vocab_size, vision, llm):
    return {
        "architectures": ["InternVLChatModel"],
        "downsample_ratio": 0.5,
        "force_image_size": 448,
        "llm_config": {
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": False,
            "bos_token_id": 1,
            "eos_token_id": 7,
            "hidden_act": "silu",
            "max_position_embeddings": 4096,
            "model_type": "llama",
            "pad_token_id": 0,
            "rms_norm_eps": 1e-05,
            "rope_scaling": None,
            "rope_theta": 5000000.0,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "vocab_size": vocab_size,
        } | llm,
        "model_type": "internvl_chat",
        "pad2square": False,
        "select_layer": -1,
        "template": "Hermes-2",
        "torch_dtype": "bfloat16",
        "vision_config": {
            "architectures": ["InternVisionModel"],
            "hidden_act": "gelu",
            "image_size": 448,
            "layer_norm_eps": 1e-06,
            "model_type": "intern_vit_6b",
            "num_channels": 3,
            "patch_size": 14,
            "qk_normalization": True,
            "qkv_bias": False,
            "torch_dtype": "bfloat16",
        } | vision,
    }


def write_weights(folder, state, shards=3):
    """Tensors in the published order (vision, language, projector by name), cut into shards of about equal bytes."""
    tensors = {name: state[name].detach().to(torch.bfloat16).contiguous() for name in sorted(state, reverse=True)}
    total = sum(2 * t.numel() for t in tensors.values())
    files, weight_map, seen = [{} for _ in range(shards)], {}, 0
    for name, tensor in tensors.items():
        shard = min(shards - 1, seen * shards // total)
        files[shard][name] = tensor
        weight_map[name] = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        seen += 2 * tensor.numel()
    for shard, part in enumerate(files):
        save_file(part, os.path.join(folder, f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"), metadata={"format": "pt"})
    write_json(folder, "model.safetensors.index.json", {
        "metadata": {"total_size": total},
        "weight_map": dict(sorted(weight_map.items())),
    })


def write_json(folder, name, value):
    with open(os.path.join(folder, name), "w", encoding="utf8") as f:
        json.dump(value, f, indent=2, ensure_ascii=False)
        f.write("\n")
