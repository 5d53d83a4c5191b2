# SPDX-License-Identifier: Apache-2.0
"""Which tasks share: the manifest's cosines and shares, computed again with NumPy alone."""

import numpy as np
import pytest

import artifacts


def task_vectors(models, manifest):
    """{tensor: tasks x numbers} of the matrices that got factors."""
    base = artifacts.read_model(models / "base")
    names = manifest["similarity"]["tasks"]
    tuned = [artifacts.read_model(models / manifest["inputs"]["tasks"][name]["model"])
             for name in names]
    matrices = [row["tensor"] for row in manifest["ranks"]["layers"]]
    return {tensor: np.stack([model[tensor].astype(np.float64).ravel()
                              - base[tensor].astype(np.float64).ravel() for model in tuned])
            for tensor in matrices}


def cosines(gram):
    lengths = np.sqrt(np.diag(gram))
    return gram / np.outer(lengths, lengths)


@pytest.mark.parametrize("allocator", ["pursuit", "exact"])
def test_similarity_is_that_of_the_task_vectors(run, demo_specification, family, allocator):
    outcome = run(demo_specification(ranks={"allocator": allocator}, output={"dtype": "f32"}),
                  family)
    manifest = outcome.manifest()
    found = manifest["similarity"]
    vectors = task_vectors(family, manifest)
    assert found["tasks"] == ["mnist", "latin", "hiragana", "orient"]
    grams = {tensor: rows @ rows.T for tensor, rows in vectors.items()}
    assert np.allclose(found["cosine"], cosines(sum(grams.values())), atol=2e-6)
    assert [row["tensor"] for row in found["layers"]] == list(vectors)
    for row in found["layers"]:
        assert np.allclose(row["cosine"], cosines(grams[row["tensor"]]), atol=2e-6)


def explained(models, outcome):
    """Of each task, the share that the stored shared part takes away."""
    vectors = task_vectors(models, outcome.manifest())
    shared = artifacts.read_file(outcome.out / "shared.safetensors")
    left = energy = 0
    for tensor, rows in vectors.items():
        if f"{tensor}.shared_B" in shared:
            product = (shared[f"{tensor}.shared_B"].astype(np.float64)
                       @ shared[f"{tensor}.shared_A"].astype(np.float64))
            rows = rows - product.ravel()
        left = left + np.sum(rows ** 2, axis=1)
        energy = energy + np.sum(vectors[tensor] ** 2, axis=1)
    return 1 - left / energy


def test_what_the_shared_part_explains(run, demo_specification, family):
    outcome = run(demo_specification(output={"dtype": "f32"}), family)
    assert np.allclose(outcome.manifest()["similarity"]["explained_by_shared"],
                       explained(family, outcome), atol=1e-5)


def test_without_a_shared_part_nothing_is_explained(run, small_specification, models):
    manifest = run(small_specification(shared={"merge": "none"}), models).manifest()
    assert np.allclose(manifest["similarity"]["explained_by_shared"], 0)
    assert manifest["similarity"]["cosine"][0][0] == 1


def check_cosines(models, outcome, known):
    """Cosines of the pairs known(s, t) are those of the task vectors; the others are null."""
    manifest = outcome.manifest()
    found = manifest["similarity"]
    grams = {tensor: rows @ rows.T for tensor, rows in task_vectors(models, manifest).items()}
    assert found["tasks"] == manifest["ranks"]["tasks"]
    assert [row["tensor"] for row in found["layers"]] == list(grams)
    pairs = [(found["cosine"], cosines(sum(grams.values())))]
    pairs += [(row["cosine"], cosines(grams[row["tensor"]])) for row in found["layers"]]
    for told, exact in pairs:
        for s, first in enumerate(found["tasks"]):
            for t, second in enumerate(found["tasks"]):
                if known(first, second):
                    assert told[s][t] == pytest.approx(exact[s][t], abs=2e-6)
                else:
                    assert told[s][t] is None
    assert np.allclose(found["explained_by_shared"], explained(models, outcome), atol=1e-5)


def test_an_extension_tells_what_it_and_its_package_know(run, demo_specification, family):
    specification = demo_specification(output={"dtype": "f32"})
    full = run(specification, family)
    specification["tasks"] = specification["tasks"][:2]
    package = run(specification, family)
    kept = {"mnist", "latin"}
    added = ["--task", "hiragana=tasks/hiragana", "--task", "orient=tasks/orient"]
    more = run(None, family, "--extend", package.out, *added)
    check_cosines(family, more, lambda s, t: (s in kept) == (t in kept))
    compared = run(None, family, "--extend", package.out, *added, "--compare", full.out)
    check_cosines(family, compared, lambda s, t: True)
    less = run(None, family, "--extend", more.out, "--remove", "latin")
    check_cosines(family, less, lambda s, t: (s in kept) == (t in kept))


def test_a_task_that_comes_again_is_another_one(run, demo_specification, family):
    specification = demo_specification(output={"dtype": "f32"})
    specification["tasks"] = specification["tasks"][:2]
    package = run(specification, family)
    swapped = run(None, family, "--extend", package.out, "--remove", "latin", "--task",
                  "latin=tasks/orient")
    check_cosines(family, swapped, lambda s, t: s == t)
