/* SPDX-License-Identifier: Apache-2.0 */
/* The store: its writer thread, its mailbox, its readers.
 *
 * The writer takes what lies in the mailbox, runs it in one transaction with a savepoint each,
 * commits once, then wakes the callers and tells the listener. So a burst of telemetry costs one
 * fsync. */
#include "daemon/store/store.h"

#include "daemon/base/base.h"
#include "daemon/store/mark.h"
#include "daemon/store/place.h"
#include "daemon/store/schema.h"
#include "daemon/store/writer.h"
#include "src/base/base.h"

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    STORE_MAILBOX_MAX = 1024, /* requests waiting */
    STORE_BATCH_MAX = 64,     /* requests a transaction */
    STORE_READERS_MAX = 8,    /* connections */
    STORE_WAL_PAGES = 1000,   /* checkpoint beyond */
};

typedef struct store_request {
    struct store_request *next;
    store_operation *operation;
    void *argument;
    didi_error *error; /* of the caller that waits; NULL for posted ones */
    int status;
    bool done;
} store_request;

struct store {
    char *path;
    place *place;
    database_mark mark; /* writer thread only */
    bool mark_fails;    /* has been logged */
    database *writer;
    pthread_t thread;
    bool started;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t arrived, finished;
    store_request *first, *last;
    size_t waiting;
    bool closing;
    didi_error broken; /* status not OK after a commit that may or may not have reached the disk */

    pthread_mutex_t reader_lock;
    pthread_cond_t reader_returned;
    database *readers[STORE_READERS_MAX]; /* not lent: those not opened yet (NULL) come first */
    size_t reader_count;                  /* of these */

    pthread_mutex_t listener_lock; /* held while the listener runs, so that it can be taken away */
    void (*job_changed)(void *context, const char *job_id);
    void *listener_context;
    void (*delivery_queued)(void *context);
    void *delivery_context;
    store_changes changes; /* writer thread only */
};

void store_changes_add(store_changes *changes, const char *job_id)
{
    for (size_t i = 0; i < changes->count; i++)
        if (strcmp(changes->ids[i], job_id) == 0)
            return;
    if (changes->count < STORE_CHANGES_MAX && strlen(job_id) == ID_CHARACTERS)
        memcpy(changes->ids[changes->count++], job_id, ID_BYTES);
    else
        changes->more = true;
}

/* Ends the savepoint of a request. Where that fails the transaction is given up, as SQLite may have
 * done by itself for want of memory or disk. */
static int savepoint_end(store *self, bool keep, didi_error *error)
{
    didi_error ignored = {0};
    int status = keep ? DIDI_OK : database_run(self->writer, QUERY_SAVEPOINT_ROLLBACK, NULL, error);
    if (status == DIDI_OK)
        status = database_run(self->writer, QUERY_SAVEPOINT_RELEASE, NULL, error);
    if (status != DIDI_OK)
        database_run(self->writer, QUERY_TRANSACTION_ROLLBACK, NULL, &ignored);
    return status;
}

static int request_execute(store *self, store_request *request)
{
    didi_error ignored = {0};
    didi_error unheard = {0};
    didi_error *error = request->error != NULL ? request->error : &unheard;
    int status = database_run(self->writer, QUERY_SAVEPOINT_BEGIN, NULL, error);
    if (status != DIDI_OK)
        return status;
    if (request->operation != NULL)
        status = request->operation(self->writer, request->argument, &self->changes, error);
    if (status == DIDI_OK)
        return savepoint_end(self, true, error);
    savepoint_end(self, false, &ignored);
    return status;
}

/* Whatever becomes of it, the commit stands. */
static void mark_commits(store *self)
{
    didi_error error = {0};
    int status = place_mark(self->place, &self->mark, &error);
    if (status != DIDI_OK && !self->mark_fails)
        log_emit(LOG_LEVEL_ERROR, "cannot write the mark of the database",
                 LOG_TEXT("error", error.message));
    self->mark_fails = status != DIDI_OK;
}

/* Runs a list of requests in one transaction. *ret_uncertain: the commit failed in a way that
 * leaves open whether it reached the disk; going on would build on sand. */
