/* SPDX-License-Identifier: Apache-2.0 */
/* The fake merge. */
#include "tests/unit/fake_merge.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

struct didi_merge {
    fake_merge_settings settings;
    fake_log *log;
    size_t given, done, in_flight, helpers;
    atomic_bool cancelled, recalled;
    bool failed;
};

struct didi_item {
    didi_merge *merge;
    bool helper, fails;
};

static pthread_mutex_t fake_lock = PTHREAD_MUTEX_INITIALIZER;

didi_merge *fake_merge_create(const fake_merge_settings *settings, fake_log *log)
{
    didi_merge *merge = calloc(1, sizeof *merge);
    merge->settings = *settings;
    merge->log = log;
    return merge;
}

size_t fake_log_count(const fake_log *log)
{
    pthread_mutex_lock(&fake_lock);
    size_t count = log->count;
    pthread_mutex_unlock(&fake_lock);
    return count;
}

size_t fake_merge_done(const didi_merge *merge)
{
    return merge->done;
}

void didi_merge_close(didi_merge *merge)
{
    free(merge);
}

static didi_next give(didi_merge *merge, bool helper, didi_item **ret_item)
{
    didi_item *item = calloc(1, sizeof *item);
    item->merge = merge;
    item->helper = helper;
    if (helper) {
        merge->helpers++;
    } else {
        merge->in_flight++;
        item->fails = ++merge->given == merge->settings.fails_at;
    }
    *ret_item = item;
    return DIDI_NEXT_ITEM;
}

bool didi_merge_is_over(const didi_merge *merge)
{
    return merge->given == merge->settings.items || merge->failed || atomic_load(&merge->cancelled);
}

didi_next didi_merge_next(didi_merge *merge, uint64_t memory_available, bool helper,
                          didi_item **ret_item)
{
    const fake_merge_settings *settings = &merge->settings;
    size_t at_once = settings->at_once != 0 ? settings->at_once : SIZE_MAX;
    const bool over = didi_merge_is_over(merge);
    if (!over && merge->in_flight < at_once && settings->memory <= memory_available)
        return give(merge, false, ret_item);
    if (over && merge->in_flight == 0 && merge->helpers == 0)
        return DIDI_NEXT_FINISHED;
    if (helper && settings->helpers && merge->in_flight > 0) {
        atomic_store(&merge->recalled, false);
        return give(merge, true, ret_item);
    }
    return DIDI_NEXT_WAIT;
}

uint64_t didi_item_memory(const didi_item *item)
{
    return item->helper ? 0 : item->merge->settings.memory;
}

static void log_begin(const didi_item *item)
{
    fake_log *log = item->merge->log;
    pthread_mutex_lock(&fake_lock);
    if (item->helper)
        log->helpers_begun++;
    else if (log->count < sizeof log->order - 1)
        log->order[log->count++] = item->merge->settings.name[0];
    log->memory += didi_item_memory(item);
    log->memory_peak = log->memory > log->memory_peak ? log->memory : log->memory_peak;
    log->running++;
    log->running_peak = log->running > log->running_peak ? log->running : log->running_peak;
    pthread_mutex_unlock(&fake_lock);
}

void didi_item_execute(didi_item *item)
{
    log_begin(item);
    if (item->helper)
        for (int i = 0; i < 2000 && !atomic_load(&item->merge->recalled); i++)
            usleep(500);
    else
        usleep(item->merge->settings.microseconds);
    pthread_mutex_lock(&fake_lock);
    item->merge->log->memory -= didi_item_memory(item);
    item->merge->log->running--;
    pthread_mutex_unlock(&fake_lock);
}

void didi_merge_complete(didi_merge *merge, didi_item *item)
{
    if (item->helper) {
        merge->helpers--;
    } else {
        merge->in_flight--;
        merge->done++;
        merge->failed = merge->failed || item->fails;
        if (merge->in_flight == 0)
            atomic_store(&merge->recalled, true); /* nothing left to help with */
    }
    free(item);
}

void didi_merge_recall_helpers(didi_merge *merge)
{
    merge->log->helpers_recalled++;
    atomic_store(&merge->recalled, true);
}

void didi_merge_cancel(didi_merge *merge)
{
    atomic_store(&merge->cancelled, true);
}

int didi_merge_result(const didi_merge *merge, didi_error *error)
{
    if (merge->failed)
        return didi_fail(error, DIDI_NUMERIC, merge->settings.name, "made to fail");
    if (merge->given < merge->settings.items)
        return didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
    return DIDI_OK;
}
