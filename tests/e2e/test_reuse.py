# SPDX-License-Identifier: Apache-2.0
"""Foreground merges that start from what another one kept."""

import artifacts


def test_another_budget_from_kept_spectra(run, demo_specification, family, tmp_path):
    kept, again = tmp_path / "kept", tmp_path / "again"
    first = run(demo_specification(), family, "--keep", str(kept))
    assert (kept / "reuse.json").is_file()
    before = {path.name: path.stat().st_mtime_ns for path in kept.iterdir()}
    fresh = run(demo_specification(budget=1.0), family).manifest()
    warm = [run(demo_specification(budget=1.0), family, "--reuse", str(kept), "--workers", str(n),
                *more) for n, more in ((1, ()), (3, ("--keep", str(again))))]
    assert artifacts.digests(warm[0].out) == artifacts.digests(warm[1].out)
    manifest = warm[0].manifest()
    assert manifest["budget"]["parameters"] <= 1.0
    assert manifest["error"]["relative"] < 1.02 * fresh["error"]["relative"]
    assert manifest["inputs"] == fresh["inputs"] == first.manifest()["inputs"]
    assert {path.name: path.stat().st_mtime_ns for path in kept.iterdir()} == before
    run(demo_specification(budget=1.5), family, "--reuse", str(again))


def test_what_cannot_be_reused_is_said(run, demo_specification, small_specification, family, models,
                                       tmp_path):
    kept = tmp_path / "kept"
    run(small_specification(), models, "--keep", str(kept))
    other = run(demo_specification(), family, "--reuse", str(kept), status=1)
    assert "4" in other.stderr and "leave from_job out" in other.stderr
    nothing = run(small_specification(), models, "--reuse", str(tmp_path), status=1)
    assert "what the earlier merge kept" in nothing.stderr
    missing = run(small_specification(), models, "--reuse", str(tmp_path / "none"), status=1)
    assert "cannot open" in missing.stderr
    taken = run(small_specification(), models, "--keep", str(models), status=1)
    assert "not an empty directory" in taken.stderr
    named = run(small_specification(from_job="7" * 26), models, status=1)
    assert "--reuse" in named.stderr
    model = models / "one" / "model.safetensors"
    model.write_bytes(model.read_bytes())
    changed = run(small_specification(), models, "--reuse", str(kept), status=1)
    assert "one/model.safetensors was replaced or modified" in changed.stderr