static int batch_execute(store *self, store_request *batch, bool *ret_uncertain, didi_error *error)
{
    int status = place_check(self->place, error);
    if (status == DIDI_OK)
        status = database_run(self->writer, QUERY_TRANSACTION_BEGIN, NULL, error);
    self->changes.count = 0;
    self->changes.deliveries = false;
    self->changes.more = false;
    if (status != DIDI_OK)
        return status;
    const int64_t changes = sqlite3_total_changes64(self->writer->connection);
    for (store_request *request = batch; request != NULL; request = request->next) {
        request->status = request_execute(self, request);
        if (sqlite3_get_autocommit(self->writer->connection) != 0) /* what follows would commit */
            return didi_fail(error, request->status != DIDI_OK ? request->status : DIDI_INTERNAL,
                             "didid.db", "the transaction was rolled back");
    }
    const double began = clock_seconds();
    if (sqlite3_total_changes64(self->writer->connection) != changes)
        status = database_row(self->writer, QUERY_COMMIT_COUNT_UP, NULL, &row_of_integer,
                              &self->mark.commits, NULL, error);
    if (status == DIDI_OK)
        status = fault_check(FAULT_COMMIT, "didid.db", error);
    if (status == DIDI_OK)
        status = database_run(self->writer, QUERY_TRANSACTION_COMMIT, NULL, error);
    metric_observe(METRIC_STORE_COMMIT_SECONDS, NULL, clock_seconds() - began);
    if (status == DIDI_OK)
        (void)fault_at(FAULT_COMMITTED); /* only to be killed here */
    if (status == DIDI_OK && sqlite3_total_changes64(self->writer->connection) != changes)
        mark_commits(self);
    if (status != DIDI_OK) {
        didi_error ignored = {0};
        int code = sqlite3_extended_errcode(self->writer->connection);
        *ret_uncertain = (code & 0xff) == SQLITE_IOERR || (code & 0xff) == SQLITE_CORRUPT;
        if (sqlite3_get_autocommit(self->writer->connection) == 0)
            database_run(self->writer, QUERY_TRANSACTION_ROLLBACK, NULL, &ignored);
    }
    return status;
}

/* Takes up to STORE_BATCH_MAX requests; NULL when closing and empty. */
static store_request *batch_take(store *self)
{
    pthread_mutex_lock(&self->lock);
    while (self->first == NULL && !self->closing)
        pthread_cond_wait(&self->arrived, &self->lock);
    store_request *batch = self->first;
    store_request *last = batch;
    for (size_t i = 1; last != NULL && last->next != NULL && i < STORE_BATCH_MAX; i++)
        last = last->next;
    if (last != NULL) {
        self->first = last->next;
        last->next = NULL;
    }
    if (self->first == NULL)
        self->last = NULL;
    size_t before = self->waiting;
    for (const store_request *request = batch; request != NULL; request = request->next)
        self->waiting--;
    metric_add(METRIC_STORE_REQUESTS, NULL, (double)(before - self->waiting));
    metric_set(METRIC_STORE_QUEUE, NULL, (double)self->waiting);
    pthread_mutex_unlock(&self->lock);
    return batch;
}

/* Before those who wait for the commit go on. */
static void tell_listener(store *self)
{
    pthread_mutex_lock(&self->listener_lock);
    if (self->job_changed != NULL && self->changes.more)
        self->job_changed(self->listener_context, NULL);
    for (size_t i = 0; i < self->changes.count && self->job_changed != NULL; i++)
        self->job_changed(self->listener_context, self->changes.ids[i]);
    if (self->changes.deliveries && self->delivery_queued != NULL)
        self->delivery_queued(self->delivery_context);
    pthread_mutex_unlock(&self->listener_lock);
}

static void batch_finish(store *self, store_request *batch, int status, bool uncertain,
                         const didi_error *error)
{
    if (status == DIDI_OK)
        tell_listener(self);
    pthread_mutex_lock(&self->lock);
    if (uncertain)
        self->broken = *error;
    while (batch != NULL) {
        store_request *next = batch->next;
        if (batch->error != NULL) {
            if (status != DIDI_OK) {
                *batch->error = *error;
                batch->status = status;
            }
            batch->done = true;
        } else {
            free(batch->argument);
            free(batch);
        }
        batch = next;
    }
    pthread_cond_broadcast(&self->finished);
    pthread_mutex_unlock(&self->lock);
}

static void *writer_main(void *context)
{
    store *self = context;
    store_request *batch = NULL;
    pthread_setname_np(pthread_self(), "didid-writer");
    while ((batch = batch_take(self)) != NULL) {
        didi_error error = {0};
        bool uncertain = false;
        int status = batch_execute(self, batch, &uncertain, &error);
        metric_add(status == DIDI_OK ? METRIC_STORE_TRANSACTIONS : METRIC_STORE_ERRORS, NULL, 1);
        metric_set(METRIC_STORE_WAL_PAGES, NULL, self->writer->wal_pages);
        batch_finish(self, batch, status, uncertain, &error);
        if (self->writer->wal_pages > STORE_WAL_PAGES)
            database_checkpoint(self->writer, false);
    }
    database_checkpoint(self->writer, true);
    place_settle(self->place);
    return NULL;
}

