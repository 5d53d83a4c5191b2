/* SPDX-License-Identifier: Apache-2.0 */
/* What `didid run` was told. */
#pragma once

#include "daemon/base/base.h"
#include "daemon/jobs/jobs.h"

#include <stdbool.h>
#include <stdio.h>

/* Texts are the command line's; NULL where nothing was said. */
typedef struct arguments {
    const char *specification_path, *out, *export;
    const char *max_rank;
    export_kind exported;            /* what the two say */
    const char *keep, *reuse;        /* directories: to leave spectra in, to take them from */
    const char *package;             /* directory of the package to extend */
    const char *comparison;          /* that of a full merge's package, for the report */
    const char *budget;              /* of each task added; NULL: as the package's own */
    const char *score, *split;       /* a command, and the data that it scores on */
    const char *tune, *report_split; /* OPTION=V,...; the data that the result is scored on */
    const char *score_seconds, *score_memory, *score_user;
    bool score_unconfined, proxies;
    option_list paths, added, removed; /* of `added`: NAME=MODEL */
    bool rebalance, verbose, help;
    option_settings settings;
    config config; /* models, workers, memory_limit, max_shard_bytes; free with config_clear */
} arguments;

/* Reads them into a struct that config_init has filled. Errors: DIDI_INVALID. */
int arguments_read(arguments *self, int argc, char **argv, didi_error *error);

void arguments_print_usage(FILE *stream);
