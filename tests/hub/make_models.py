# SPDX-License-Identifier: Apache-2.0
"""make_models.py DIRECTORY: tiny families of models of three architectures. A fine-tune is the
base, plus a change of low rank that all share, plus one of its own, plus a little noise."""

import pathlib
import sys

import torch
import transformers

SHARED_RANK, OWN_RANK, NOISE = 3, 2, 0.05
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 48, "vocab_size": 96, "max_position_embeddings": 24}


def bert():
    return transformers.BertModel(transformers.BertConfig(**SIZES))


def llama():
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(
        **SIZES, num_key_value_heads=2, tie_word_embeddings=False))


def gpt2():
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=4, vocab_size=96, n_positions=24))


def low_rank(shape, rank, generator):
    left = torch.randn(shape[0], rank, generator=generator)
    right = torch.randn(rank, shape[1], generator=generator)
    return left @ right / rank ** 0.5


def change(shape, shared, own):
    """The change of one tensor; `shared` draws the same for all fine-tunes."""
    if len(shape) != 2:
        return torch.randn(shape, generator=shared) + torch.randn(shape, generator=own)
    return (low_rank(shape, SHARED_RANK, shared) + low_rank(shape, OWN_RANK, own)
            + NOISE * torch.randn(shape, generator=own))


def write_family(root, make):
    torch.manual_seed(1)
    model = make().eval()
    model.save_pretrained(root / "base", safe_serialization=True)
    for seed, name in ((11, "one"), (12, "two")):
        shared, own = torch.Generator().manual_seed(7), torch.Generator().manual_seed(seed)
        tuned = make().eval()
        tuned.load_state_dict(model.state_dict())
        with torch.no_grad():
            for _, values in sorted(tuned.named_parameters()):
                values += 0.03 * change(values.shape, shared, own)
        tuned.save_pretrained(root / name, safe_serialization=True)


def main():
    root = pathlib.Path(sys.argv[1])
    for name, make in (("bert", bert), ("llama", llama), ("gpt2", gpt2)):
        write_family(root / name, make)
    print("{}")


main()