/* Under the lock. */
static void mailbox_append(store *self, store_request *request)
{
    if (self->last != NULL)
        self->last->next = request;
    else
        self->first = request;
    self->last = request;
    self->waiting++;
    metric_set(METRIC_STORE_QUEUE, NULL, (double)self->waiting);
    pthread_cond_signal(&self->arrived);
}

/* Neither operations nor the listener may call the store: the writer would wait for itself. */
static bool on_writer(const store *self)
{
    return self->started && pthread_equal(self->thread, pthread_self()) != 0;
}

int store_write(store *self, store_operation *operation, void *argument, didi_error *error)
{
    didi_error own = {0};
    store_request request = {.operation = operation, .argument = argument, .error = &own};
    int status = DIDI_OK;
    assert(!on_writer(self));
    pthread_mutex_lock(&self->lock);
    while (self->waiting >= STORE_MAILBOX_MAX && !self->closing)
        pthread_cond_wait(&self->finished, &self->lock);
    if (self->broken.status != DIDI_OK) {
        own = self->broken;
        status = own.status;
    } else if (self->closing) {
        status = didi_fail(&own, DIDI_CONFLICT, NULL, "the store is being closed");
    } else {
        mailbox_append(self, &request);
        while (!request.done)
            pthread_cond_wait(&self->finished, &self->lock);
        status = request.status;
    }
    pthread_mutex_unlock(&self->lock);
    if (status != DIDI_OK && error != NULL)
        *error = own;
    return status;
}

void store_post(store *self, store_operation *operation, void *argument, bool may_be_dropped)
{
    store_request *request = memory_zeroed(1, sizeof *request);
    bool taken = false;
    assert(!on_writer(self));
    if (request != NULL) {
        request->operation = operation;
        request->argument = argument;
        pthread_mutex_lock(&self->lock);
        while (!may_be_dropped && self->waiting >= STORE_MAILBOX_MAX && !self->closing)
            pthread_cond_wait(&self->finished, &self->lock);
        taken =
            self->waiting < STORE_MAILBOX_MAX && !self->closing && self->broken.status == DIDI_OK;
        if (taken)
            mailbox_append(self, request);
        pthread_mutex_unlock(&self->lock);
    }
    if (!taken) {
        metric_add(METRIC_STORE_DROPPED, NULL, 1);
        free(argument);
        free(request);
    }
}

static void reader_put_back(store *self, database *reader)
{
    pthread_mutex_lock(&self->reader_lock);
    assert(self->reader_count < STORE_READERS_MAX);
    self->readers[self->reader_count++] = reader;
    pthread_cond_signal(&self->reader_returned);
    pthread_mutex_unlock(&self->reader_lock);
}

int store_reader_borrow(store *self, database **ret_database, didi_error *error)
{
    int status = DIDI_OK;
    pthread_mutex_lock(&self->reader_lock);
    while (self->reader_count == 0)
        pthread_cond_wait(&self->reader_returned, &self->reader_lock);
    database *reader = self->readers[--self->reader_count];
    pthread_mutex_unlock(&self->reader_lock);
    if (reader == NULL)
        status = database_open(self->path, DATABASE_READ, &reader, error);
    if (status == DIDI_OK)
        *ret_database = reader;
    else
        reader_put_back(self, NULL);
    return status;
}

void store_reader_return(store *self, database *reader)
{
    /* Whatever was left half read would hold the log's tail for ever. */
    for (size_t i = 0; i < QUERY_COUNT; i++)
        if (reader->statements[i] != NULL)
            sqlite3_reset(reader->statements[i]);
    reader_put_back(self, reader);
}

/* ---- rows ---- */

int store_row_read(store *self, store_query query, const sql_parameter *parameters,
                   const row_kind *kind, void *ret_row, bool *ret_found, didi_error *error)
{
    database *reader = NULL;
    int status = store_reader_borrow(self, &reader, error);
    if (status != DIDI_OK)
        return status;
    status = database_row(reader, query, parameters, kind, ret_row, ret_found, error);
    store_reader_return(self, reader);
    return status;
}

/* So that a damaged row does not fill the log. */
static void tell_damaged(const didi_error *error)
{
    enum { TOLD_MAX = 100 };
    static atomic_uint told;
    if (atomic_fetch_add(&told, 1) < TOLD_MAX)
        log_emit(LOG_LEVEL_ERROR, "a damaged row is passed over",
                 LOG_TEXT("error", error->message));
}

