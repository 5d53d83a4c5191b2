/* SPDX-License-Identifier: Apache-2.0 */
/* What each item of a merge takes on one thread:
 *   item_costs MODELS SCRATCH BUDGET WORKERS [reopen|plan]
 *
 * MODELS/base and MODELS/task0 ... are merged with default options, opened as for WORKERS threads
 * but run on one. One line of JSON an item: CPU seconds, operations, bytes, and `span`, the CPU
 * seconds that no number of helper threads takes away: (cpu - span) / threads + span are enough
 * with some. The loops that helpers share are counted by taking the place of parallel_run and its
 * like (the linker's --wrap). With
 * `reopen` the merge is closed and opened anew before each row, as a worker of a cluster does: a
 * line tells what that took, another what each `once` row that is run again did. With `plan`
 * nothing is run: what the headers tell. */
#include "src/merge/merge.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { TASKS_MAX = 1000, NAME_BYTES = 32, DECIMAL = 10 };

static double seconds_of(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ---- work and span ---- */

/* Of what ran so far, what helpers could take away at most. */
static double saved;

typedef struct loop_clock {
    double before, longest, whole, began;
} loop_clock;

static loop_clock loop_begin(void)
{
    return (loop_clock){.before = saved};
}

static void index_begin(loop_clock *clock)
{
    saved = clock->before;
    clock->began = seconds_of(CLOCK_THREAD_CPUTIME_ID);
}

static void index_end(loop_clock *clock)
{
    double took = seconds_of(CLOCK_THREAD_CPUTIME_ID) - clock->began;
    double span = took - (saved - clock->before);
    clock->whole += took;
    clock->longest = span > clock->longest ? span : clock->longest;
}

static void loop_end(const loop_clock *clock)
{
    saved = clock->before + clock->whole - clock->longest;
}

void __wrap_parallel_run(parallel *self, size_t count, void (*task)(void *argument, size_t index),
                         void *argument);
void __wrap_parallel_run(parallel *self, size_t count, void (*task)(void *argument, size_t index),
                         void *argument)
{
    loop_clock clock = loop_begin();
    (void)self;
    for (size_t i = 0; i < count; i++) {
        index_begin(&clock);
        task(argument, i);
        index_end(&clock);
    }
    loop_end(&clock);
}

int __wrap_parallel_try(parallel *self, size_t count,
                        int (*task)(void *argument, size_t index, didi_error *error),
                        void *argument, didi_error *error);
int __wrap_parallel_try(parallel *self, size_t count,
                        int (*task)(void *argument, size_t index, didi_error *error),
                        void *argument, didi_error *error)
{
    loop_clock clock = loop_begin();
    int status = DIDI_OK;
    (void)self;
    for (size_t i = 0; i < count && status == DIDI_OK; i++) {
        index_begin(&clock);
        status = task(argument, i, error);
        index_end(&clock);
    }
    loop_end(&clock);
    return status;
}

void __wrap_parallel_ranges(parallel *self, size_t count, size_t width,
                            void (*task)(void *argument, size_t first, size_t end), void *argument);
void __wrap_parallel_ranges(parallel *self, size_t count, size_t width,
                            void (*task)(void *argument, size_t first, size_t end), void *argument)
{
    loop_clock clock = loop_begin();
    (void)self;
    for (size_t first = 0; first < count; first += width) {
        index_begin(&clock);
        task(argument, first, count - first < width ? count : first + width);
        index_end(&clock);
    }
    loop_end(&clock);
}

/* ---- one merge ---- */

typedef struct inputs {
    didi_merge_options options;
    didi_task_input tasks[TASKS_MAX];
    char names[TASKS_MAX][NAME_BYTES];
    bool reopen;
} inputs;

static _Noreturn void die(const char *what, const didi_error *error)
{
    (void)fprintf(stderr, "item_costs: %s: %s: %s\n", what, error != NULL ? error->subject : "",
                  error != NULL ? error->message : "");
    exit(1);
}

static int open_directory(int parent, const char *name)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        die(name, NULL);
    return fd;
}

