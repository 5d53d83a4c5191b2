/* SPDX-License-Identifier: Apache-2.0 */
/* The thread that fetches: one model after the other, from the store's queue. */
#include "daemon/fetch/fetch.h"

#include "daemon/fetch/blob.h"
#include "daemon/fetch/bucket.h"
#include "daemon/fetch/hub.h"
#include "daemon/fetch/source.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TELL_MILLISECONDS = 500 };

struct fetcher {
    const config *settings;
    registry *models;
    store *records;
    transfer *transfer;
    s3 *storage;
    char *endpoint, *token;
    int directory_fd, temporary_fd;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t asked;
    atomic_bool stopping;
    atomic_bool ending;     /* of the transfer in progress: stopping, or it was cancelled */
    char current[ID_BYTES]; /* what is fetched now; else "" */
    bool running, waiting;  /* waiting: there may be something in the queue */
};

/* ---- one fetch ---- */

typedef struct progress {
    fetcher *self;
    const char *id;
    int64_t told_ms;
} progress;

static void tell_progress(void *context, const fetch_run *run)
{
    progress *of = context;
    int64_t now = clock_now_ms();
    if (now - of->told_ms < TELL_MILLISECONDS)
        return;
    of->told_ms = now;
    (void)store_fetch_progress(of->self->records, of->id, run->done, run->total, NULL);
}

