/* SPDX-License-Identifier: Apache-2.0 */
/* One model scored: prepared here, started and watched by daemon/process, read by verdict.c. */
#include "daemon/score/score.h"

#include "daemon/process/process.h"
#include "daemon/score/filter.h"
#include "daemon/score/rules.h"
#include "daemon/score/verdict.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SCORE_VARIABLES_MAX = 16, SCORE_USER_BYTES_MAX = 16384 };

struct scorer {
    scorer_settings settings; /* command and user are not used once it is open */
    char **hidden;
    command command;
    bool changes_user;
    uid_t user;
    gid_t group;
    struct sock_fprog filter;
};

/* ---- opening ---- */

static int find_user(scorer *self, const char *name, didi_error *error)
{
    struct passwd entry;
    struct passwd *found = NULL;
    if (geteuid() != 0)
        return DIDI_OK;
    char *room = memory_zeroed(SCORE_USER_BYTES_MAX, 1);
    if (room == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    int failed = getpwnam_r(name, &entry, room, SCORE_USER_BYTES_MAX, &found);
    if (found != NULL) {
        self->user = found->pw_uid;
        self->group = found->pw_gid;
        self->changes_user = found->pw_uid != 0;
    }
    free(room);
    if (found != NULL)
        return DIDI_OK;
    return failed != 0 ? didi_fail_errno(error, failed, name, "cannot look for the user %s", name)
                       : didi_fail(error, DIDI_INVALID, NULL,
                                   "there is no user %s for scorers to run as", name);
}

static int copy_hidden(scorer *self, const scorer_settings *settings, didi_error *error)
{
    self->settings.hidden_count = 0;
    self->hidden = memory_zeroed(settings->hidden_count, sizeof *self->hidden);
    self->settings.hidden = (const char *const *)self->hidden;
    for (size_t i = 0; self->hidden != NULL && i < settings->hidden_count; i++) {
        self->hidden[i] = memory_string(settings->hidden[i]);
        if (self->hidden[i] == NULL)
            break;
        self->settings.hidden_count++;
    }
    return self->settings.hidden_count == settings->hidden_count && self->hidden != NULL
               ? DIDI_OK
               : didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
}

static int prepare_confinement(scorer *self, didi_error *error)
{
    int version = rules_version();
    if (version == 0)
        return didi_fail(error, DIDI_INVALID, NULL,
                         "this kernel has no Landlock to confine a scorer with (Linux 5.13 and "
                         "later have it, where it is not turned off)");
    if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) < 0 && errno == EINVAL)
        return didi_fail(error, DIDI_INVALID, NULL,
                         "this kernel has no seccomp to confine a scorer with");
    return filter_make(version >= RULES_VERSION_SIGNALS, &self->filter, error);
}

int scorer_open(const scorer_settings *settings, scorer **ret_scorer, didi_error *error)
{
    assert(settings->seconds_max > 0 && settings->user != NULL);
    scorer *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    self->settings = *settings;
    int status = copy_hidden(self, settings, error);
    if (status == DIDI_OK)
        status = command_read(settings->command, "scorer", &self->command, error);
    if (status == DIDI_OK)
        status = find_user(self, settings->user, error);
    if (status == DIDI_OK && settings->confined)
        status = prepare_confinement(self, error);
    self->settings.command = self->settings.user = NULL;
    if (status == DIDI_OK)
        *ret_scorer = self;
    else
        scorer_close(self);
    return status;
}

int scorer_open_configured(const config *settings, scorer **ret_scorer, didi_error *error)
{
    const char *const secret[] = {settings->state_dir,        settings->tls_key,
                                  settings->hub_token_file,   settings->mlflow_token_file,
                                  settings->webhook_key_file, getenv("CREDENTIALS_DIRECTORY")};
    const char *hidden[sizeof secret / sizeof *secret];
    size_t count = 0;
    if (settings->scorer == NULL) {
        *ret_scorer = NULL;
        return DIDI_OK;
    }
    for (size_t i = 0; i < sizeof secret / sizeof *secret; i++)
        if (secret[i] != NULL)
            hidden[count++] = secret[i];
    const scorer_settings told = {.command = settings->scorer,
                                  .seconds_max = settings->scorer_seconds_max,
                                  .memory_max = settings->scorer_memory_max,
                                  .user = settings->scorer_user,
                                  .confined = settings->scorer_confine != 0,
                                  .hidden = hidden,
                                  .hidden_count = count};
    return scorer_open(&told, ret_scorer, error);
}

