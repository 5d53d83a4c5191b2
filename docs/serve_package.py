# SPDX-License-Identifier: Apache-2.0
"""Serves the tasks of a package from one base in memory, with PyTorch. See model_directories.md.

    package = Package("out", "models/base")
    config = transformers.AutoConfig.from_pretrained("models/street")
    street = package.attach("street", transformers.BertForSequenceClassification(config))

What is attached shares the base's tensors and the shared factors with all others: a task more costs
what its expert holds. Layers compute x W0^T + (x A^T) B^T; tensors that no such layer owns, those
with dense deltas, masks, signs or places, and those of layers whose weight a model reads without
calling the layer (`whole`: parts of their names) are added up for the task.
"""
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from read_package import pick, read_file, read_parts, spread, unpack, unpack_factors


def linear(module, inputs, B, A):
    return F.linear(F.linear(inputs, A), B)


def turned_linear(module, inputs, B, A):  # GPT-2's, whose weight is n x m
    return inputs @ B @ A


def embedding(module, inputs, B, A):
    return F.embedding(inputs, B) @ A


def convolution(module, inputs, B, A):  # by few filters, then mixed at each place
    few = module._conv_forward(inputs, A.reshape(-1, *module.weight.shape[1:]), None)
    return torch.einsum("mk,bk...->bm...", B, few)


LAYERS = {"torch.nn.modules.linear.Linear": linear,
          "transformers.pytorch_utils.Conv1D": turned_linear,
          "torch.nn.modules.sparse.Embedding": embedding,
          "torch.nn.modules.conv.Conv1d": convolution, "torch.nn.modules.conv.Conv2d": convolution}


def layer_of(module, attribute):  # None: its tensor must be whole
    kind = LAYERS.get(f"{type(module).__module__}.{type(module).__qualname__}")
    usual = getattr(module, "groups", 1) == 1 and getattr(module, "max_norm", None) is None
    return kind if attribute == "weight" and usual else None


class Package:
    def __init__(self, package, base, dtype=torch.float32, device="cpu"):
        self.path, self.place, self.models = Path(package), {"device": device}, {}
        self.dtype = dtype
        self.base = {name: self.tensor(values) for path in Path(base).glob("model*.safetensors")
                     for name, values in read_file(path).items()}
        self.masked = {}
        self.factors, deltas = self.parts(read_file(self.path / "shared.safetensors"))
        self.moved = {name: self.base[name] + sum(deltas[name]) for name in deltas}

    def tensor(self, values):
        values = torch.from_numpy(np.array(values, "f4" if values.dtype.kind == "f" else None))
        return values.to(**self.place, dtype=self.dtype if values.is_floating_point() else None)

    def parts(self, stored):  # of one file: name -> pairs (B, A), name -> dense deltas
        factors, deltas, stored = {}, {}, spread(stored, self.base)
        for (name, part), values in ((key.rsplit(".", 1), stored[key]) for key in stored):
            if part in ("own", "own_rows", "expert_scale", "expert_values") or part.endswith("_A"):
                continue
            shape = self.base[name].shape
            m = shape[0] if len(shape) > 1 else 1
            n = self.base[name].numel() // m
            if part.endswith("_B") or (part.endswith("_packed") and values[0] & 15 == 1):
                pair = (values, stored[f"{name}.{part[:-1]}A"]) if part.endswith("_B") else \
                    unpack_factors(values, m, n)
                factors.setdefault(name, []).append([self.tensor(half) for half in pair])
            else:
                values = unpack(values, m, n) if part.endswith("_packed") else values
                if part.startswith("masked"):
                    self.masked[name] = values
                    continue
                if part in ("expert_mask", "expert_sign", "expert_columns"):
                    values = pick(stored, name, part, m * n, self.masked)
                deltas.setdefault(name, []).append(self.tensor(values).reshape(shape))
        return factors, deltas

    def attach(self, task, model, whole=("position",)):
        """Fills a model of the task's class; gives it back."""
        expert, said = read_parts(self.path / "experts" / f"{task}.safetensors")
        factors, deltas = self.parts(expert)
        lacks, as_base = (json.loads(said.get(key, "[]")) for key in ("lacks", "as_base"))
        added, dropped = said.get("prefix_added", ""), said.get("prefix_dropped", "")
        slots, unset = slots_of(model)
        own = {key[:-len(".own")]: expert[key] for key in expert if key.endswith(".own")}
        for base, start in self.base.items():
            name = added + base[len(dropped):]
            if not base.startswith(dropped) or name not in slots or name in own:
                continue
            pairs, more = [], []
            if base not in lacks and base not in as_base:
                pairs = self.factors.get(base, []) + factors.get(base, [])
                start, more = self.moved.get(base, start), deltas.get(base, [])
            layers = [layer_of(*slot) for slot in slots[name]]
            if not all(layers) or f"{base}.own_rows" in expert or any(w in base for w in whole):
                more, pairs = more + [(B @ A).reshape(start.shape) for B, A in pairs], []
            value = start + sum(more) if more else start
            if f"{base}.own_rows" in expert:
                value = torch.cat([value, self.tensor(expert[f"{base}.own_rows"])])
            fill(slots[name], value)
            for (module, _), layer in zip(slots[name] if pairs else [], layers):
                module.register_forward_hook(adding(layer, pairs))
            unset -= {id(slots[name])}
        for name in own.keys() & slots.keys():
            fill(slots[name], self.tensor(own[name]))
            unset -= {id(slots[name])}
        if unset:
            raise ValueError(f"{task}: {[n for n in slots if id(slots[n]) in unset]} are not there")
        self.models[task] = model.eval()
        return model


def slots_of(model):  # name -> where its tensor is kept, all places of one that is tied
    places, slots = {}, {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        slots[name] = places.setdefault(id(tensor), [])
        path, attribute = name.rpartition(".")[::2]
        slots[name].append((model.get_submodule(path), attribute))
    return slots, {id(places) for places in slots.values()}


def fill(slots, value):
    kept = torch.nn.Parameter(value, requires_grad=False)
    for module, attribute in slots:
        if attribute in module._parameters:
            module._parameters[attribute] = kept
        else:
            module._buffers[attribute] = value


def adding(layer, pairs):
    def hook(module, inputs, output):
        return output + sum(layer(module, inputs[0], B, A) for B, A in pairs)
    return hook