/* A directory that still lacks its file is no model. */
static int fetch_url(fetch_run *run, const char *name, const char *id, const fetch_source *from,
                     didi_error *error)
{
    transfer_answer answer;
    int fd = -1;
    int status = blob_ask(run, from->text, &answer, error);
    if (status == DIDI_OK && answer.bytes < 0)
        status = didi_fail(error, DIDI_FORMAT, from->text, "the server does not tell its size");
    if (status == DIDI_OK)
        status = bucket_open_place(run->directory_fd, name, &fd, error);
    if (status == DIDI_OK && faccessat(fd, "model.safetensors", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        status = didi_fail(error, DIDI_CONFLICT, name, "there is a model \"%s\" already", name);
    if (status == DIDI_OK) {
        run->total = (uint64_t)answer.bytes;
        const blob wanted = {
            .url = from->text, .bytes = run->total, .digest = from->sha256, .key = id};
        status = blob_fetch(run, &wanted, fd, "model.safetensors", error);
    }
    file_close(fd);
    return status;
}

/* What was fetched must be a model that works. */
static int check_model(fetcher *self, const char *name, didi_error *error)
{
    size_t ready = 0;
    size_t broken = 0;
    store_model model = {0};
    int status = registry_rescan(self->models, &ready, &broken, error);
    if (status == DIDI_OK)
        status = registry_find(self->models, name, &model, error);
    if (status == DIDI_OK && model.state != MODEL_READY)
        status = didi_fail(error, DIDI_FORMAT, name, "%s", model.reason);
    store_model_clear(&model);
    return status;
}

static int fetch_one(fetcher *self, const store_fetch *row, didi_error *error)
{
    fetch_source from;
    progress told = {.self = self, .id = row->id};
    fetch_run run = {.transfer = self->transfer,
                     .endpoint = self->endpoint,
                     .directory_fd = self->directory_fd,
                     .temporary_fd = self->temporary_fd,
                     .end = &self->ending,
                     .tell = tell_progress,
                     .context = &told};
    int status = source_parse(row->name, row->source, &from, error);
    if (status == DIDI_OK && from.kind != SOURCE_PATH && self->directory_fd < 0)
        status = didi_fail(error, DIDI_INVALID, "/source", "there is no --fetch-dir any more");
    if (status == DIDI_OK && from.kind == SOURCE_HUB)
        status = self->endpoint != NULL
                     ? hub_fetch(&run, &from, error)
                     : didi_fail(error, DIDI_INVALID, "/source", "there is no --hub-endpoint");
    if (status == DIDI_OK && from.kind == SOURCE_URL)
        status = fetch_url(&run, row->name, row->id, &from, error);
    if (status == DIDI_OK && from.kind == SOURCE_S3)
        status = bucket_fetch(&run, self->storage, row->name, row->id, from.text, error);
    if (run.total > 0)
        (void)store_fetch_progress(self->records, row->id, run.done, run.total, NULL);
    if (status == DIDI_OK)
        status = check_model(self, row->name, error);
    return status;
}

/* Nothing finds the unfinished part of a file by URL, or of a model at S3, again. */
static void remove_part(fetcher *self, const char *id)
{
    if (self->temporary_fd >= 0)
        (void)file_remove_tree(self->temporary_fd, id, NULL);
}

/* False when it was cancelled since it was claimed. From here on fetcher_cancel() reaches it. */
static bool enter(fetcher *self, const store_fetch *row)
{
    store_fetch now = {0};
    pthread_mutex_lock(&self->lock);
    memcpy(self->current, row->id, sizeof self->current);
    atomic_store(&self->ending, atomic_load(&self->stopping));
    pthread_mutex_unlock(&self->lock);
    bool goes_on = store_fetch_get(self->records, row->id, &now, NULL) == DIDI_OK &&
                   now.state == FETCH_RUNNING;
    store_fetch_clear(&now);
    return goes_on;
}

/* True when it was cancelled meanwhile. */
static bool leave(fetcher *self, const store_fetch *row)
{
    pthread_mutex_lock(&self->lock);
    bool cancelled = atomic_load(&self->ending) && !atomic_load(&self->stopping);
    self->current[0] = '\0';
    pthread_mutex_unlock(&self->lock);
    if (cancelled) {
        remove_part(self, row->id);
        log_emit(LOG_LEVEL_INFO, "fetch ended", LOG_TEXT("fetch", row->id),
                 LOG_TEXT("model", row->name),
                 LOG_TEXT("state", fetch_state_name(FETCH_CANCELLED)));
    }
    return cancelled;
}

static void fetch_claimed(fetcher *self, const store_fetch *row)
{
    didi_error error = {0};
    int status = enter(self, row) ? fetch_one(self, row, &error) : DIDI_CANCELLED;
    if (leave(self, row))
        return;
    bool again = status == DIDI_CANCELLED && atomic_load(&self->stopping);
    didi_error why = error;
    if (status != DIDI_OK && error.subject[0] != '\0')
        didi_fail(&why, status, NULL, "%s: %s", error.subject, error.message);
    fetch_state state = status == DIDI_OK ? FETCH_SUCCEEDED : again ? FETCH_QUEUED : FETCH_FAILED;
    log_emit(status == DIDI_OK || again ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, "fetch ended",
             LOG_TEXT("fetch", row->id), LOG_TEXT("model", row->name),
             LOG_TEXT("state", fetch_state_name(state)),
             LOG_TEXT("error", status == DIDI_OK ? "" : why.message));
    didi_error unwritten = {0};
    if (store_fetch_finish(self->records, row->id, state, state == FETCH_FAILED ? &why : NULL,
                           &unwritten) != DIDI_OK)
        log_emit(LOG_LEVEL_ERROR, "cannot record the end of a fetch", LOG_TEXT("fetch", row->id),
                 LOG_TEXT("error", unwritten.message));
}

static void *fetcher_main(void *context)
{
    fetcher *self = context;
    while (!atomic_load(&self->stopping)) {
        store_fetch row = {0};
        didi_error error = {0};
        bool found = false;
        pthread_mutex_lock(&self->lock);
        while (!self->waiting && !atomic_load(&self->stopping))
            pthread_cond_wait(&self->asked, &self->lock);
        self->waiting = false;
        pthread_mutex_unlock(&self->lock);
        while (!atomic_load(&self->stopping) &&
               store_fetch_claim(self->records, &row, &found, &error) == DIDI_OK && found) {
            fetch_claimed(self, &row);
            store_fetch_clear(&row);
            found = false;
        }
    }
    return NULL;
}

/* ---- from outside ---- */

static int read_token(fetcher *self, didi_error *error)
{
    const char *path = self->settings->hub_token_file;
    return path != NULL ? transfer_read_token(path, "hub_token_file", &self->token, error)
                        : DIDI_OK;
}

static int open_directories(fetcher *self, didi_error *error)
{
    if (self->settings->fetch_dir == NULL)
        return DIDI_OK;
    self->directory_fd = open(self->settings->fetch_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (self->directory_fd < 0)
        return didi_fail_errno(error, errno, "fetch_dir", "cannot open %s",
                               self->settings->fetch_dir);
    return file_open_directory(self->directory_fd, ".didid-fetch", 1, &self->temporary_fd, error);
}

static int open_transfer(fetcher *self, didi_error *error)
{
    const config *settings = self->settings;
    if (settings->hub_endpoint != NULL) {
        self->endpoint = memory_string(settings->hub_endpoint);
        if (self->endpoint == NULL)
            return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
        for (size_t length = strlen(self->endpoint);
             length > 0 && self->endpoint[length - 1] == '/';)
            self->endpoint[--length] = '\0';
    }
    const transfer_rules rules = {.endpoint = self->endpoint,
                                  .token = self->token,
                                  .hosts = settings->fetch_hosts,
                                  .allow_private = settings->fetch_private != 0,
                                  .end = &self->ending};
    return transfer_create(&rules, &self->transfer, error);
}

static int open_storage(fetcher *self, didi_error *error)
{
    const s3_rules rules = s3_rules_of(self->settings);
    return s3_open(&rules, &self->storage, error);
}

int fetcher_start(const config *settings, registry *models, store *records, fetcher **ret_fetcher,
                  didi_error *error)
{
    fetcher *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    self->settings = settings;
    self->models = models;
    self->records = records;
    self->directory_fd = self->temporary_fd = -1;
    self->waiting = true;
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->asked, NULL);
    int status = read_token(self, error);
    if (status == DIDI_OK)
        status = open_directories(self, error);
    if (status == DIDI_OK)
        status = open_transfer(self, error);
    if (status == DIDI_OK)
        status = open_storage(self, error);
    if (status == DIDI_OK)
        status = store_fetch_boot(records, error);
    if (status == DIDI_OK && pthread_create(&self->thread, NULL, fetcher_main, self) != 0)
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "cannot start the thread that fetches");
    self->running = status == DIDI_OK;
    if (status != DIDI_OK)
        fetcher_stop(self);
    else
        *ret_fetcher = self;
    return status;
}

void fetcher_stop(fetcher *self)
{
    if (self == NULL)
        return;
    pthread_mutex_lock(&self->lock);
    atomic_store(&self->stopping, true);
    atomic_store(&self->ending, true);
    pthread_cond_signal(&self->asked);
    pthread_mutex_unlock(&self->lock);
    if (self->running)
        pthread_join(self->thread, NULL);
    pthread_cond_destroy(&self->asked);
    pthread_mutex_destroy(&self->lock);
    transfer_free(self->transfer);
    s3_close(self->storage);
    file_close(self->temporary_fd);
    file_close(self->directory_fd);
    free(self->endpoint);
    free(self->token);
    free(self);
}

/* A directory on this machine is a model already, if it lies where models do. */
static int check_path(const fetcher *self, const char *name, const char *path, didi_error *error)
{
    for (size_t i = 0; i < self->settings->model_count; i++) {
        const char *root = self->settings->models[i];
        size_t length = strlen(root);
        while (length > 1 && root[length - 1] == '/')
            length--;
        if (strncmp(path, root, length) != 0 || path[length] != '/')
            continue;
        if (strcmp(path + length + 1, name) == 0)
            return DIDI_OK;
        return didi_fail(error, DIDI_INVALID, "/name", "the model there is called \"%s\"",
                         path + length + 1);
    }
    return didi_fail(
        error, DIDI_INVALID, "/source",
        "%s is below no model directory of this server: start it with --models for the "
        "directory above, or copy the model into one",
        path);
}

static int check_source(const fetcher *self, const char *name, const char *text, didi_error *error)
{
    fetch_source from;
    didi_error why = {0};
    int status = source_parse(name, text, &from, error);
    if (status != DIDI_OK)
        return status;
    if (from.kind == SOURCE_PATH)
        return check_path(self, name, from.text, error);
    if (self->directory_fd < 0)
        return didi_fail(error, DIDI_INVALID, "/source",
                         "this server fetches nothing: it was started without --fetch-dir");
    if (from.kind == SOURCE_HUB && self->endpoint == NULL)
        return didi_fail(error, DIDI_INVALID, "/source",
                         "this server knows no hub: it was started without --hub-endpoint");
    if (from.kind == SOURCE_URL && !transfer_may_ask(self->transfer, from.text, &why))
        return didi_fail(error, DIDI_INVALID, "/source", "%s", why.message);
    return DIDI_OK;
}

int fetcher_request(fetcher *self, const char *name, const char *source, char ret_id[ID_BYTES],
                    didi_error *error)
{
    int status = check_source(self, name, source, error);
    if (status == DIDI_OK)
        status = store_fetch_request(self->records, name, source, ret_id, error);
    if (status != DIDI_OK)
        return status;
    pthread_mutex_lock(&self->lock);
    self->waiting = true;
    pthread_cond_signal(&self->asked);
    pthread_mutex_unlock(&self->lock);
    return DIDI_OK;
}

int fetcher_cancel(fetcher *self, const char *id, didi_error *error)
{
    int status = store_fetch_cancel(self->records, id, error);
    if (status != DIDI_OK)
        return status;
    pthread_mutex_lock(&self->lock);
    if (strcmp(self->current, id) == 0)
        atomic_store(&self->ending, true);
    else
        remove_part(self, id);
    pthread_mutex_unlock(&self->lock);
    return DIDI_OK;
}

int fetcher_delete(fetcher *self, const char *id, didi_error *error)
{
    int status = store_fetch_delete(self->records, id, error);
    if (status == DIDI_OK)
        remove_part(self, id);
    return status;
}
