/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoints: made, read, changed. */
#include "daemon/base/base.h"
#include "daemon/store/writer.h"
#include "src/base/base.h"

#include <assert.h>
#include <string.h>

#define AT(kind, member) ROW_COLUMN(store_webhook, kind, member)
/* As webhook_select and webhook_list have them. */
static const row_kind row_of_webhook = {
    .noun = "webhook",
    .bytes = sizeof(store_webhook),
    .columns = {AT(TEXT, id), AT(GIVEN, url), AT(GIVEN, description), AT(JSON, events),
                AT(JSON, labels), AT(GIVEN, secret), AT(STRING, old_secret),
                AT(INTEGER, old_secret_until_ms), AT(INTEGER, enabled), AT(STRING, disabled_reason),
                AT(INTEGER, failing_since_ms), AT(INTEGER, queued), AT(INTEGER, dropped),
                AT(INTEGER, created_ms), AT(INTEGER, updated_ms)}};

void store_webhook_clear(store_webhook *webhook)
{
    row_clear(&row_of_webhook, webhook);
}

void store_webhooks_free(store_webhook *webhooks, size_t count)
{
    rows_free(&row_of_webhook, webhooks, count);
}

static int webhook_unknown(const char *id, didi_error *error)
{
    return didi_fail(error, DIDI_NOT_FOUND, id, "there is no webhook '%.64s'", id);
}

typedef struct openness {
    bool enabled;
    int64_t queued;
} openness;

static const row_kind row_of_openness = {
    .bytes = sizeof(openness),
    .columns = {ROW_COLUMN(openness, INTEGER, enabled), ROW_COLUMN(openness, INTEGER, queued)}};

int webhook_check_open(database *writer, const char *id, didi_error *error)
{
    openness now = {0};
    bool found = false;
    int status = database_row(writer, QUERY_WEBHOOK_OPEN, SQL_PARAMETERS(SQL_TEXT(id, id)),
                              &row_of_openness, &now, &found, error);
    if (status != DIDI_OK)
        return status;
    if (!found)
        return webhook_unknown(id, error);
    if (!now.enabled)
        return didi_fail(error, DIDI_CONFLICT, id, "the webhook is disabled");
    if (now.queued >= STORE_DELIVERIES_QUEUED_MAX)
        return didi_fail(error, DIDI_CONFLICT, id, "%d deliveries wait already, which is the most",
                         STORE_DELIVERIES_QUEUED_MAX);
    return DIDI_OK;
}

/* Runs a change of one endpoint. */
typedef struct webhook_change {
    store_query query;
    const char *id;
    const sql_parameter *parameters;
    bool may_be_none;
} webhook_change;

static int change_operation(database *writer, void *context, store_changes *changes,
                            didi_error *error)
{
    const webhook_change *change = context;
    int status = database_run(writer, change->query, change->parameters, error);
    if (status == DIDI_OK && !change->may_be_none && sqlite3_changes(writer->connection) == 0)
        return webhook_unknown(change->id, error);
    changes->deliveries = true; /* it may be enabled now */
    return status;
}

typedef struct create_argument {
    const store_new_webhook *wanted;
    char id[ID_BYTES];
} create_argument;

static int create_operation(database *writer, void *context, store_changes *changes,
                            didi_error *error)
{
    create_argument *argument = context;
    const store_new_webhook *wanted = argument->wanted;
    int64_t count = 0;
    (void)changes;
    int status =
        database_row(writer, QUERY_WEBHOOK_COUNT, NULL, &row_of_integer, &count, NULL, error);
    if (status == DIDI_OK && count >= LIMIT_WEBHOOKS)
        return didi_fail(error, DIDI_CONFLICT, "webhooks",
                         "there are %d webhooks already, which is the most", LIMIT_WEBHOOKS);
    if (status == DIDI_OK)
        status = database_new_id(writer, clock_now_ms(), argument->id, error);
    if (status != DIDI_OK)
        return status;
    return database_run(
        writer, QUERY_WEBHOOK_INSERT,
        SQL_PARAMETERS(SQL_TEXT(id, argument->id), SQL_TEXT(url, wanted->url),
                       SQL_TEXT(description, wanted->description), SQL_TEXT(events, wanted->events),
                       SQL_TEXT(labels, wanted->labels), SQL_TEXT(secret, wanted->secret),
                       SQL_INTEGER(enabled, wanted->enabled), SQL_INTEGER(now, clock_now_ms())),
        error);
}

