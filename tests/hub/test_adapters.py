# SPDX-License-Identifier: Apache-2.0
"""Adapters as PEFT loads them, beside the whole models of the same package."""

import json

import pytest

OUTPUTS_MAX = 1e-4

# What a portable adapter cannot carry, and an exact one of a module with a LoRA.
PORTABLE = {"exclude": ["*embed*", "*norm*", "*LayerNorm*", "*bias", "*.wte.*", "*.wpe.*",
                        "*.ln_*"]}
EXACT = {"exclude": ["*query.bias", "*key.bias", "*value.bias", "*dense.bias", "*attn.bias",
                     "*c_proj.bias", "*c_fc.bias", "*.wte.*"]}


@pytest.fixture(scope="module")
def compare(hub, models):
    """compare(merged, family, export) -> how the adapter of task "one" stands to the whole model,
    and its report."""

    def execute(merged, family, export):
        folder = "adapters-exact" if "exact" in export else "adapters"
        adapter = merged / export.replace(" ", "") / folder / "one"
        found = hub("compare.py", models / family / "base", merged / "full/models/one", adapter)
        report = json.loads((adapter / "export.json").read_text(encoding="utf-8"))
        return found, report, json.loads((adapter / "adapter_config.json").read_text())

    return execute


def check(found, report):
    """The outputs are those of the whole model, and the weights as far off as is told."""
    assert found["outputs"] <= OUTPUTS_MAX < found["change"] / 10, found
    assert report["left_out"] == [], report["left_out"]
    assert found["weights"] < 1e-10
    assert found["warnings"] == []


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
def test_portable_adapters_serve_what_whole_models_serve(merge, compare, family):
    merged = merge(family, "full", "peft", **PORTABLE)
    found, report, config = compare(merged, family, "peft")
    check(found, report)
    assert config["r"] % 16 == 0
    assert config["modules_to_save"] is None and config["rank_pattern"] == {}
    assert config["fan_in_fan_out"] is (family == "gpt2")


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
def test_exact_adapters_carry_norms_and_embeddings_too(merge, compare, family):
    merged = merge(family, "full", "peft-exact", dense="per_task", **EXACT)
    found, report, config = compare(merged, family, "peft-exact")
    check(found, report)
    assert config["modules_to_save"]
    assert len({row["rank"] for row in report["modules"]}) > 1
    assert config["rank_pattern"] == config["alpha_pattern"] != {}


@pytest.mark.parametrize("export", ["peft --max-rank 16", "peft-exact --max-rank 5"])
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_caps_cost_what_is_told(merge, compare, family, export):
    merged = merge(family, "full", export, budget=1.6, **PORTABLE)
    found, report, config = compare(merged, family, export)
    assert config["r"] == int(export.split()[-1])
    assert report["error"] > 1e-6
    assert found["weights"] == pytest.approx(report["error"], rel=1e-3)


def test_what_is_left_out_is_what_is_missing(merge, compare):
    merged = merge("bert", "full", "peft", dense="per_task")
    found, report, _ = compare(merged, "bert", "peft")
    assert report["lost"] > 0.01 and report["left_out"]
    assert found["weights"] == pytest.approx(report["error"] + report["lost"], rel=1e-3)


@pytest.mark.parametrize("dtype", ["bf16", "int4"])
def test_rounding_costs_what_is_told(merge, compare, dtype):
    merged = merge("llama", "full", "peft", output={"dtype": dtype}, **PORTABLE)
    found, report, _ = compare(merged, "llama", "peft")
    assert report["dtype"] == "BF16" and report["left_out"] == []
    assert found["weights"] == pytest.approx(report["error"], rel=0.02, abs=1e-10)
    assert found["outputs"] < 0.01
