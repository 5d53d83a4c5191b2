/* SPDX-License-Identifier: Apache-2.0 */
/* Hooks, their deliveries, polls and registrations. */
#include "daemon/store/hooks.h"

#include "daemon/store/writer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const char *const receipt_state_names[] = {RECEIPT_STATE_TABLE(TEXT_WORD)};

const char *receipt_state_name(receipt_state state)
{
    assert((unsigned)state < RECEIPT_STATE_COUNT);
    return receipt_state_names[state];
}

/* ---- hooks ---- */

#define AT(kind, member) ROW_COLUMN(store_hook, kind, member)
static const row_kind row_of_hook = {.noun = "hook",
                                     .bytes = sizeof(store_hook),
                                     .columns = {AT(GIVEN, name), AT(JSON, document),
                                                 AT(GIVEN, secret), AT(INTEGER, created_ms),
                                                 AT(INTEGER, updated_ms)}};
#undef AT

void store_hook_clear(store_hook *hook)
{
    row_clear(&row_of_hook, hook);
}

void store_hooks_free(store_hook *hooks, size_t count)
{
    rows_free(&row_of_hook, hooks, count);
}

/* Whether there is a hook of this name. */
static int hook_find(database *writer, const char *name, bool *ret_found, didi_error *error)
{
    store_hook known = {0};
    int status = database_row(writer, QUERY_HOOK_SELECT, SQL_PARAMETERS(SQL_TEXT(name, name)),
                              &row_of_hook, &known, ret_found, error);
    store_hook_clear(&known);
    return status;
}

typedef struct put_argument {
    const char *name, *document, *secret;
    bool created;
} put_argument;

static int put_operation(database *writer, void *context, store_changes *changes, didi_error *error)
{
    put_argument *argument = context;
    int64_t count = 0;
    bool found = false;
    (void)changes;
    int status = hook_find(writer, argument->name, &found, error);
    if (status == DIDI_OK && !found)
        status = database_row(writer, QUERY_HOOK_COUNT, NULL, &row_of_integer, &count, NULL, error);
    if (status != DIDI_OK)
        return status;
    if (!found && argument->secret == NULL)
        return didi_fail(error, DIDI_INVALID, "/secret", "a new hook needs a secret");
    if (!found && count >= STORE_HOOKS_MAX)
        return didi_fail(error, DIDI_CONFLICT, argument->name,
                         "there are %d hooks already, and no more are taken", STORE_HOOKS_MAX);
    argument->created = !found;
    return database_run(
        writer, found ? QUERY_HOOK_UPDATE : QUERY_HOOK_INSERT,
        SQL_PARAMETERS(SQL_TEXT(name, argument->name), SQL_TEXT(document, argument->document),
                       SQL_TEXT(secret, argument->secret), SQL_INTEGER(now, clock_now_ms())),
        error);
}

int store_hook_put(store *self, const char *name, const char *document, const char *secret,
                   bool *ret_created, didi_error *error)
{
    put_argument argument = {.name = name, .document = document, .secret = secret};
    int status = store_write(self, put_operation, &argument, error);
    if (status == DIDI_OK)
        *ret_created = argument.created;
    return status;
}

static int hook_unknown(const char *name, didi_error *error)
{
    return didi_fail(error, DIDI_NOT_FOUND, name, "there is no hook '%.64s'", name);
}

int store_hook_get(store *self, const char *name, store_hook *ret_hook, didi_error *error)
{
    bool found = false;
    int status = store_row_read(self, QUERY_HOOK_SELECT, SQL_PARAMETERS(SQL_TEXT(name, name)),
                                &row_of_hook, ret_hook, &found, error);
    return status == DIDI_OK && !found ? hook_unknown(name, error) : status;
}

int store_hook_list(store *self, const char *after, size_t limit, store_hook **ret_hooks,
                    size_t *ret_count, bool *ret_more, didi_error *error)
{
    const row_list wanted = {
        .query = QUERY_HOOK_LIST,
        .kind = &row_of_hook,
        .parameters = SQL_PARAMETERS(SQL_TEXT(after, after), SQL_INTEGER(limit, ROWS_ALL)),
        .limit = limit,
        .most = STORE_HOOKS_MAX};
    return store_rows_read(self, &wanted, ret_hooks, ret_count, ret_more, error);
}

typedef struct name_argument {
    const char *name;
} name_argument;

static const row_kind row_of_name = {.bytes = sizeof(char[64]),
                                     .columns = {{COLUMN_TEXT, 0, sizeof(char[64])}}};

