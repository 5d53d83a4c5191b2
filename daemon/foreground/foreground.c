/* SPDX-License-Identifier: Apache-2.0 */
/* A merge in the foreground.
 *
 * All files are made in a hidden directory beside the output; one rename at the end publishes
 * artifacts and exports together. */
#include "daemon/foreground/foreground.h"

#include "daemon/base/base.h"
#include "daemon/foreground/display.h"
#include "daemon/foreground/extend.h"
#include "daemon/foreground/keep.h"
#include "daemon/foreground/summary.h"
#include "daemon/jobs/jobs.h"
#include "daemon/models/models.h"
#include "src/base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libgen.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    RUN_EXIT_FAILED = 1,
    RUN_EXIT_USAGE = 2,
    RUN_EXIT_INTERRUPTED = 130,
    RUN_DRAW_MILLISECONDS = 100,
};

typedef struct run_options {
    const char *specification_path, *out;
    bool export_full, verbose, help;
    run_extension extension;
    run_keep keep;
    config config; /* models, workers and memory_limit of it */
} run_options;

typedef struct foreground {
    const run_options *options;
    uv_loop_t loop;
    uv_timer_t timer;
    uv_signal_t signals[2];
    model_roots *roots;
    specification *specification;
    pool *pool;
    run_display *display;
    didi_merge *merge;
    char *parent, *name, *holder; /* OUT's directory, OUT's name, hidden directory in it */
    int parent_fd, holder_fd, work_fd;
    int package_fd, comparison_fd; /* to extend, and to compare with */
    atomic_bool interrupted;
    int status;
    didi_error error;
} foreground;

/* One task's full model. */
typedef struct foreground_export {
    foreground *foreground;
    size_t task;
    int status;
    didi_error error;
} foreground_export;

static void print_usage(FILE *stream)
{
    fputs("Usage: didid run SPEC.json --models DIR --out DIR [OPTION]...\n"
          "       didid run --extend PACKAGE --models DIR --out DIR [OPTION]...\n"
          "Merge in the foreground: no server, no database.\n\n"
          "  --models DIR          model x/y of the specification is DIR/x/y; may be repeated\n"
          "  --out DIR             artifacts go here; absent or empty before\n"
          "  --export full         also rebuild every task's model in DIR/models/TASK\n"
          "  --keep DIR            leave spectra and bases in DIR, absent or empty before\n"
          "  --reuse DIR           start from those a merge of the same models left in DIR\n"
          "  --extend PACKAGE      add tasks to a finished package, or remove some\n"
          "  --task NAME=MODEL     a task to add; may be repeated\n"
          "  --remove NAME         a task to leave out; may be repeated\n"
          "  --budget X            for each new task: models, or bytes=N [a mean expert's]\n"
          "  --rebalance           merge all tasks anew under the same total\n"
          "  --compare PACKAGE     a full merge of the same tasks, for the report\n"
          "  --workers N           worker threads [one for each processor]\n"
          "  --memory-limit BYTES  working memory; K, M, G, T may follow [half of the machine's]\n"
          "  --verbose             print every telemetry point\n"
          "  --help                this text\n\n"
          "Exit codes: 0 done, 1 failed, 2 usage, 130 interrupted.\n",
          stream);
}

static int usage_error(const char *text)
{
    fprintf(stderr, "didid run: %s; see didid run --help\n", text);
    return RUN_EXIT_USAGE;
}

static int extension_set(run_extension *extension, int letter, const char *value)
{
    if (letter == 'x')
        extension->package = value;
    else if (letter == 'c')
        extension->comparison = value;
    else if (letter == 'b')
        extension->budget = value;
    else if (letter == 'R')
        extension->rebalance = true;
    else if (letter == 't' && extension->added_count < LIMIT_TASKS)
        extension->added[extension->added_count++] = value;
    else if (letter == 'r' && extension->removed_count < LIMIT_TASKS)
        extension->removed[extension->removed_count++] = value;
    else
        return usage_error("too many tasks");
    return 0;
}

/* `word` is what was read last. Returns 0 or an exit code. */
static int options_set(run_options *options, int letter, const char *value, const char *word)
{
    static const char *const keys[] = {['m'] = "models", ['w'] = "workers", ['l'] = "memory_limit"};
    didi_error error = {0};
    char text[DIDI_ERROR_MESSAGE_BYTES_MAX + 64];
    switch (letter) {
    case 'o':
        options->out = value;
        return 0;
    case 'e':
        options->export_full = strcmp(value, "full") == 0;
        return options->export_full ? 0 : usage_error("--export takes 'full'");
    case 'k':
        options->keep.keep = value;
        return 0;
    case 'u':
        options->keep.reuse = value;
        return 0;
    case 'v':
        options->verbose = true;
        return 0;
    case 'h':
        options->help = true;
        return 0;
    case 'm':
    case 'w':
    case 'l':
        if (config_set(&options->config, keys[letter], value, &error) == DIDI_OK)
            return 0;
        snprintf(text, sizeof text, "%s: %s", keys[letter], error.message);
        return usage_error(text);
    case 'x':
    case 't':
    case 'r':
    case 'b':
    case 'R':
    case 'c':
        return extension_set(&options->extension, letter, value);
    default:
        snprintf(text, sizeof text, "unknown option or missing value: %.200s", word);
        return usage_error(text);
    }
}