/* *rows and *count are the caller's even after a failure. Damaged rows are passed over: the others
 * are still good. */
static int read_rows(database *reader, const row_list *wanted, char **rows, size_t *count,
                     bool *more, didi_error *error)
{
    const row_kind *kind = wanted->kind;
    sqlite3_stmt *statement = NULL;
    size_t room = 0;
    size_t seen = 0;
    bool row = true;
    didi_error damage = {0};
    int status = database_statement(reader, wanted->query, wanted->parameters, &statement, error);
    while (status == DIDI_OK) {
        status = database_step(reader, statement, &row, error);
        *more = row && seen >= wanted->limit && *count > 0;
        if (status != DIDI_OK || !row || *more)
            break;
        char *grown = memory_grown(*rows, *count, &room, kind->bytes);
        if (grown == NULL)
            return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
        *rows = grown;
        status = row_read(kind, statement, grown + *count * kind->bytes, &damage);
        *count += status == DIDI_OK;
        seen++;
        if (status == DIDI_FORMAT)
            tell_damaged(&damage);
        else if (status != DIDI_OK)
            return didi_fail(error, status, NULL, "%s", damage.message);
        status = DIDI_OK;
    }
    return status;
}

int store_rows_read(store *self, const row_list *wanted, void *ret_rows, size_t *ret_count,
                    bool *ret_more, didi_error *error)
{
    database *reader = NULL;
    store_job known = {0};
    char *rows = NULL;
    size_t count = 0;
    bool more = false;
    if (wanted->limit == 0 || wanted->limit > wanted->most)
        return didi_fail(error, DIDI_INVALID, "limit", "limit is outside 1 .. %zu", wanted->most);
    int status = store_reader_borrow(self, &reader, error);
    if (status != DIDI_OK)
        return status;
    if (wanted->job != NULL)
        status = job_select(reader, wanted->job, &known, error);
    store_job_clear(&known);
    if (status == DIDI_OK)
        status = read_rows(reader, wanted, &rows, &count, &more, error);
    store_reader_return(self, reader);
    if (status != DIDI_OK) {
        rows_free(wanted->kind, rows, count);
        return status;
    }
    memcpy(ret_rows, &rows, sizeof rows); /* pointers to all structs are alike */
    *ret_count = count;
    if (ret_more != NULL)
        *ret_more = more;
    return DIDI_OK;
}

int store_ids_read(store *self, store_query query, const char *after, size_t limit,
                   char (**ret_ids)[ID_BYTES], size_t *ret_count, didi_error *error)
{
    const row_list wanted = {.query = query,
                             .kind = &row_of_id,
                             .parameters =
                                 SQL_PARAMETERS(SQL_TEXT(after, after), SQL_INTEGER(limit, limit)),
                             .limit = limit,
                             .most = STORE_PAGE_MAX};
    return store_rows_read(self, &wanted, ret_ids, ret_count, NULL, error);
}

void rows_free(const row_kind *kind, void *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        row_clear(kind, (char *)rows + i * kind->bytes);
    free(rows);
}

int store_each_id(store *self, store_query query, int (*visit)(void *context, const char *id),
                  void *context, didi_error *error)
{
    const row_list all = {.query = query, .kind = &row_of_id, .limit = SIZE_MAX, .most = SIZE_MAX};
    char(*ids)[ID_BYTES] = NULL;
    size_t count = 0;
    int status = store_rows_read(self, &all, &ids, &count, NULL, error);
    for (size_t i = 0; i < count && visit(context, ids[i]) == 0; i++)
        ;
    rows_free(&row_of_id, ids, count);
    return status;
}

/* ---- opening and closing ---- */

/* Refuses what guard_examine found, with what to do about it. */
static int refuse(const guard_report *found, didi_error *error)
{
    const int status = found->verdict == GUARD_DAMAGED ? DIDI_FORMAT : DIDI_CONFLICT;
    if (found->verdict == GUARD_TOO_NEW)
        return didi_fail(error, status, "didid.db", "%s", found->detail);
    return didi_fail(error, status, "didid.db",
                     "%s; %zu directories of jobs are left alone. Restore a backup (didid "
                     "restore), rebuild the finished jobs from their files (didid recover), or "
                     "start once with --accept-database to go on with what is there",
                     found->detail, found->directories);
}

