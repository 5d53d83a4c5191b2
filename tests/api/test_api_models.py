# SPDX-License-Identifier: Apache-2.0
"""The registry of models."""

import json
import shutil

import numpy as np

import artifacts
from wire import Wire

NAMES = ["base", "tasks/hiragana", "tasks/latin", "tasks/mnist", "tasks/orient"]


def test_list_and_pages(wire):
    page = wire.get("/v1/models").json()
    assert [model["name"] for model in page["data"]] == NAMES
    assert page["has_more"] is False and page["next"] is None
    first = wire.get("/v1/models?limit=2").json()
    assert first["has_more"] and first["next"] == NAMES[1]
    rest = wire.get(f"/v1/models?limit=200&after={first['next']}").json()
    assert [model["name"] for model in rest["data"]] == NAMES[2:]


def test_show_has_tensors(wire):
    model = wire.get("/v1/models/tasks/latin").json()
    assert model["state"] == "ready" and model["reason"] is None
    assert model["kind"] == "checkpoint"
    assert model["tensor_count"] == len(model["tensors"]) == 24
    names = [tensor["name"] for tensor in model["tensors"]]
    assert names == sorted(names)
    shape = next(t for t in model["tensors"] if t["name"] == "visual_projection.weight")
    assert shape["dtype"] == "F16" and shape["shape"] == [64, 64] and shape["bytes"] == 8192


def test_unknown_models(wire):
    for name in ("none", "tasks", "tasks/none", ".hidden", "tasks/.x", "a b", "a" * 300):
        answer = wire.get("/v1/models/" + name.replace(" ", "%20"))
        assert (answer.status, answer.problem()) == (404, "unknown-model"), name
        assert name in answer.json()["detail"]


def test_bad_parameters(wire):
    for query in ("limit=0", "limit=201", "after=..", "after=/etc", "after="):
        assert wire.get("/v1/models?" + query).problem() == "invalid-parameter"


def test_rescan_sees_new_broken_and_vanished_models(start_daemon, family, tmp_path):
    root = tmp_path / "models"
    shutil.copytree(family / "base", root / "base")
    wire = Wire(start_daemon(root).url)
    assert [m["name"] for m in wire.get("/v1/models").json()["data"]] == ["base"]
    shutil.copytree(family / "tasks/latin", root / "new/latin")
    (root / "bad").mkdir()
    (root / "bad/model.safetensors").write_bytes(b"\xff" * 64)
    assert wire.post("/v1/models/rescan").json() == {"ready": 2, "broken": 1}
    bad = wire.get("/v1/models/bad").json()
    assert bad["state"] == "broken" and bad["reason"] and bad["tensors"] == []
    shutil.rmtree(root / "new")
    assert wire.post("/v1/models/rescan").json() == {"ready": 1, "broken": 1}
    assert wire.get("/v1/models/new/latin").problem() == "unknown-model"


def test_adapters_are_models(start_daemon, tmp_path):
    models = tmp_path / "models"
    config = {"peft_type": "LORA", "r": 2}
    for name, said in (("fine", config), ("odd", {**config, "peft_type": "IA3"})):
        artifacts.write_file(models / name / "adapter_model.safetensors",
                             {"m.lora_A.weight": np.ones((2, 3), np.float32),
                              "m.lora_B.weight": np.ones((4, 2), np.float32)})
        (models / name / "adapter_config.json").write_text(json.dumps(said))
    (models / "half").mkdir()
    (models / "half" / "adapter_config.json").write_text("{}")
    found = {model["name"]: model for model in
             Wire(start_daemon(models).url).get("/v1/models").json()["data"]}
    assert found["fine"]["state"] == "ready" and found["fine"]["tensor_count"] == 2
    assert found["odd"]["state"] == "broken" and "IA3" in found["odd"]["reason"]
    assert "adapter_model.safetensors" in found["half"]["reason"]
    assert found["fine"]["kind"] == found["odd"]["kind"] == "adapter"


def test_a_model_may_be_called_rescan(start_daemon, family, tmp_path):
    root = tmp_path / "models"
    root.mkdir()
    wire = Wire(start_daemon(root).url)
    assert wire.get("/v1/models/rescan").problem() == "unknown-model"
    shutil.copytree(family / "base", root / "rescan")
    assert wire.post("/v1/models/rescan").json() == {"ready": 1, "broken": 0}
    model = wire.get("/v1/models/rescan").json()
    assert (model["name"], model["state"]) == ("rescan", "ready")
    assert wire.delete("/v1/models/rescan").problem() == "conflict"  # nobody uploaded it
    refused = wire.request("PUT", "/v1/models/rescan")
    assert (refused.status, refused.headers["Allow"]) == (405, "POST, DELETE, GET, HEAD")