int store_webhook_create(store *self, const store_new_webhook *wanted, char ret_id[ID_BYTES],
                         didi_error *error)
{
    create_argument argument = {.wanted = wanted};
    assert(wanted->url != NULL && wanted->secret != NULL && wanted->events != NULL &&
           wanted->labels != NULL && wanted->description != NULL);
    int status = store_write(self, create_operation, &argument, error);
    if (status == DIDI_OK)
        memcpy(ret_id, argument.id, ID_BYTES);
    return status;
}

int store_webhook_get(store *self, const char *id, store_webhook *ret_webhook, didi_error *error)
{
    bool found = false;
    int status = store_row_read(self, QUERY_WEBHOOK_SELECT, SQL_PARAMETERS(SQL_TEXT(id, id)),
                                &row_of_webhook, ret_webhook, &found, error);
    return status == DIDI_OK && !found ? webhook_unknown(id, error) : status;
}

int store_webhook_list(store *self, const char *before, size_t limit, store_webhook **ret_webhooks,
                       size_t *ret_count, bool *ret_more, didi_error *error)
{
    const row_list wanted = {
        .query = QUERY_WEBHOOK_LIST,
        .kind = &row_of_webhook,
        .parameters = SQL_PARAMETERS(SQL_TEXT(before, before), SQL_INTEGER(limit, ROWS_ALL)),
        .limit = limit,
        .most = STORE_PAGE_MAX};
    return store_rows_read(self, &wanted, ret_webhooks, ret_count, ret_more, error);
}

int store_webhook_update(store *self, const char *id, const store_webhook_change *change,
                         didi_error *error)
{
    webhook_change argument = {
        .query = QUERY_WEBHOOK_UPDATE,
        .id = id,
        .parameters = SQL_PARAMETERS(
            SQL_TEXT(id, id), SQL_TEXT(url, change->url),
            SQL_TEXT(description, change->description), SQL_TEXT(events, change->events),
            SQL_TEXT(labels, change->labels), SQL_INTEGER(enabled, change->enabled),
            SQL_INTEGER(now, clock_now_ms()))};
    return store_write(self, change_operation, &argument, error);
}

int store_webhook_disable(store *self, const char *id, const char *reason, didi_error *error)
{
    webhook_change argument = {.query = QUERY_WEBHOOK_DISABLE,
                               .id = id,
                               .parameters =
                                   SQL_PARAMETERS(SQL_TEXT(id, id), SQL_TEXT(reason, reason),
                                                  SQL_INTEGER(now, clock_now_ms())),
                               .may_be_none = true};
    return store_write(self, change_operation, &argument, error);
}

int store_webhook_rotate(store *self, const char *id, const char *secret, int64_t until_ms,
                         didi_error *error)
{
    webhook_change argument = {.query = QUERY_WEBHOOK_ROTATE,
                               .id = id,
                               .parameters = SQL_PARAMETERS(
                                   SQL_TEXT(id, id), SQL_TEXT(secret, secret),
                                   SQL_INTEGER(until, until_ms), SQL_INTEGER(now, clock_now_ms()))};
    return store_write(self, change_operation, &argument, error);
}

int store_webhook_delete(store *self, const char *id, didi_error *error)
{
    webhook_change argument = {
        .query = QUERY_WEBHOOK_DELETE, .id = id, .parameters = SQL_PARAMETERS(SQL_TEXT(id, id))};
    return store_write(self, change_operation, &argument, error);
}