/* A counter of /proc/self/io, or 0. */
static long long io_bytes(const char *field)
{
    char line[128];
    long long value = 0;
    FILE *file = fopen("/proc/self/io", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, field, strlen(field)) == 0)
            value = strtoll(line + strlen(field) + 1, NULL, DECIMAL);
    if (file != NULL)
        (void)fclose(file);
    return value;
}

static const char *row_name(const didi_merge *merge, size_t row)
{
    const engine_row *at = &merge->rows[row];
    return at->kind == ROW_DIGEST  ? "digest"
           : at->kind == ROW_WRITE ? "write"
           : at->kind == ROW_SEAL  ? "seal"
           : at->kind == ROW_ONCE  ? (at->number > 1 ? "ranks" : "schedule")
                                   : at->stage->name;
}

static void run_item(didi_merge *merge, didi_item *item)
{
    const engine_row *row = &merge->rows[item->row];
    const didi_plan_layer *of = row->kind == ROW_EACH && item->index < merge->work.plan.layer_count
                                    ? &merge->work.plan.layers[item->index]
                                    : NULL;
    const atomic_ullong *flops = &merge->work.usage[row->told_as].flops;
    unsigned long long flops_before = atomic_load(flops);
    unsigned long long read_before = atomic_load(&merge->work.bytes_read);
    long long written_before = io_bytes("wchar");
    double cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    double wall = seconds_of(CLOCK_MONOTONIC);
    saved = 0;
    didi_item_execute(item);
    cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    wall = seconds_of(CLOCK_MONOTONIC) - wall;
    if (item->status != DIDI_OK)
        die(row_name(merge, item->row), &item->error);
    printf("{\"row\": \"%s\", \"index\": %zu, \"rows\": %llu, \"columns\": %llu, \"cpu\": %.6f, "
           "\"span\": %.6f, \"wall\": %.6f, \"flops\": %llu, \"read\": %llu, "
           "\"written\": %lld, "
           "\"memory\": %llu}\n",
           row_name(merge, item->row), item->index, of != NULL ? (unsigned long long)of->rows : 0,
           of != NULL ? (unsigned long long)of->columns : 0, cpu, cpu - saved, wall,
           atomic_load(flops) - flops_before,
           (unsigned long long)atomic_load(&merge->work.bytes_read) - read_before,
           io_bytes("wchar") - written_before, (unsigned long long)item->memory);
    (void)fflush(stdout);
}

