# SPDX-License-Identifier: Apache-2.0
"""Which models fit a base, told in lists."""

import json

import numpy as np

import artifacts
from wire import Wire

LAYERS = {"a.weight": np.ones((4, 6), np.float32), "b.weight": np.ones((5, 4), np.float32)}


def write(models, name, tensors, config=None):
    artifacts.write_file(models / name / ("model.safetensors" if config is None else
                                          "adapter_model.safetensors"), tensors)
    if config is not None:
        (models / name / "adapter_config.json").write_text(json.dumps(config))


def fits(wire, base, **query):
    text = "".join(f"&{key}={value}" for key, value in query.items())
    page = wire.get(f"/v1/models?base={base}{text}").json()
    return page, {model["name"]: model["fit"] for model in page["data"]}


def test_models_say_how_they_stand_to_a_base(start_daemon, tmp_path):
    models = tmp_path / "models"
    write(models, "base", LAYERS)
    write(models, "tuned", LAYERS)
    write(models, "headed", {**LAYERS, "head.weight": np.ones((3, 5), np.float32)})
    write(models, "half", {"a.weight": LAYERS["a.weight"]})
    write(models, "other", {"x.weight": np.ones((7, 3), np.float32)})
    write(models, "wide", {"a.weight": np.ones((8, 12), np.float32)})
    factors = {"base_model.model.a.lora_A.weight": np.ones((2, 6), np.float32),
               "base_model.model.a.lora_B.weight": np.ones((4, 2), np.float32)}
    write(models, "adapter", factors, {"peft_type": "LORA", "r": 2, "lora_alpha": 2})
    write(models, "stranger", {name.replace(".a.", ".z."): values
                               for name, values in factors.items()},
          {"peft_type": "LORA", "r": 2, "lora_alpha": 2})
    (models / "bad").mkdir()
    (models / "bad/model.safetensors").write_bytes(b"\xff" * 64)
    wire = Wire(start_daemon(models).url)
    page, found = fits(wire, "base")
    assert not page["has_more"]
    good = {name for name, fit in found.items() if fit["fits"]}
    assert good == {"tuned", "headed", "half", "adapter"}
    assert all((fit["reason"] is None) == fit["fits"] for fit in found.values())
    assert found["tuned"] == {"fits": True, "reason": None, "matched": 2, "missing": 0, "own": 0,
                              "share": 1}
    assert (found["headed"]["own"], found["half"]["missing"]) == (1, 1)
    assert found["half"]["share"] == 24 / 44
    assert (found["adapter"]["matched"], found["adapter"]["missing"]) == (1, 0)
    assert "it is the base" in found["base"]["reason"] and "broken" in found["bad"]["reason"]
    assert "base" in found["other"]["reason"]
    # What is said to fit is accepted; what is said not to fit is refused for the same reason.
    for name, fit in found.items():
        if name in ("base", "bad", "wide"):
            continue
        answer = wire.post("/v1/jobs?dry_run=true", {
            "base": "base", "budget": {"bytes": 100000},
            "tasks": [{"name": "one", "model": name}]})
        assert (answer.status == 200) == fit["fits"], (name, answer.body)
        assert fit["fits"] or answer.json()["detail"] == fit["reason"]
    assert "fit" not in wire.get("/v1/models").json()["data"][0]


def test_answers_follow_the_files(start_daemon, tmp_path):
    models = tmp_path / "models"
    write(models, "base", LAYERS)
    write(models, "task", LAYERS)
    wire = Wire(start_daemon(models).url)
    assert fits(wire, "base")[1]["task"]["fits"]
    write(models, "task", {"x.weight": np.ones((7, 3), np.float32)})
    assert wire.post("/v1/models/rescan").status == 200
    assert not fits(wire, "base")[1]["task"]["fits"]


def test_a_page_is_bounded_by_what_must_be_read(start_daemon, tmp_path):
    models = tmp_path / "models"
    for i in range(70):
        write(models, f"m{i:02}", LAYERS)
    wire = Wire(start_daemon(models).url)
    names, after, pages = [], "", 0
    while after is not None:
        page, found = fits(wire, "m00", limit=200, **({"after": after} if after else {}))
        assert 0 < len(found) <= 65 and page["has_more"] == (page["next"] is not None)
        names += found
        after, pages = page["next"], pages + 1
    assert names == [f"m{i:02}" for i in range(70)] and pages > 1
    page, found = fits(wire, "m00", limit=200)
    assert len(found) == 70 and not page["has_more"]  # nothing had to be read any more


def test_bases_that_are_none(start_daemon, tmp_path):
    models = tmp_path / "models"
    write(models, "base", LAYERS)
    write(models, "adapter", {"m.lora_A.weight": np.ones((2, 3), np.float32),
                              "m.lora_B.weight": np.ones((4, 2), np.float32)},
          {"peft_type": "LORA", "r": 2})
    (models / "bad").mkdir()
    (models / "bad/model.safetensors").write_bytes(b"\xff" * 64)
    wire = Wire(start_daemon(models).url)
    for base, why in (("none", "the name of a model"), ("..", "the name of a model"),
                      ("", "the name of a model"), ("adapter", "adapter"), ("bad", "broken")):
        answer = wire.get(f"/v1/models?base={base}")
        assert answer.problem() == "invalid-parameter" and answer.json()["parameter"] == "base"
        assert why in answer.json()["detail"], base
