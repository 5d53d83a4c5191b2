# SPDX-License-Identifier: Apache-2.0
"""What breaks a rule of the house today, and shall not tomorrow."""

import warnings

# Each is the beginning of a problem, up to its parenthesis. Only ever shorten this list.
UNTIL_UNTIED = (
    # Folders and headers that are to come.
    "tests/style/house.py: there is no daemon/base/base.h",
    "tests/style/house.py: there is no daemon/jobs/jobs.h",
    "tests/style/house.py: there is no daemon/models/models.h",
    "tests/style/house.py: there is no proto/proto.h",
    "tests/style/house.py: there is no src/methods",
    "tests/style/house.py: there is no src/methods/method.h",
    "tests/style/house.py: there is no src/work/work.h",
    # Headers of other folders that are not their one header, or that stand above.
    "client/commands: includes proto/budget_words.h",
    "client/commands: includes proto/states.h",
    "daemon/api: includes daemon/base/clock.h",
    "daemon/api: includes daemon/base/config.h",
    "daemon/api: includes daemon/http/range.h",
    "daemon/api: includes daemon/jobs/scheduler.h",
    "daemon/api: includes daemon/models/inputs.h",
    "daemon/api: includes daemon/models/registry.h",
    "daemon/api: includes proto/export_request.h",
    "daemon/api: includes proto/extension_request.h",
    "daemon/api: includes proto/limits.h",
    "daemon/api: includes proto/names.h",
    "daemon/api: includes proto/specification.h",
    "daemon/foreground: includes daemon/base/clock.h",
    "daemon/foreground: includes daemon/base/config.h",
    "daemon/foreground: includes daemon/jobs/pool.h",
    "daemon/foreground: includes daemon/models/inputs.h",
    "daemon/foreground: includes proto/budget_words.h",
    "daemon/foreground: includes proto/extension_request.h",
    "daemon/foreground: includes proto/specification.h",
    "daemon/http: includes daemon/base/clock.h",
    "daemon/http: includes daemon/base/log.h",
    "daemon/http: includes proto/document.h",
    "daemon/http: includes proto/problems.h",
    "daemon/jobs: includes daemon/base/clock.h",
    "daemon/jobs: includes daemon/base/config.h",
    "daemon/jobs: includes daemon/models/inputs.h",
    "daemon/jobs: includes daemon/models/registry.h",
    "daemon/models: includes proto/specification.h",
    "daemon/store: includes daemon/base/clock.h",
    "daemon/store: includes daemon/base/id.h",
    "daemon/store: includes proto/states.h",
    "daemon: includes daemon/base/clock.h",
    "daemon: includes daemon/base/config.h",
    "daemon: includes daemon/base/service_manager.h",
    "daemon: includes daemon/base/state_dir.h",
    "daemon: includes daemon/jobs/scheduler.h",
    "daemon: includes daemon/models/registry.h",
    "src/extension: includes src/layer/family.h",
    "src/extension: includes src/methods/didi/pursuit.h",
    "src/merge: includes src/layer/family.h",
    "src/merge: includes src/methods/didi/pursuit.h",
    "src/merge: includes src/methods/didi/sizes.h",
    "src/merge: includes src/package/layout.h",
    "src/merge: includes src/work/similarity.h",
    "src/methods/didi: includes src/merge/merge_internal.h",
    "src/package: includes src/merge/merge_internal.h",
    "src/work: includes src/merge/merge_internal.h",
    "src/work: includes src/methods/didi/pursuit.h",
    "src/work: includes src/package/layout.h",
    # Calls upwards.
    "src/extension: calls src/work",
    "src/merge: calls src/methods/didi",
    "src/methods/didi: calls src/merge",
    "src/package: calls src/work",
    "src/work: calls src/merge",
    "src/work: calls src/methods/didi",
    # Demands that nothing asserts.
    "daemon/api: asserts nothing of what its headers demand",
    "daemon/base: asserts nothing of what its headers demand",
    "daemon/foreground: asserts nothing of what its headers demand",
    "daemon/http: asserts nothing of what its headers demand",
    "daemon/models: asserts nothing of what its headers demand",
    "proto: asserts nothing of what its headers demand",
    "src/base: asserts nothing of what its headers demand",
    "src/budget: asserts nothing of what its headers demand",
    "src/files: asserts nothing of what its headers demand",
    "src/merge: asserts nothing of what its headers demand",
    "src/package: asserts nothing of what its headers demand",
    # Functions of too many parameters.
    "src/base/digest.c: hash_file has 8 parameters",
    "src/files/safetensors_writer.c: safetensors_writer_create has 8 parameters",
    "src/layer/family_read.c: family_read_delta has 9 parameters",
    "src/layer/family_read.c: read_finite has 8 parameters",
    "src/layer/layer.c: subtract_block has 8 parameters",
    "src/math/linalg.c: eigen_pass has 8 parameters",
    "src/math/spectrum.c: leading_by_gram has 8 parameters",
    "src/math/spectrum.c: leading_by_svd has 8 parameters",
    "src/math/spectrum.c: spectrum_leading has 8 parameters",
    "src/merge/publish.c: copy_array has 10 parameters",
    "src/methods/didi/encode.c: keep_rows has 8 parameters",
    "src/methods/didi/pursuit.c: pursue_round has 8 parameters",
    "src/package/export_full.c: didi_export_full has 9 parameters",
    "src/work/dense.c: scan_task has 8 parameters",
    # Files too long or too short.
    "daemon/api/api.c: too short for a file of its own",
    "daemon/api/extend.c: too short for a file of its own",
    "daemon/api/job_json.c: too short for a file of its own",
    "daemon/api/routes.c: too short for a file of its own",
    "daemon/api/system.c: too short for a file of its own",
    "daemon/base/clock.c: too short for a file of its own",
    "daemon/base/service_manager.c: too short for a file of its own",
    "daemon/foreground/keep.c: too short for a file of its own",
    "daemon/foreground/summary.c: too short for a file of its own",
    "daemon/store/store.h: longer than 150 lines",
    "proto/budget_words.c: too short for a file of its own",
    "proto/specification_check.c: too short for a file of its own",
    "src/layer/layer.h: longer than 150 lines",
    "src/layer/memory.c: too short for a file of its own",
    "src/math/linalg_blas.c: too short for a file of its own",
    "src/math/random.c: too short for a file of its own",
    "src/merge/merge_internal.h: longer than 150 lines",
    "src/methods/didi/pursuit.h: longer than 150 lines",
    "src/methods/didi/ratio.c: too short for a file of its own",
    "src/methods/didi/warm.c: too short for a file of its own",
    "src/package/manifest_file.c: too short for a file of its own",
    "src/version.c: too short for a file of its own",
)


def key(problem):
    """A problem without the places that its parenthesis lists."""
    return problem.split(" (")[0]


def report(problems, excused=UNTIL_UNTIED):
    """Fails with all problems but those that are excused."""
    rest = [str(problem) for problem in problems if key(str(problem)) not in excused]
    assert not rest, "\n" + "\n".join(rest)


def warn_of_stale(problems, kind, excused=UNTIL_UNTIED):
    """Tells which entries of a kind (a word that stands in them) are not needed any more."""
    found = {key(str(problem)) for problem in problems}
    for entry in excused:
        if kind in entry and entry not in found:
            warnings.warn(f"until.py: no longer true: {entry}")