static int delete_operation(database *writer, void *context, store_changes *changes,
                            didi_error *error)
{
    const name_argument *argument = context;
    char name[64];
    bool found = false;
    (void)changes;
    int status =
        database_row(writer, QUERY_HOOK_DELETE, SQL_PARAMETERS(SQL_TEXT(name, argument->name)),
                     &row_of_name, name, &found, error);
    return status == DIDI_OK && !found ? hook_unknown(argument->name, error) : status;
}

int store_hook_delete(store *self, const char *name, didi_error *error)
{
    return store_write(self, delete_operation, &(name_argument){.name = name}, error);
}

/* ---- deliveries ---- */

#define AT(kind, member) ROW_COLUMN(store_receipt, kind, member)
/* As hook_delivery_select, hook_delivery_list and hook_delivery_due have them. */
static const row_kind row_of_delivery = {
    .noun = "delivery",
    .bytes = sizeof(store_receipt),
    .states = receipt_state_names,
    .state_count = RECEIPT_STATE_COUNT,
    .columns = {AT(TEXT, id), AT(GIVEN, hook), AT(GIVEN, delivery), AT(GIVEN, origin),
                AT(STATE, state), AT(STRING, rule), AT(TEXT, job_id), AT(TEXT, fetch_id),
                AT(STRING, reason), AT(GIVEN, excerpt), AT(STRING, work), AT(INTEGER, attempts),
                AT(INTEGER, created_ms), AT(INTEGER, finished_ms), AT(STRING, registered),
                AT(STRING, model), AT(STRING, version), AT(STRING, register_error)}};
#undef AT

void store_receipt_clear(store_receipt *delivery)
{
    row_clear(&row_of_delivery, delivery);
}

void store_receipts_free(store_receipt *deliveries, size_t count)
{
    rows_free(&row_of_delivery, deliveries, count);
}

typedef struct add_argument {
    const store_arrival *arrival;
    char id[ID_BYTES];
    bool repeated;
} add_argument;

static int find_same(database *writer, add_argument *argument, didi_error *error)
{
    const store_arrival *arrival = argument->arrival;
    int status =
        database_row(writer, QUERY_HOOK_DELIVERY_SAME,
                     SQL_PARAMETERS(SQL_TEXT(hook, arrival->hook), SQL_TEXT(key, arrival->key)),
                     &row_of_id, argument->id, &argument->repeated, error);
    if (status != DIDI_OK || argument->repeated || arrival->subject == NULL)
        return status;
    return database_row(
        writer, QUERY_HOOK_DELIVERY_TOLD,
        SQL_PARAMETERS(SQL_TEXT(hook, arrival->hook), SQL_TEXT(subject, arrival->subject),
                       SQL_TEXT(origin, arrival->origin), SQL_INTEGER(since, arrival->since_ms)),
        &row_of_id, argument->id, &argument->repeated, error);
}

static int add_operation(database *writer, void *context, store_changes *changes, didi_error *error)
{
    add_argument *argument = context;
    const store_arrival *arrival = argument->arrival;
    bool found = false;
    (void)changes;
    int status = hook_find(writer, arrival->hook, &found, error);
    if (status == DIDI_OK && !found)
        status = hook_unknown(arrival->hook, error);
    if (status == DIDI_OK)
        status = find_same(writer, argument, error);
    if (status != DIDI_OK || argument->repeated)
        return status;
    status = database_new_id(writer, clock_now_ms(), argument->id, error);
    if (status == DIDI_OK)
        status = database_run(
            writer, QUERY_HOOK_DELIVERY_INSERT,
            SQL_PARAMETERS(SQL_TEXT(id, argument->id), SQL_TEXT(hook, arrival->hook),
                           SQL_TEXT(key, arrival->key), SQL_TEXT(subject, arrival->subject),
                           SQL_TEXT(delivery, arrival->delivery), SQL_TEXT(origin, arrival->origin),
                           SQL_TEXT(state, receipt_state_name(arrival->state)),
                           SQL_TEXT(rule, arrival->rule), SQL_TEXT(reason, arrival->reason),
                           SQL_TEXT(excerpt, arrival->excerpt), SQL_TEXT(work, arrival->work),
                           SQL_INTEGER(now, clock_now_ms())),
            error);
    if (status == DIDI_OK)
        status = database_run(writer, QUERY_HOOK_DELIVERY_TRIM,
                              SQL_PARAMETERS(SQL_TEXT(hook, arrival->hook),
                                             SQL_INTEGER(most, STORE_DELIVERIES_KEPT_MAX)),
                              error);
    return status;
}

