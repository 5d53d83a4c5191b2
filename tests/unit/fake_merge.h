/* SPDX-License-Identifier: Apache-2.0 */
/* A merge that only pretends: items that sleep, use made-up memory and can fail. It stands in for
 * the library's where dispatching is tested. */
#pragma once

#include "src/didi.h"

typedef struct fake_merge_settings {
    const char *name;
    size_t items, at_once; /* how many; how many may be in flight together (0 = all) */
    uint64_t memory;       /* bytes an item claims */
    unsigned microseconds; /* an item takes */
    size_t fails_at;       /* the item (from 1) that fails; 0 = none */
    bool helpers;          /* gives helper items while items are in flight */
} fake_merge_settings;

/* What happened, in order, over all fakes of a test: letters of names, one an item begun. */
typedef struct fake_log {
    char order[4096];
    size_t count;
    uint64_t memory, memory_peak;
    size_t running, running_peak;
    size_t helpers_begun, helpers_recalled;
} fake_log;

didi_merge *fake_merge_create(const fake_merge_settings *settings, fake_log *log);
/* Items begun so far. */
size_t fake_log_count(const fake_log *log);
size_t fake_merge_done(const didi_merge *merge);