void scorer_close(scorer *self)
{
    if (self == NULL)
        return;
    for (size_t i = 0; self->hidden != NULL && i < self->settings.hidden_count; i++)
        free(self->hidden[i]);
    free(self->hidden);
    command_clear(&self->command);
    free(self->filter.filter);
    free(self);
}

/* ---- running ---- */

/* What the process is given; texts are in `owned`. */
typedef struct preparation {
    child_order order;
    char *path; /* of the directory, as the scorer gets it */
    const char *arguments[COMMAND_WORDS_MAX + 4];
    char *environment[SCORE_VARIABLES_MAX];
    size_t variables;
} preparation;

static bool may_enter(const struct stat *directory, uid_t user, gid_t group)
{
    if (directory->st_uid == user)
        return (directory->st_mode & S_IXUSR) != 0;
    if (directory->st_gid == group)
        return (directory->st_mode & S_IXGRP) != 0;
    return (directory->st_mode & S_IXOTH) != 0;
}

/* Whether another user gets to a directory through all that are above it. */
static bool is_reachable(const char *path, uid_t user, gid_t group)
{
    char above[PATH_MAX];
    struct stat found;
    for (const char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        size_t length = slash == path ? 1 : (size_t)(slash - path);
        if (length >= sizeof above)
            return false;
        memcpy(above, path, length);
        above[length] = '\0';
        if (stat(above, &found) != 0 || !may_enter(&found, user, group))
            return false;
    }
    return true;
}

static int hand_over_entry(void *context, const char *name, didi_error *error)
{
    const child_order *order = context;
    return fchownat(order->directory_fd, name, order->user, order->group, AT_SYMLINK_NOFOLLOW) == 0
               ? DIDI_OK
               : didi_fail_errno(error, errno, name, "cannot give %s to the user of scorers", name);
}

/* The directory and the files in it become the user's. */
static int hand_over(child_order *order, didi_error *error)
{
    if (!order->changes_user)
        return DIDI_OK;
    if (fchown(order->directory_fd, order->user, order->group) != 0)
        return didi_fail_errno(error, errno, NULL,
                               "cannot give a directory to the user of scorers");
    return file_each_entry(order->directory_fd, hand_over_entry, order, error);
}

static int prepare_directory(const scorer *self, const char *directory, preparation *it,
                             didi_error *error)
{
    it->order.directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (it->order.directory_fd < 0)
        return didi_fail_errno(error, errno, directory, "cannot open %s", directory);
    it->path = realpath(directory, NULL);
    if (it->path == NULL)
        return didi_fail_errno(error, errno, directory, "cannot find %s", directory);
    if (self->changes_user && !is_reachable(it->path, self->user, self->group))
        memcpy(it->path, ".", 2); /* where it starts; any path has room for that */
    int status = hand_over(&it->order, error);
    if (status == DIDI_OK && self->settings.confined)
        status = rules_make(it->order.directory_fd, self->settings.hidden,
                            self->settings.hidden_count, &it->order.rules_fd, error);
    return status;
}

static bool add_variable(preparation *it, const char *name, const char *value)
{
    assert(it->variables + 1 < SCORE_VARIABLES_MAX);
    it->environment[it->variables] = memory_format("%s=%s", name, value);
    return it->environment[it->variables] != NULL && ++it->variables > 0;
}