static int options_parse(run_options *options, int argc, char **argv)
{
    static const struct option known[] = {{"models", required_argument, NULL, 'm'},
                                          {"out", required_argument, NULL, 'o'},
                                          {"export", required_argument, NULL, 'e'},
                                          {"keep", required_argument, NULL, 'k'},
                                          {"reuse", required_argument, NULL, 'u'},
                                          {"extend", required_argument, NULL, 'x'},
                                          {"task", required_argument, NULL, 't'},
                                          {"remove", required_argument, NULL, 'r'},
                                          {"budget", required_argument, NULL, 'b'},
                                          {"rebalance", no_argument, NULL, 'R'},
                                          {"compare", required_argument, NULL, 'c'},
                                          {"workers", required_argument, NULL, 'w'},
                                          {"memory-limit", required_argument, NULL, 'l'},
                                          {"verbose", no_argument, NULL, 'v'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    int letter = 0;
    opterr = 0;
    while ((letter = getopt_long(argc, argv, "h", known, NULL)) != -1) {
        int code = options_set(options, letter, optarg, argv[optind - 1]);
        if (code != 0 || options->help)
            return code;
    }
    if (options->extension.package != NULL && optind != argc)
        return usage_error("--extend takes no specification file");
    if (options->extension.package == NULL && optind + 1 != argc)
        return usage_error("one specification file is needed");
    options->specification_path = argv[optind];
    if (options->config.model_count == 0)
        return usage_error("--models is needed");
    if (options->out == NULL || options->out[0] == '\0')
        return usage_error("--out is needed");
    config_resolve(&options->config);
    return 0;
}

/* ---- preparing ---- */

static int read_specification(foreground *self, didi_error *error)
{
    const char *path = self->options->specification_path;
    char *text = NULL;
    size_t bytes = 0;
    if (self->options->extension.package != NULL)
        return run_extension_read(&self->options->extension, &self->package_fd,
                                  &self->comparison_fd, &self->specification, error);
    int status = file_read_text(AT_FDCWD, path, LIMIT_BODY_BYTES, &text, &bytes, error);
    if (status != DIDI_OK)
        return status;
    status = specification_parse(text, bytes, LIMIT_BODY_BYTES, &self->specification, error);
    if (status != DIDI_OK)
        didi_error_wrap(error, "%s", path);
    free(text);
    return status;
}

static int check_out_is_free(const foreground *self, didi_error *error)
{
    const char *out = self->options->out;
    if (rmdir(out) == 0 || errno == ENOENT)
        return DIDI_OK;
    if (errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR || errno == EINVAL)
        return didi_fail(error, DIDI_CONFLICT, NULL, "%s exists and is not an empty directory",
                         out);
    return didi_fail_errno(error, errno, out, "cannot use %s", out);
}

/* OUT is `name` in the directory `parent`. */
static int split_out(foreground *self, didi_error *error)
{
    char *path = memory_string(self->options->out);
    char *again = memory_string(self->options->out);
    if (path != NULL && again != NULL) {
        self->parent = memory_string(dirname(path));
        self->name = memory_string(basename(again));
    }
    free(path);
    free(again);
    if (self->parent == NULL || self->name == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    self->parent_fd = open(self->parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (self->parent_fd < 0)
        return didi_fail_errno(error, errno, self->parent, "cannot open %s", self->parent);
    return check_out_is_free(self, error);
}

static int make_holder(foreground *self, didi_error *error)
{
    int status = split_out(self, error);
    if (status != DIDI_OK)
        return status;
    char *holder = memory_format("%s/.didid-run-XXXXXX", self->parent);
    if (holder == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    if (mkdtemp(holder) == NULL) {
        int saved = errno;
        free(holder);
        return didi_fail_errno(error, saved, self->parent, "cannot write to %s", self->parent);
    }
    self->holder = holder; /* from now on it has to be removed */
    self->holder_fd = open(holder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (self->holder_fd < 0)
        return didi_fail_errno(error, errno, holder, "cannot open %s", holder);
    return file_open_directory(self->holder_fd, "work", 1, &self->work_fd, error);
}

static int open_merge(foreground *self, didi_error *error)
{
    const config *settings = &self->options->config;
    const didi_merge_hooks hooks = {.context = self->display, .event = run_display_event};
    const char *roots[CONFIG_MODEL_ROOTS_MAX] = {0};
    inputs_places places = {.work_fd = self->work_fd,
                            .output_fd = self->holder_fd,
                            .volatile_work = true,
                            .keep_work = self->options->keep.keep != NULL,
                            .reuse_fd = -1,
                            .package_fd = self->package_fd,
                            .comparison_fd = self->comparison_fd};
    inputs *opened = NULL;
    int status = DIDI_OK;
    for (size_t i = 0; i < settings->model_count; i++)
        roots[i] = settings->models[i];
    status = model_roots_open(roots, settings->model_count, &self->roots, error);
    if (status == DIDI_OK)
        status = inputs_create(self->roots, self->specification, &opened, error);
    if (status == DIDI_OK)
        status = run_keep_open(&self->options->keep, self->specification->from_job,
                               &places.reuse_fd, error);
    if (status == DIDI_OK)
        status = inputs_open_merge(opened, settings, &places, &hooks, &self->merge, error);
    if (places.reuse_fd >= 0)
        close(places.reuse_fd);
    inputs_free(opened);
    return status;
}

/* ---- running ---- */

static void on_signal(uv_signal_t *handle, int number)
{
    foreground *self = handle->data;
    (void)number;
    if (atomic_exchange(&self->interrupted, true))
        _exit(RUN_EXIT_INTERRUPTED); /* the hidden directory stays behind */
    run_display_say(self->display, "interrupted; stopping (again to stop at once)");
    if (self->merge != NULL)
        didi_merge_cancel(self->merge);
    pool_pump(self->pool);
}

static void on_draw(uv_timer_t *handle)
{
    foreground *self = handle->data;
    didi_stage stage = DIDI_STAGE_DIGEST;
    if (self->merge == NULL)
        return;
    double progress = didi_merge_progress(self->merge, &stage);
    run_display_draw(self->display, stage, progress);
    pool_pump(self->pool);
}

static int is_interrupted(void *context)
{
    const foreground *self = context;
    return atomic_load(&self->interrupted);
}

/* On a pool thread. */
static void export_work(void *context)
{
    foreground_export *self = context;
    foreground *owner = self->foreground;
    const specification *wanted = owner->specification;
    const char *task = wanted->tasks[self->task].name;
    int artifact_fd = -1;
    int models_fd = -1;
    int task_fd = -1;
    int base_fd = -1;
    didi_error *error = &self->error;
    int status = file_open_directory(owner->holder_fd, "artifacts", 0, &artifact_fd, error);
    if (status == DIDI_OK)
        status = file_open_directory(artifact_fd, "models", 1, &models_fd, error);
    if (status == DIDI_OK)
        status = file_open_directory(models_fd, task, 1, &task_fd, error);
    if (status == DIDI_OK)
        status = model_roots_open_model(owner->roots, wanted->base, &base_fd, NULL, error);
    if (status == DIDI_OK)
        status = didi_export_full(artifact_fd, base_fd, wanted->base, task, task_fd,
                                  self->task == 0, is_interrupted, owner, error);
    const int fds[] = {base_fd, task_fd, models_fd, artifact_fd};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    self->status = status;
}

static void close_handle(uv_handle_t *handle, void *context)
{
    (void)context;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static void foreground_done(foreground *self)
{
    if (pool_in_flight(self->pool) == 0)
        uv_walk(&self->loop, close_handle, NULL);
}

static void export_after(void *context)
{
    foreground_export *self = context;
    foreground *owner = self->foreground;
    if (self->status != DIDI_OK && owner->status == DIDI_OK) {
        owner->status = self->status;
        owner->error = self->error;
    }
    free(self);
    foreground_done(owner);
}

static void start_exports(foreground *self)
{
    for (size_t i = 0; i < self->specification->task_count && self->status == DIDI_OK; i++) {
        foreground_export *one = memory_zeroed(1, sizeof *one);
        if (one == NULL) {
            self->status = didi_fail(&self->error, DIDI_NO_MEMORY, NULL, "out of memory");
            break;
        }
        one->foreground = self;
        one->task = i;
        self->status = pool_task(self->pool, export_work, export_after, one, &self->error);
        if (self->status != DIDI_OK)
            free(one);
    }
}

static void merge_finished(void *context)
{
    foreground *self = context;
    self->status = didi_merge_result(self->merge, &self->error);
    didi_merge_close(self->merge);
    self->merge = NULL;
    if (self->status == DIDI_OK)
        self->status =
            run_keep_finish(&self->options->keep, self->holder_fd, self->work_fd, &self->error);
    if (self->status == DIDI_OK && self->options->export_full) {
        run_display_say(self->display, "exporting full models");
        start_exports(self);
    }
    foreground_done(self);
}

static int foreground_run(foreground *self)
{
    const config *settings = &self->options->config;
    didi_error *error = &self->error;
    int status =
        pool_create(&self->loop, settings->workers, settings->memory_limit, &self->pool, error);
    if (status == DIDI_OK)
        status = pool_add(self->pool, self->merge, 0, merge_finished, self, error);
    if (status != DIDI_OK)
        return status;
    uv_timer_init(&self->loop, &self->timer);
    self->timer.data = self;
    uv_timer_start(&self->timer, on_draw, RUN_DRAW_MILLISECONDS, RUN_DRAW_MILLISECONDS);
    const int numbers[] = {SIGINT, SIGTERM};
    for (size_t i = 0; i < 2; i++) {
        uv_signal_init(&self->loop, &self->signals[i]);
        self->signals[i].data = self;
        uv_signal_start(&self->signals[i], on_signal, numbers[i]);
    }
    pool_pump(self->pool);
    uv_run(&self->loop, UV_RUN_DEFAULT);
    return self->status;
}

/* ---- start and end ---- */

static int foreground_publish(foreground *self, didi_error *error)
{
    int status = file_rename(self->holder_fd, "artifacts", self->parent_fd, self->name, error);
    if (status == DIDI_OK)
        status = file_sync_directory(self->parent_fd, self->parent, error);
    return status;
}

static void foreground_clear(foreground *self)
{
    didi_error ignored = {0};
    didi_merge_close(self->merge);
    specification_free(self->specification);
    model_roots_close(self->roots);
    pool_free(self->pool);
    uv_loop_close(&self->loop);
    if (self->work_fd >= 0)
        close(self->work_fd);
    if (self->holder_fd >= 0)
        close(self->holder_fd);
    if (self->holder != NULL)
        file_remove_tree(self->parent_fd, strrchr(self->holder, '/') + 1, &ignored);
    const int fds[] = {self->parent_fd, self->package_fd, self->comparison_fd};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    run_display_free(self->display);
    free(self->parent);
    free(self->name);
    free(self->holder);
}

/* One line; the subject goes before unless the message names it. */
static void print_failure(const didi_error *error)
{
    bool named = error->subject[0] == '\0' || strstr(error->message, error->subject) != NULL;
    fprintf(stderr, "didid run: %s%s%s [%s]\n", named ? "" : error->subject, named ? "" : ": ",
            error->message, didi_status_name(error->status));
}

static int foreground_main(const run_options *options)
{
    foreground self = {.options = options,
                       .parent_fd = -1,
                       .holder_fd = -1,
                       .work_fd = -1,
                       .package_fd = -1,
                       .comparison_fd = -1};
    int64_t began_ms = clock_monotonic_ms();
    didi_error *error = &self.error;
    char threads[16];
    snprintf(threads, sizeof threads, "%zu", options->config.workers);
    setenv("UV_THREADPOOL_SIZE", threads, 1); /* read once, at the pool's first use */
    uv_loop_init(&self.loop);
    int status = didi_blas_use_one_thread(error);
    if (status == DIDI_OK)
        status = run_display_create(options->verbose, &self.display, error);
    if (status == DIDI_OK)
        status = read_specification(&self, error);
    if (status == DIDI_OK)
        run_display_count(self.display, specification_counts_bytes(self.specification));
    if (status == DIDI_OK)
        status = make_holder(&self, error);
    if (status == DIDI_OK)
        status = open_merge(&self, error);
    if (status == DIDI_OK)
        status = foreground_run(&self);
    if (status == DIDI_OK)
        status = foreground_publish(&self, error);
    if (self.display != NULL)
        run_display_clear(self.display);
    if (status == DIDI_OK)
        run_summary_print(options->out, self.parent_fd, self.name,
                          (double)(clock_monotonic_ms() - began_ms) / 1000.0);
    else if (status == DIDI_CANCELLED && atomic_load(&self.interrupted))
        fputs("didid run: interrupted, nothing was written\n", stderr);
    else
        print_failure(error);
    bool interrupted = atomic_load(&self.interrupted) && status == DIDI_CANCELLED;
    foreground_clear(&self);
    if (interrupted)
        return RUN_EXIT_INTERRUPTED;
    return status == DIDI_OK ? 0 : RUN_EXIT_FAILED;
}

int run_main(int argc, char **argv)
{
    run_options options = {0};
    didi_error error = {0};
    int code = 0;
    if (config_init(&options.config, &error) != DIDI_OK) {
        fprintf(stderr, "didid run: %s\n", error.message);
        return RUN_EXIT_FAILED;
    }
    code = options_parse(&options, argc, argv);
    if (code == 0 && options.help)
        print_usage(stdout);
    else if (code == 0)
        code = foreground_main(&options);
    config_clear(&options.config);
    return code;
}