/* Decides by what lies there; sets aside what cannot be used. */
static int judge(int directory_fd, const char *directory, bool accept, didi_error *error)
{
    guard_report found = {.verdict = GUARD_GOOD};
    char name[64];
    int status = guard_examine(directory_fd, directory, &found, error);
    if (status != DIDI_OK)
        return status;
    if (found.mark_damaged)
        log_emit(LOG_LEVEL_WARNING,
                 "the mark of the database is damaged: lost commits would not be noticed");
    if (found.verdict == GUARD_GOOD || found.verdict == GUARD_NEW)
        return DIDI_OK;
    if (!accept || found.verdict == GUARD_TOO_NEW)
        return refuse(&found, error);
    log_emit(LOG_LEVEL_WARNING, "the database is accepted as it is",
             LOG_TEXT("found", found.detail));
    if (found.verdict == GUARD_OLDER || found.verdict == GUARD_OTHER)
        return DIDI_OK;
    status = guard_set_aside(directory_fd, name, error);
    if (status == DIDI_OK)
        log_emit(LOG_LEVEL_WARNING, "the database was set aside", LOG_TEXT("name", name));
    return status;
}

static int open_writer(store *self, const char *directory, bool accept, didi_error *error)
{
    bool has_facts = false;
    int fd = -1;
    int status = file_open_directory(AT_FDCWD, directory, 0, &fd, error);
    if (status == DIDI_OK)
        status = judge(fd, directory, accept, error);
    if (status == DIDI_OK)
        status = database_open(self->path, DATABASE_WRITE, &self->writer, error);
    if (status == DIDI_OK)
        status = schema_facts(self->writer, &self->mark, &has_facts, error);
    if (status == DIDI_OK)
        status = mark_replace(fd, &self->mark, error);
    if (status == DIDI_OK)
        status = place_open(directory, &self->place, error);
    file_close(fd);
    return status;
}

static int open_store(const char *directory, bool accept, store **ret_store, didi_error *error)
{
    store *self = memory_zeroed(1, sizeof *self);
    int status = DIDI_OK;
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->arrived, NULL);
    pthread_cond_init(&self->finished, NULL);
    pthread_mutex_init(&self->reader_lock, NULL);
    pthread_cond_init(&self->reader_returned, NULL);
    pthread_mutex_init(&self->listener_lock, NULL);
    self->reader_count = STORE_READERS_MAX;
    self->path = memory_format("%s/didid.db", directory);
    if (self->path == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    else
        status = open_writer(self, directory, accept, error);
    if (status == DIDI_OK && pthread_create(&self->thread, NULL, writer_main, self) != 0)
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "cannot start the writer thread");
    self->started = status == DIDI_OK;
    if (status == DIDI_OK)
        *ret_store = self;
    else
        store_close(self);
    return status;
}

int store_open(const char *directory, store **ret_store, didi_error *error)
{
    return open_store(directory, false, ret_store, error);
}

int store_open_accepting(const char *directory, store **ret_store, didi_error *error)
{
    return open_store(directory, true, ret_store, error);
}

void store_close(store *self)
{
    if (self == NULL)
        return;
    assert(self->reader_count == STORE_READERS_MAX && !on_writer(self));
    pthread_mutex_lock(&self->lock);
    self->closing = true;
    pthread_cond_broadcast(&self->arrived);
    pthread_cond_broadcast(&self->finished);
    pthread_mutex_unlock(&self->lock);
    for (size_t i = 0; i < self->reader_count; i++)
        database_close(self->readers[i]);
    if (self->started)
        pthread_join(self->thread, NULL);
    database_close(self->writer);
    place_close(self->place);
    pthread_mutex_destroy(&self->listener_lock);
    pthread_cond_destroy(&self->reader_returned);
    pthread_mutex_destroy(&self->reader_lock);
    pthread_cond_destroy(&self->finished);
    pthread_cond_destroy(&self->arrived);
    pthread_mutex_destroy(&self->lock);
    free(self->path);
    free(self);
}

void store_set_listener(store *self, void (*job_changed)(void *context, const char *job_id),
                        void *context)
{
    pthread_mutex_lock(&self->listener_lock);
    self->listener_context = context;
    self->job_changed = job_changed;
    pthread_mutex_unlock(&self->listener_lock);
}

void store_set_delivery_listener(store *self, void (*queued)(void *context), void *context)
{
    pthread_mutex_lock(&self->listener_lock);
    self->delivery_context = context;
    self->delivery_queued = queued;
    pthread_mutex_unlock(&self->listener_lock);
}

int store_check(store *self, didi_error *error)
{
    return store_write(self, NULL, NULL, error);
}

const char *store_library_version(void)
{
    return sqlite3_libversion();
}

double store_memory_bytes(void)
{
    return (double)sqlite3_memory_used();
}