static int prepare_environment(preparation *it, didi_error *error)
{
    static const char *const handed[] = {"LANG", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS",
                                         "CUDA_VISIBLE_DEVICES"};
    const char *path = getenv("PATH");
    bool done = add_variable(it, "PATH", path != NULL ? path : "/usr/local/bin:/usr/bin:/bin") &&
                add_variable(it, "HOME", it->path) && add_variable(it, "TMPDIR", it->path);
    for (size_t i = 0; i < sizeof handed / sizeof *handed && done; i++) {
        const char *value = getenv(handed[i]);
        if (value != NULL)
            done = add_variable(it, handed[i], value);
        else if (i == 0)
            done = add_variable(it, handed[i], "C.UTF-8");
    }
    return done ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
}

static void prepare_order(const scorer *self, const score_request *request, preparation *it)
{
    const scorer_settings *settings = &self->settings;
    long processors = sysconf(_SC_NPROCESSORS_CONF);
    size_t count = self->command.count;
    for (size_t i = 0; i < count; i++)
        it->arguments[i] = self->command.words[i];
    it->arguments[0] = self->command.program;
    it->arguments[count++] = it->path;
    it->arguments[count++] = request->task;
    if (request->split != NULL)
        it->arguments[count++] = request->split;
    it->order.program = self->command.program;
    it->order.arguments = it->arguments;
    it->order.environment = (const char *const *)it->environment;
    it->order.memory_max = settings->memory_max;
    /* a backstop for what outlives a killed daemon: one process cannot use more in that time */
    it->order.cpu_seconds =
        memory_multiply(settings->seconds_max + 1, processors > 0 ? (uint64_t)processors : 1);
    it->order.filter = settings->confined ? &self->filter : NULL;
}

static int run_prepared(const scorer *self, const preparation *it, watch_limits limits,
                        watch_result *result, didi_error *error)
{
    child started;
    int status = child_start(&it->order, &started, error);
    if (status != DIDI_OK)
        return status;
    const uint64_t seconds_most = INT64_MAX / 1000;
    limits.milliseconds = (int64_t)smaller(self->settings.seconds_max, seconds_most) * 1000;
    limits.memory_max = self->settings.memory_max;
    watch_child(&started, &limits, result);
    return DIDI_OK;
}

/* It may be a client's word, and becomes one of a command's. */
static int check_split(const char *split, didi_error *error)
{
    static const char known[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    if (split == NULL)
        return DIDI_OK;
    size_t bytes = strspn(split, known);
    if (split[bytes] == '\0' && bytes > 0 && bytes <= SCORE_SPLIT_BYTES_MAX && split[0] != '.' &&
        split[0] != '-')
        return DIDI_OK;
    return didi_fail(error, DIDI_INVALID, NULL,
                     "a split's name has 1 to %d of A-Z, a-z, 0-9, '.', '_' and '-', and begins "
                     "with none of '.' and '-'",
                     SCORE_SPLIT_BYTES_MAX);
}

int scorer_run(const scorer *self, const score_request *request, int (*cancelled)(void *context),
               void *context, double *ret_score, didi_error *error)
{
    preparation it = {.order = {.what = "scorer",
                                .refused = DIDI_SCORER,
                                .input_fd = -1,
                                .held = true,
                                .directory_fd = -1,
                                .rules_fd = -1,
                                .changes_user = self->changes_user,
                                .user = self->user,
                                .group = self->group}};
    const watch_limits limits = {.cancelled = cancelled, .context = context};
    watch_result result = {.output_room = SCORE_OUTPUT_BYTES_MAX + 1};
    int status = DIDI_OK;
    result.output = memory_zeroed(result.output_room, 1);
    if (result.output == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    status = check_split(request->split, error);
    if (status == DIDI_OK)
        status = prepare_directory(self, request->directory, &it, error);
    if (status == DIDI_OK)
        status = prepare_environment(&it, error);
    if (status == DIDI_OK) {
        prepare_order(self, request, &it);
        status = run_prepared(self, &it, limits, &result, error);
    }
    if (status == DIDI_OK)
        status = verdict_read(&result, &self->settings, request->task, ret_score, error);
    file_close(it.order.directory_fd);
    file_close(it.order.rules_fd);
    for (size_t i = 0; i < it.variables; i++)
        free(it.environment[i]);
    free(it.path);
    free(result.output);
    return status;
}