int store_receipt_add(store *self, const store_arrival *arrival, char ret_id[ID_BYTES],
                      bool *ret_repeated, didi_error *error)
{
    add_argument argument = {.arrival = arrival};
    assert((arrival->state == RECEIPT_PENDING) == (arrival->work != NULL));
    int status = store_write(self, add_operation, &argument, error);
    if (status != DIDI_OK)
        return status;
    memcpy(ret_id, argument.id, ID_BYTES);
    *ret_repeated = argument.repeated;
    return DIDI_OK;
}

int store_receipt_get(store *self, const char *id, store_receipt *ret_delivery, didi_error *error)
{
    bool found = false;
    int status = store_row_read(self, QUERY_HOOK_DELIVERY_SELECT, SQL_PARAMETERS(SQL_TEXT(id, id)),
                                &row_of_delivery, ret_delivery, &found, error);
    if (status == DIDI_OK && !found)
        return didi_fail(error, DIDI_NOT_FOUND, id, "there is no delivery '%.64s'", id);
    return status;
}

int store_receipt_list(store *self, const store_receipt_page *page, store_receipt **ret_deliveries,
                       size_t *ret_count, bool *ret_more, didi_error *error)
{
    const row_list wanted = {.query = QUERY_HOOK_DELIVERY_LIST,
                             .kind = &row_of_delivery,
                             .parameters = SQL_PARAMETERS(SQL_TEXT(hook, page->hook),
                                                          SQL_TEXT(before, page->before),
                                                          SQL_INTEGER(limit, ROWS_ALL)),
                             .limit = page->limit,
                             .most = STORE_PAGE_MAX};
    return store_rows_read(self, &wanted, ret_deliveries, ret_count, ret_more, error);
}

int store_receipt_due(store *self, store_receipt *ret_delivery, bool *ret_found,
                      int64_t *ret_next_ms, didi_error *error)
{
    int status = store_row_read(self, QUERY_HOOK_DELIVERY_DUE,
                                SQL_PARAMETERS(SQL_INTEGER(now, clock_now_ms())), &row_of_delivery,
                                ret_delivery, ret_found, error);
    *ret_next_ms = 0;
    if (status == DIDI_OK && !*ret_found)
        status = store_row_read(self, QUERY_HOOK_DELIVERY_NEXT, NULL, &row_of_integer, ret_next_ms,
                                NULL, error);
    return status;
}

static int move_operation(database *writer, void *context, store_changes *changes,
                          didi_error *error)
{
    const store_receipt_step *step = context;
    int64_t now = clock_now_ms();
    (void)changes;
    int status = database_run(
        writer, QUERY_HOOK_DELIVERY_MOVE,
        SQL_PARAMETERS(SQL_TEXT(id, step->id), SQL_TEXT(state, receipt_state_name(step->state)),
                       SQL_TEXT(job, step->job_id), SQL_TEXT(fetch, step->fetch_id),
                       SQL_TEXT(reason, step->reason), SQL_INTEGER(attempt, step->counts),
                       SQL_INTEGER(next, now + step->wait_ms), SQL_INTEGER(now, now)),
        error);
    if (status != DIDI_OK || step->model == NULL)
        return status;
    return database_run(writer, QUERY_HOOK_REGISTRATION_INSERT,
                        SQL_PARAMETERS(SQL_TEXT(job, step->job_id), SQL_TEXT(hook, step->hook),
                                       SQL_TEXT(model, step->model),
                                       SQL_TEXT(experiment, step->experiment),
                                       SQL_INTEGER(now, now)),
                        error);
}

int store_receipt_move(store *self, const store_receipt_step *step, didi_error *error)
{
    store_receipt_step copy = *step;
    assert(step->model == NULL || step->job_id != NULL);
    return store_write(self, move_operation, &copy, error);
}

/* ---- polls ---- */

static const row_kind row_of_poll = {
    .noun = "poll",
    .bytes = sizeof(store_poll),
    .columns = {ROW_COLUMN(store_poll, STRING, seen), ROW_COLUMN(store_poll, INTEGER, checked_ms),
                ROW_COLUMN(store_poll, INTEGER, due_ms), ROW_COLUMN(store_poll, STRING, error)}};

