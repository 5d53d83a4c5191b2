# SPDX-License-Identifier: Apache-2.0
"""docs/serve_package.py computes what the exported models do, from one base in memory."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import families  # noqa: E402 (transformers may not be there)
import read_package  # noqa: E402
import serve_package  # noqa: E402

RELATIVE_MAX = 1e-5
DTYPES = {"f32": {"dense": "per_task"}, "int4": {"dense": "mean"}, "auto": {"budget": 4}}


@pytest.fixture(scope="module", params=[(kind, dtype) for kind in families.ARCHITECTURES
                                        for dtype in DTYPES], ids="-".join)
def served(didid, tmp_path_factory, request):
    """(kind, package, task -> model attached to one base, folder of the merge)."""
    kind, dtype = request.param
    folder = tmp_path_factory.mktemp(kind)
    families.make(kind, folder)
    out = families.merge(didid, folder, "--export", "full", output={"dtype": dtype},
                         **DTYPES[dtype])
    package = serve_package.Package(out, folder / "base")
    for task in families.CLASSES:
        config = transformers.AutoConfig.from_pretrained(folder / task)
        package.attach(task, getattr(transformers, families.ARCHITECTURES[kind].task)(config))
    return kind, package, folder


def exported(folder, kind, task):
    name = families.ARCHITECTURES[kind].task
    return getattr(transformers, name).from_pretrained(folder / "out" / "models" / task).eval()


def test_tasks_compute_what_their_exported_models_do(served):
    kind, package, folder = served
    for task in (*families.CLASSES, *reversed(families.CLASSES)):
        wanted = families.logits(exported(folder, kind, task), kind)
        found = families.logits(package.models[task], kind)
        assert found.shape == wanted.shape
        families.assert_near(found, wanted, RELATIVE_MAX)


def test_matrices_with_factors_are_there_once(served):
    _, package, folder = served
    base = {values.data_ptr(): name for name, values in package.base.items()}
    for task, model in package.models.items():
        stored = read_package.read_file(folder / "out" / "experts" / f"{task}.safetensors")
        factors, deltas = package.parts(stored)
        grown = {key.removesuffix(".own_rows") for key in stored if key.endswith(".own_rows")}
        shared = {base.get(values.data_ptr()) for values in model.state_dict().values()}
        lacking = factors.keys() - deltas.keys() - grown - package.moved.keys() - shared
        assert not [name for name in lacking if "position" not in name]


def test_tensors_that_lack_are_named(served):
    kind, package, folder = served
    config = transformers.AutoConfig.from_pretrained(folder / "three")
    model = getattr(transformers, families.ARCHITECTURES[kind].task)(config)
    model.extra = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="extra.weight"):
        package.attach("three", model)
