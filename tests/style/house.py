# SPDX-License-Identifier: Apache-2.0
"""The plan of the house: its folders, the one header of each, and who may know whom."""

import pathlib

# The library from top to bottom: a folder may include the headers of all that stand below it.
# None: nobody includes it. `src` itself holds what the outside sees, and words that all share.
LIBRARY = {
    "src/merge": None,
    "src/methods": "src/methods/method.h",
    "src/work": "src/work/work.h",
    "src/extension": "src/extension/extension.h",
    "src/layer": "src/layer/layer.h",
    "src/budget": "src/budget/budget.h",
    "src/package": "src/package/package.h",
    "src/files": "src/files/files.h",
    "src/math": "src/math/math.h",
    "src": "src/didi.h",
    "src/base": "src/base/base.h",
}

# A method of several files is a house of its own beside merge: it stands on what `methods` stands
# on, and is known to the table of methods alone, by a name in that table's header.
METHODS = {"src/methods/didi": "src/methods/methods.h"}

# Everything else: folder -> (its header, folders whose headers it may include). http and jobs do
# not know each other: both speak to the store.
PROGRAMS = {
    "proto": ("proto/proto.h", "src/base"),

    "daemon": (None, "daemon/access daemon/api daemon/cluster daemon/dashboard daemon/fetch "
                     "daemon/foreground daemon/hooks daemon/jobs daemon/models daemon/recovery "
                     "daemon/score daemon/uploads daemon/webhooks daemon/worker daemon/http "
                     "daemon/store daemon/base proto src src/base"),
    "daemon/access": ("daemon/access/access.h",
                      "daemon/http daemon/store daemon/base proto src/base"),
    "daemon/api": ("daemon/api/api.h", "daemon/access daemon/dashboard daemon/egress daemon/fetch "
                                       "daemon/hooks daemon/jobs daemon/models "
                                       "daemon/s3 daemon/recovery daemon/report daemon/uploads "
                                       "daemon/webhooks daemon/http daemon/store daemon/base "
                                       "proto src src/package src/base"),
    "daemon/dashboard": ("daemon/dashboard/dashboard.h",
                         "daemon/http daemon/base proto src/base"),
    "daemon/report": ("daemon/report/report.h", "proto src/base"),
    "daemon/fetch": ("daemon/fetch/fetch.h",
                     "daemon/egress daemon/models daemon/s3 daemon/store daemon/base proto "
                     "src/base"),
    "daemon/webhooks": ("daemon/webhooks/webhooks.h",
                        "daemon/egress daemon/store daemon/base proto src src/base"),
    "daemon/uploads": ("daemon/uploads/uploads.h",
                       "daemon/models daemon/store daemon/base proto src/base"),
    "daemon/hooks": ("daemon/hooks/hooks.h", "daemon/fetch daemon/models daemon/store daemon/base "
                                             "proto src src/base"),
    "daemon/s3": ("daemon/s3/s3.h", "daemon/egress daemon/base src/base"),
    "daemon/egress": ("daemon/egress/egress.h", "src/base"),
    "daemon/foreground": ("daemon/foreground/foreground.h",
                          "daemon/jobs daemon/models daemon/score daemon/base proto src "
                          "src/package src/base"),
    "daemon/jobs": ("daemon/jobs/jobs.h", "daemon/cluster daemon/models daemon/s3 daemon/score "
                                          "daemon/store daemon/worker daemon/base proto src "
                                          "src/base"),
    "daemon/worker": ("daemon/worker/worker.h", "daemon/models daemon/base proto src src/base"),
    "daemon/cluster": ("daemon/cluster/cluster.h", "daemon/process daemon/base proto src/base"),
    "daemon/mpi": (None, "daemon/worker daemon/base src src/base"),
    "daemon/process": ("daemon/process/process.h", "daemon/base src/base"),
    "daemon/models": ("daemon/models/models.h",
                      "daemon/store daemon/base proto src src/files src/base"),
    "daemon/score": ("daemon/score/score.h",
                     "daemon/models daemon/process daemon/base src/files src/package src/base"),
    "daemon/recovery": ("daemon/recovery/recovery.h",
                        "daemon/s3 daemon/store daemon/base proto src src/package src/base"),
    "daemon/http": ("daemon/http/http.h", "daemon/base proto src/base"),
    "daemon/store": ("daemon/store/store.h", "daemon/base proto src/base"),
    "daemon/base": ("daemon/base/base.h", "proto src/base"),

    "client": (None, "client/commands client/base src/base"),
    "client/commands": ("client/commands/commands.h",
                        "client/net client/view client/base proto src/base"),
    "client/net": ("client/net/net.h", "client/base src/base"),
    "client/view": ("client/view/view.h", "client/base src/base"),
    "client/base": ("client/base/base.h", "src/base"),
}


def below(floors, name):
    """Floors are listed from the top: those under `name`."""
    names = list(floors)
    return frozenset(names[names.index(name) + 1:])


def plan():
    """Every folder -> (its header or None, the set of folders it may include)."""
    library = {name: (header, below(LIBRARY, name)) for name, header in LIBRARY.items()}
    methods = {name: (None, below(LIBRARY, "src/methods") | {"src/methods"}) for name in METHODS}
    programs = {name: (header, frozenset(may.split())) for name, (header, may) in PROGRAMS.items()}
    return {**library, **methods, **programs}


def folder_of(path):
    return str(pathlib.PurePath(path).parent)