void store_poll_clear(store_poll *poll)
{
    row_clear(&row_of_poll, poll);
}

int store_poll_get(store *self, const char *hook, const char *source, store_poll *ret_poll,
                   didi_error *error)
{
    bool found = false;
    *ret_poll = (store_poll){0};
    return store_row_read(self, QUERY_HOOK_POLL_SELECT,
                          SQL_PARAMETERS(SQL_TEXT(hook, hook), SQL_TEXT(source, source)),
                          &row_of_poll, ret_poll, &found, error);
}

static int poll_operation(database *writer, void *context, store_changes *changes,
                          didi_error *error)
{
    const store_poll_result *argument = context;
    (void)changes;
    return database_run(
        writer, QUERY_HOOK_POLL_PUT,
        SQL_PARAMETERS(SQL_TEXT(hook, argument->hook), SQL_TEXT(source, argument->source),
                       SQL_TEXT(seen, argument->seen), SQL_TEXT(error, argument->why),
                       SQL_INTEGER(interval, argument->interval_ms),
                       SQL_INTEGER(now, clock_now_ms())),
        error);
}

int store_poll_put(store *self, const store_poll_result *result, didi_error *error)
{
    store_poll_result copy = *result;
    return store_write(self, poll_operation, &copy, error);
}

static int hurry_operation(database *writer, void *context, store_changes *changes,
                           didi_error *error)
{
    const name_argument *argument = context;
    store_hook known = {0};
    bool found = false;
    (void)changes;
    int status =
        database_row(writer, QUERY_HOOK_SELECT, SQL_PARAMETERS(SQL_TEXT(name, argument->name)),
                     &row_of_hook, &known, &found, error);
    store_hook_clear(&known);
    if (status == DIDI_OK && !found)
        return hook_unknown(argument->name, error);
    return status == DIDI_OK ? database_run(writer, QUERY_HOOK_POLL_HURRY,
                                            SQL_PARAMETERS(SQL_TEXT(hook, argument->name)), error)
                             : status;
}

int store_poll_hurry(store *self, const char *hook, didi_error *error)
{
    return store_write(self, hurry_operation, &(name_argument){.name = hook}, error);
}

/* ---- registrations ---- */

#define AT(kind, member) ROW_COLUMN(store_registration, kind, member)
static const row_kind row_of_registration = {
    .noun = "registration",
    .bytes = sizeof(store_registration),
    .columns = {AT(TEXT, job_id), AT(GIVEN, hook), AT(STRING, model), AT(STRING, experiment),
                AT(INTEGER, attempts), AT(STRING, job_name)}};
#undef AT

void store_registration_clear(store_registration *registration)
{
    row_clear(&row_of_registration, registration);
}

int store_registration_due(store *self, store_registration *ret_registration, bool *ret_found,
                           didi_error *error)
{
    return store_row_read(self, QUERY_HOOK_REGISTRATION_DUE,
                          SQL_PARAMETERS(SQL_INTEGER(now, clock_now_ms())), &row_of_registration,
                          ret_registration, ret_found, error);
}

typedef struct register_argument {
    const char *job_id, *version, *why;
    int64_t wait_ms;
} register_argument;

static int register_operation(database *writer, void *context, store_changes *changes,
                              didi_error *error)
{
    const register_argument *argument = context;
    int64_t now = clock_now_ms();
    const char *state = argument->version != NULL ? "done"
                        : argument->wait_ms > 0   ? "waiting"
                                                  : "failed";
    (void)changes;
    int status =
        database_run(writer, QUERY_HOOK_REGISTRATION_MOVE,
                     SQL_PARAMETERS(SQL_TEXT(job, argument->job_id), SQL_TEXT(state, state),
                                    SQL_INTEGER(next, now + argument->wait_ms),
                                    SQL_TEXT(version, argument->version),
                                    SQL_TEXT(error, argument->why), SQL_INTEGER(now, now)),
                     error);
    if (status == DIDI_OK)
        status =
            database_run(writer, QUERY_HOOK_REGISTRATION_TRIM,
                         SQL_PARAMETERS(SQL_INTEGER(most, STORE_REGISTRATIONS_KEPT_MAX)), error);
    return status;
}

int store_registration_move(store *self, const char *job_id, const char *version, const char *why,
                            int64_t wait_ms, didi_error *error)
{
    register_argument argument = {
        .job_id = job_id, .version = version, .why = why, .wait_ms = wait_ms};
    return store_write(self, register_operation, &argument, error);
}
