# SPDX-License-Identifier: Apache-2.0
"""Exact adapters bring the heads of their tasks: PEFT loads them over the base's trunk."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

import families  # noqa: E402 (transformers may not be there)

RELATIVE_MAX = 1e-4
KIND = "llama"


@pytest.fixture(scope="module")
def merged(didid, tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads")
    families.make(KIND, folder)
    fields = {"output": {"dtype": "f32"}, "exclude": ["*embed_tokens*"], "low_rank_tensors": ["*"]}
    out = {}
    for form in ("full", "peft-exact"):
        place = folder / form
        place.mkdir()
        (place / "hub").symlink_to(folder / "hub", target_is_directory=True)
        out[form] = families.merge(didid, place, "--export", form, **fields)
    return folder, out["full"] / "models", out["peft-exact"] / "adapters-exact"


@pytest.mark.parametrize("task, classes", families.CLASSES.items())
def test_heads_come_along(merged, task, classes):
    folder, models, adapters = merged
    name = families.ARCHITECTURES[KIND].task
    base = getattr(transformers, name).from_pretrained(folder / "base", num_labels=classes)
    found = peft.PeftModel.from_pretrained(base, adapters / task).eval()
    wanted = getattr(transformers, name).from_pretrained(models / task).eval()
    families.assert_near(families.logits(found, KIND), families.logits(wanted, KIND),
                         RELATIVE_MAX)
