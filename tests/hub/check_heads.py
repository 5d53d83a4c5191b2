# SPDX-License-Identifier: Apache-2.0
"""Exact adapters bring the heads of their tasks: PEFT loads them over the base's trunk."""

import json

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

import families  # noqa: E402 (transformers may not be there)

RELATIVE_MAX = 1e-4
# What has no place in an adapter stays as the base has it: then nothing is left out.
NO_PLACE = {"llama": ["*embed_tokens*"], "bert": ["*bias"],
            "vit": ["*bias", "*cls_token", "*position_embeddings"],
            "whisper": ["*bias", "*conv*", "*embed_positions*"]}


@pytest.fixture(scope="module", params=NO_PLACE)
def merged(request, didid, tmp_path_factory):
    kind = request.param
    folder = tmp_path_factory.mktemp("heads")
    families.make(kind, folder)
    fields = {"budget": 3, "output": {"dtype": "f32"}, "exclude": NO_PLACE[kind],
              "low_rank_tensors": ["*"]}
    out = {}
    for form in ("full", "peft-exact"):
        place = folder / form
        place.mkdir()
        (place / "hub").symlink_to(folder / "hub", target_is_directory=True)
        out[form] = families.merge(didid, place, "--export", form, **fields)
    return kind, folder, out["full"] / "models", out["peft-exact"] / "adapters-exact"


def opened(kind, place, **options):
    name = families.ARCHITECTURES[kind].task
    return getattr(transformers, name).from_pretrained(place, **options)


@pytest.mark.parametrize("task, classes", families.CLASSES.items())
def test_heads_come_along(merged, task, classes):
    kind, folder, models, adapters = merged
    report = json.loads((adapters / task / "export.json").read_text())
    assert report["own_saved"] and not report["own_left_out"] and not report["left_out"]
    base = opened(kind, folder / "base", num_labels=classes)
    found = peft.PeftModel.from_pretrained(base, adapters / task).eval()
    families.assert_near(families.logits(found, kind),
                         families.logits(opened(kind, models / task).eval(), kind), RELATIVE_MAX)