/* Drops what the page cache has of the files there, as on a node that never read them. */
static void forget_files(int directory)
{
    DIR *listing = fdopendir(openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    struct dirent *entry = NULL;
    while (listing != NULL && (entry = readdir(listing)) != NULL) {
        int fd = openat(directory, entry->d_name, O_RDONLY | O_CLOEXEC);
        if (fd >= 0)
            (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        if (fd >= 0)
            (void)close(fd);
    }
    if (listing != NULL)
        (void)closedir(listing);
}

static didi_merge *open_merge(const inputs *of)
{
    didi_merge *merge = NULL;
    didi_error error = {0};
    forget_files(of->options.work_fd);
    forget_files(of->options.base_fd);
    for (size_t t = 0; t < of->options.task_count; t++)
        forget_files(of->tasks[t].directory_fd);
    long long read_before = io_bytes("read_bytes");
    double cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    double wall = seconds_of(CLOCK_MONOTONIC);
    if (didi_merge_open(&of->options, NULL, &merge, &error) != DIDI_OK)
        die("open", &error);
    cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    printf("{\"row\": \"open\", \"before\": \"%s\", \"cpu\": %.6f, \"wall\": %.6f, "
           "\"read\": %lld}\n",
           row_name(merge, merge->row), cpu, seconds_of(CLOCK_MONOTONIC) - wall,
           io_bytes("read_bytes") - read_before);
    return merge;
}

/* What the headers tell: memory as planned for the rows whose items are largest. */
static void print_plan(const inputs *of)
{
    didi_merge *merge = open_merge(of);
    const didi_plan *plan = &merge->work.plan;
    printf("{\"row\": \"plan\", \"parameters\": %llu, \"factors\": %llu, \"dense\": %llu, "
           "\"layers\": %zu, \"memory\": %llu, \"least_memory\": %llu, \"flops\": %.4g, \"disk\": "
           "%llu}\n",
           (unsigned long long)plan->parameters, (unsigned long long)plan->factor_parameters,
           (unsigned long long)plan->dense_parameters, plan->layer_count,
           (unsigned long long)plan->memory_peak_bytes,
           (unsigned long long)plan->memory_minimum_bytes, plan->flops,
           (unsigned long long)plan->disk_bytes);
    for (size_t row = 0; row < merge->row_count; row++)
        for (size_t i = 0; i < plan->layer_count && merge->rows[row].kind == ROW_EACH; i++) {
            const didi_plan_layer *layer_plan = &plan->layers[i];
            printf("{\"row\": \"%s\", \"rows\": %llu, \"columns\": %llu, "
                   "\"memory\": %llu}\n",
                   row_name(merge, row), (unsigned long long)layer_plan->rows,
                   (unsigned long long)layer_plan->columns,
                   (unsigned long long)merge_item_memory(merge, row, i));
        }
    didi_merge_close(merge);
}

static void run_merge(const inputs *of)
{
    didi_error error = {0};
    didi_item *item = NULL;
    didi_merge *merge = open_merge(of);
    size_t reopened = 0; /* row before which it was opened last */
    while (didi_merge_next(merge, UINT64_MAX, false, &item) == DIDI_NEXT_ITEM) {
        bool each = merge->rows[item->row].kind == ROW_EACH;
        if (of->reopen && each && item->row > reopened) {
            reopened = item->row;
            merge->work.items[item->index] = ITEM_PENDING;
            merge->items_running--;
            merge->memory_running -= item->memory;
            parallel_leave(merge->work.parallel);
            free(item);
            didi_merge_close(merge);
            merge = open_merge(of);
            continue;
        }
        run_item(merge, item);
        didi_merge_complete(merge, item);
    }
    if (didi_merge_result(merge, &error) != DIDI_OK)
        die("merge", &error);
    didi_merge_close(merge);
}

static void list_tasks(inputs *of, int models)
{
    for (size_t t = 0; t < TASKS_MAX; t++) {
        struct stat found;
        (void)snprintf(of->names[t], sizeof of->names[t], "task%zu", t);
        if (fstatat(models, of->names[t], &found, 0) != 0)
            break;
        of->tasks[t] = (didi_task_input){.name = of->names[t],
                                         .label = of->names[t],
                                         .directory_fd = open_directory(models, of->names[t]),
                                         .weight = 1,
                                         .gram_fd = -1};
        of->options.task_count = t + 1;
    }
}

int main(int argc, char **argv)
{
    static inputs of;
    didi_error error = {0};
    if (argc < 5)
        die("item_costs MODELS SCRATCH BUDGET WORKERS [reopen|plan]", NULL);
    if (didi_blas_use_one_thread(&error) != DIDI_OK || didi_blas_reserve(1, &error) != DIDI_OK)
        die("BLAS", &error);
    didi_merge_options_default(&of.options);
    int models = open_directory(AT_FDCWD, argv[1]);
    int scratch = open_directory(AT_FDCWD, argv[2]);
    of.options.base_label = "base";
    of.options.base_fd = open_directory(models, "base");
    list_tasks(&of, models);
    of.options.tasks = of.tasks;
    of.options.precision = DIDI_PRECISION_AUTO; /* as specifications have it */
    of.options.budget = strtod(argv[3], NULL);
    of.options.workers = strtoul(argv[4], NULL, DECIMAL);
    of.reopen = argc > 5 && strcmp(argv[5], "reopen") == 0;
    (void)mkdirat(scratch, "work", S_IRWXU);
    of.options.work_fd = open_directory(scratch, "work");
    of.options.output_fd = scratch;
    of.options.output_name = "package";
    of.options.specification_json = "{}";
    if (argc > 5 && strcmp(argv[5], "plan") == 0)
        print_plan(&of);
    else
        run_merge(&of);
    return 0;
}
