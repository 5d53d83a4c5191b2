/* SPDX-License-Identifier: Apache-2.0 */
/* Families of series: lists that only grow, of numbers that are atomic. */
#include "daemon/base/metrics.h"

#include "src/base/base.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum metric_kind { KIND_COUNTER, KIND_GAUGE, KIND_LONG, KIND_SHORT } metric_kind;

static const double buckets_long[] = {METRIC_BUCKETS_LONG};
static const double buckets_short[] = {METRIC_BUCKETS_SHORT};
enum { BUCKETS = sizeof buckets_long / sizeof buckets_long[0], LABEL_BYTES = 64, NAME_BYTES = 96 };
_Static_assert(sizeof buckets_short == sizeof buckets_long, "as many buckets in both sets");

static const struct {
    metric_kind kind;
    const char *name, *labels, *help;
} families[] = {
#define METRIC_FAMILY(id, kind, name, labels, help) {KIND_##kind, "didid_" name, labels, help},
    METRIC_TABLE(METRIC_FAMILY)
#undef METRIC_FAMILY
};

typedef struct series {
    struct series *next; /* older */
    char labels[METRIC_LABELS_MAX][LABEL_BYTES];
    _Atomic double value;                  /* or a histogram's sum */
    _Atomic uint64_t buckets[BUCKETS + 1]; /* the last one: above all bounds */
} series;

static struct {
    pthread_mutex_t lock; /* for whoever adds a series */
    struct {
        _Atomic(series *) first;
        size_t count; /* under the lock */
    } family[METRIC_COUNT];
} metrics_state = {.lock = PTHREAD_MUTEX_INITIALIZER};

static size_t label_count(metric id)
{
    size_t count = families[id].labels[0] != '\0';
    for (const char *c = families[id].labels; *c != '\0'; c++)
        count += *c == ',';
    return count;
}

static bool is_histogram(metric id)
{
    return families[id].kind == KIND_LONG || families[id].kind == KIND_SHORT;
}

static series *series_look(metric id, const char *const *labels, size_t count)
{
    series *found = atomic_load(&metrics_state.family[id].first);
    for (; found != NULL; found = found->next) {
        size_t equal = 0;
        while (equal < count && strncmp(found->labels[equal], labels[equal], LABEL_BYTES - 1) == 0)
            equal++;
        if (equal == count)
            return found;
    }
    return NULL;
}

/* NULL when out of memory: then it is not counted. */
static series *series_find(metric id, const char *const *labels)
{
    static const char *const other[METRIC_LABELS_MAX] = {"other", "other", "other"};
    size_t count = label_count(id);
    assert((labels != NULL) == (count > 0) && count <= METRIC_LABELS_MAX);
    if (labels == NULL)
        labels = other; /* none of them is looked at */
    series *found = series_look(id, labels, count);
    if (found != NULL)
        return found;
    pthread_mutex_lock(&metrics_state.lock);
    if (metrics_state.family[id].count >= METRIC_SERIES_MAX)
        labels = other;
    found = series_look(id, labels, count);
    if (found == NULL && (found = memory_zeroed(1, sizeof *found)) != NULL) {
        for (size_t i = 0; i < count; i++)
            text_copy_printable(found->labels[i], LABEL_BYTES, labels[i]);
        found->next = atomic_load(&metrics_state.family[id].first);
        metrics_state.family[id].count++;
        atomic_store(&metrics_state.family[id].first, found);
    }
    pthread_mutex_unlock(&metrics_state.lock);
    return found;
}

static void add_to(_Atomic double *sum, double amount)
{
    double before = atomic_load(sum);
    while (!atomic_compare_exchange_weak(sum, &before, before + amount))
        ;
}

void metric_add(metric id, const char *const *labels, double amount)
{
    series *found = series_find(id, labels);
    assert(!is_histogram(id) && (families[id].kind == KIND_GAUGE || amount >= 0));
    if (found != NULL && amount != 0)
        add_to(&found->value, amount);
}

void metric_set(metric id, const char *const *labels, double value)
{
    series *found = series_find(id, labels);
    assert(!is_histogram(id));
    if (found != NULL)
        atomic_store(&found->value, value);
}

static const double *bounds_of(metric id)
{
    return families[id].kind == KIND_LONG ? buckets_long : buckets_short;
}

void metric_observe(metric id, const char *const *labels, double seconds)
{
    series *found = series_find(id, labels);
    size_t bucket = 0;
    assert(is_histogram(id));
    if (found == NULL || !(seconds >= 0))
        return;
    while (bucket < BUCKETS && seconds > bounds_of(id)[bucket])
        bucket++;
    atomic_fetch_add(&found->buckets[bucket], 1);
    add_to(&found->value, seconds);
}

double metric_sum(metric id)
{
    double sum = 0;
    const series *one = atomic_load(&metrics_state.family[id].first);
    for (; one != NULL; one = one->next)
        sum += atomic_load(&one->value);
    return sum;
}

/* ---- the text format ---- */

/* {a="x",b="y"} with `more`, a label of the format's own, at its end. */
static void render_labels(FILE *out, metric id, const series *one, const char *more)
{
    const char *name = families[id].labels;
    size_t count = label_count(id);
    if (count == 0 && more == NULL)
        return;
    (void)fputc('{', out);
    for (size_t i = 0; i < count; i++) {
        int bytes = (int)strcspn(name, ",");
        fprintf(out, "%s%.*s=\"", i > 0 ? "," : "", bytes, name);
        for (const char *c = one->labels[i]; *c != '\0'; c++)
            fprintf(out, *c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
        (void)fputc('"', out);
        name += bytes + 1;
    }
    if (more != NULL)
        fprintf(out, "%sle=\"%s\"", count > 0 ? "," : "", more);
    (void)fputc('}', out);
}

static void render_value(FILE *out, metric id, const series *one)
{
    fputs(families[id].name, out);
    render_labels(out, id, one, NULL);
    fprintf(out, " %.17g\n", atomic_load(&one->value));
}

static void render_histogram(FILE *out, metric id, const series *one)
{
    uint64_t total = 0;
    for (size_t i = 0; i <= BUCKETS; i++) {
        char bound[32] = "+Inf";
        total += atomic_load(&one->buckets[i]);
        if (i < BUCKETS)
            snprintf(bound, sizeof bound, "%g", bounds_of(id)[i]);
        fprintf(out, "%s_bucket", families[id].name);
        render_labels(out, id, one, bound);
        fprintf(out, " %" PRIu64 "\n", total);
    }
    fprintf(out, "%s_sum", families[id].name);
    render_labels(out, id, one, NULL);
    fprintf(out, " %.17g\n%s_count", atomic_load(&one->value), families[id].name);
    render_labels(out, id, one, NULL);
    fprintf(out, " %" PRIu64 "\n", total);
}

static void render_family(FILE *out, metric id)
{
    static const char *const types[] = {"counter", "gauge", "histogram", "histogram"};
    if (label_count(id) == 0 && families[id].kind != KIND_GAUGE)
        (void)series_find(id, NULL); /* what has not happened yet is 0 */
    const series *one = atomic_load(&metrics_state.family[id].first);
    if (one == NULL)
        return;
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", families[id].name, families[id].help,
            families[id].name, types[families[id].kind]);
    for (; one != NULL; one = one->next)
        if (is_histogram(id))
            render_histogram(out, id, one);
        else
            render_value(out, id, one);
}

char *metrics_render(void)
{
    text_stream *stream = text_stream_open();
    if (stream == NULL)
        return NULL;
    FILE *out = text_stream_file(stream);
    for (metric id = 0; id < METRIC_COUNT; id++)
        render_family(out, id);
    return text_stream_close(stream, NULL);
}
