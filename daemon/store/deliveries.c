/* SPDX-License-Identifier: Apache-2.0 */
/* Deliveries: queued, due, answered, queued again, forgotten. */
#include "daemon/base/base.h"
#include "daemon/store/writer.h"
#include "src/base/base.h"

#include <assert.h>
#include <string.h>

enum {
    TRIM_ROWS = 500,     /* that go at once */
    DUE_ROWS_MAX = 1000, /* that are looked at together */
};

static const char *const delivery_state_names[] = {DELIVERY_STATE_TABLE(TEXT_WORD)};

const char *delivery_state_name(delivery_state state)
{
    assert((unsigned)state < DELIVERY_STATE_COUNT);
    return delivery_state_names[state];
}

bool delivery_state_parse(const char *name, delivery_state *ret_state)
{
    size_t found = text_find(delivery_state_names, DELIVERY_STATE_COUNT, name);
    if (found < DELIVERY_STATE_COUNT)
        *ret_state = (delivery_state)found;
    return found < DELIVERY_STATE_COUNT;
}

#define AT(kind, member) ROW_COLUMN(store_delivery, kind, member)
/* As delivery_select, delivery_list and delivery_due have them. */
static const row_kind row_of_delivery = {
    .noun = "delivery",
    .bytes = sizeof(store_delivery),
    .states = delivery_state_names,
    .state_count = DELIVERY_STATE_COUNT,
    .columns = {AT(TEXT, id), AT(TEXT, webhook_id), AT(GIVEN, type), AT(GIVEN, subject),
                AT(JSON, body), AT(STATE, state), AT(INTEGER, due_ms), AT(INTEGER, attempts),
                AT(INTEGER, attempts_all), AT(INTEGER, created_ms), AT(INTEGER, sent_ms),
                AT(INTEGER, finished_ms), AT(INTEGER, duration_ms), AT(INTEGER, http_status),
                AT(STRING, answer), AT(STRING, error), AT(TEXT, traceparent)}};

void store_delivery_clear(store_delivery *delivery)
{
    row_clear(&row_of_delivery, delivery);
}

void store_deliveries_free(store_delivery *deliveries, size_t count)
{
    rows_free(&row_of_delivery, deliveries, count);
}

/* Which order a delivery stands in. */
typedef struct delivery_line {
    char webhook_id[ID_BYTES];
    char subject[512];
} delivery_line;

static const row_kind row_of_line = {.bytes = sizeof(delivery_line),
                                     .columns = {ROW_COLUMN(delivery_line, TEXT, webhook_id),
                                                 ROW_COLUMN(delivery_line, TEXT, subject)}};

/* ---- reading ---- */

static int delivery_unknown(const char *id, didi_error *error)
{
    return didi_fail(error, DIDI_NOT_FOUND, id, "no delivery of this webhook has the id '%.64s'",
                     id);
}

int store_delivery_get(store *self, const char *webhook_id, const char *id,
                       store_delivery *ret_delivery, didi_error *error)
{
    bool found = false;
    int status = store_row_read(self, QUERY_DELIVERY_SELECT,
                                SQL_PARAMETERS(SQL_TEXT(id, id), SQL_TEXT(webhook_id, webhook_id)),
                                &row_of_delivery, ret_delivery, &found, error);
    return status == DIDI_OK && !found ? delivery_unknown(id, error) : status;
}

int store_delivery_list(store *self, const store_delivery_filter *filter, size_t limit,
                        store_delivery **ret_deliveries, size_t *ret_count, bool *ret_more,
                        didi_error *error)
{
    const sql_parameter all[] = {SQL_TEXT(webhook_id, filter->webhook_id),
                                 SQL_TEXT(before, filter->before),
                                 SQL_INTEGER(limit, ROWS_ALL),
                                 {.name = NULL}};
    sql_parameter some[] = {all[0], all[1], all[2], SQL_TEXT(state, NULL), {.name = NULL}};
    if (filter->state != NULL)
        some[3].text = delivery_state_name(*filter->state);
    const row_list wanted = {.query = filter->state != NULL ? QUERY_DELIVERY_LIST_OF_STATE
                                                            : QUERY_DELIVERY_LIST,
                             .kind = &row_of_delivery,
                             .parameters = filter->state != NULL ? some : all,
                             .limit = limit,
                             .most = STORE_PAGE_MAX};
    return store_rows_read(self, &wanted, ret_deliveries, ret_count, ret_more, error);
}

int store_delivery_due(store *self, int64_t now_ms, size_t each, store_delivery **ret_deliveries,
                       size_t *ret_count, didi_error *error)
{
    const row_list wanted = {.query = QUERY_DELIVERY_DUE,
                             .kind = &row_of_delivery,
                             .parameters =
                                 SQL_PARAMETERS(SQL_INTEGER(now, now_ms), SQL_INTEGER(each, each),
                                                SQL_INTEGER(limit, DUE_ROWS_MAX)),
                             .limit = DUE_ROWS_MAX,
                             .most = DUE_ROWS_MAX};
    assert(each * LIMIT_WEBHOOKS <= DUE_ROWS_MAX);
    return store_rows_read(self, &wanted, ret_deliveries, ret_count, NULL, error);
}

int store_delivery_next_due(store *self, int64_t now_ms, int64_t *ret_due_ms, didi_error *error)
{
    return store_row_read(self, QUERY_DELIVERY_NEXT_DUE, SQL_PARAMETERS(SQL_INTEGER(now, now_ms)),
                          &row_of_integer, ret_due_ms, NULL, error);
}

/* ---- queueing ---- */

int delivery_insert(database *writer, new_delivery *made, store_changes *changes, didi_error *error)
{
    int status = database_new_id(writer, clock_now_ms(), made->id, error);
    if (status != DIDI_OK)
        return status;
    const char *subject = made->subject != NULL ? made->subject : made->id;
    changes->deliveries = true;
    return database_run(
        writer, QUERY_DELIVERY_INSERT,
        SQL_PARAMETERS(SQL_TEXT(id, made->id), SQL_TEXT(webhook_id, made->webhook_id),
                       SQL_TEXT(type, made->type), SQL_TEXT(subject, subject),
                       SQL_TEXT(body, made->body), SQL_TEXT(traceparent, made->traceparent),
                       SQL_INTEGER(now, clock_now_ms())),
        error);
}

typedef struct again_argument {
    const char *webhook_id, *id;
} again_argument;

/* After one of them changed: the first of them is due, the others wait. */
static int line_advance(database *writer, const delivery_line *line, int64_t now, didi_error *error)
{
    int status = database_run(
        writer, QUERY_DELIVERY_HOLD,
        SQL_PARAMETERS(SQL_TEXT(webhook_id, line->webhook_id), SQL_TEXT(subject, line->subject)),
        error);
    if (status != DIDI_OK)
        return status;
    return database_run(writer, QUERY_DELIVERY_RELEASE,
                        SQL_PARAMETERS(SQL_TEXT(webhook_id, line->webhook_id),
                                       SQL_TEXT(subject, line->subject), SQL_INTEGER(now, now)),
                        error);
}

static int again_operation(database *writer, void *context, store_changes *changes,
                           didi_error *error)
{
    const again_argument *argument = context;
    delivery_line line;
    bool found = false;
    int status = webhook_check_open(writer, argument->webhook_id, error);
    if (status != DIDI_OK)
        return status;
    status = database_row(
        writer, QUERY_DELIVERY_AGAIN,
        SQL_PARAMETERS(SQL_TEXT(id, argument->id), SQL_TEXT(webhook_id, argument->webhook_id)),
        &row_of_line, &line, &found, error);
    if (status == DIDI_OK && !found)
        return delivery_unknown(argument->id, error);
    if (status == DIDI_OK)
        status = line_advance(writer, &line, clock_now_ms(), error);
    store_changes_add(changes, argument->id);
    changes->deliveries = true;
    return status;
}

int store_delivery_again(store *self, const char *webhook_id, const char *id, didi_error *error)
{
    again_argument argument = {.webhook_id = webhook_id, .id = id};
    return store_write(self, again_operation, &argument, error);
}

/* ---- answers ---- */

typedef struct answered_argument {
    const store_delivery *delivery;
    const store_delivery_outcome *outcome;
} answered_argument;

static int answered_webhook(database *writer, const char *id, const store_delivery_outcome *outcome,
                            didi_error *error)
{
    int status =
        database_run(writer, QUERY_WEBHOOK_ANSWERED,
                     SQL_PARAMETERS(SQL_TEXT(id, id), SQL_INTEGER(now, outcome->now_ms),
                                    SQL_INTEGER(succeeded, outcome->state == DELIVERY_SUCCEEDED)),
                     error);
    if (status == DIDI_OK && outcome->disable != NULL)
        status = database_run(writer, QUERY_WEBHOOK_DISABLE,
                              SQL_PARAMETERS(SQL_TEXT(id, id), SQL_TEXT(reason, outcome->disable),
                                             SQL_INTEGER(now, outcome->now_ms)),
                              error);
    return status;
}

static int answered_operation(database *writer, void *context, store_changes *changes,
                              didi_error *error)
{
    const answered_argument *argument = context;
    const store_delivery_outcome *outcome = argument->outcome;
    delivery_line line;
    bool found = false;
    int status = database_row(
        writer, QUERY_DELIVERY_ANSWERED,
        SQL_PARAMETERS(SQL_TEXT(id, argument->delivery->id),
                       SQL_TEXT(state, delivery_state_name(outcome->state)),
                       SQL_INTEGER(due_ms, outcome->due_ms), SQL_INTEGER(sent_ms, outcome->sent_ms),
                       SQL_INTEGER(now, outcome->now_ms),
                       SQL_INTEGER(http_status, outcome->http_status),
                       SQL_TEXT(answer, outcome->answer), SQL_TEXT(error, outcome->error)),
        &row_of_line, &line, &found, error);
    if (status != DIDI_OK || !found)
        return status;
    if (outcome->state != DELIVERY_QUEUED)
        status = line_advance(writer, &line, outcome->now_ms, error);
    if (status == DIDI_OK)
        status = answered_webhook(writer, line.webhook_id, outcome, error);
    store_changes_add(changes, argument->delivery->id);
    return status;
}

int store_delivery_answered(store *self, const store_delivery *delivery,
                            const store_delivery_outcome *outcome, didi_error *error)
{
    answered_argument argument = {.delivery = delivery, .outcome = outcome};
    assert((outcome->state == DELIVERY_QUEUED) == (outcome->due_ms > 0));
    return store_write(self, answered_operation, &argument, error);
}

typedef struct trim_argument {
    int64_t now_ms, before_ms;
    size_t most;
} trim_argument;

static int trim_operation(database *writer, void *context, store_changes *changes,
                          didi_error *error)
{
    const trim_argument *argument = context;
    (void)changes;
    int status = database_run(writer, QUERY_DELIVERY_EXPIRE,
                              SQL_PARAMETERS(SQL_INTEGER(now, argument->now_ms),
                                             SQL_INTEGER(before, argument->before_ms)),
                              error);
    if (status == DIDI_OK)
        status = database_run(
            writer, QUERY_DELIVERY_TRIM_OLD,
            SQL_PARAMETERS(SQL_INTEGER(before, argument->before_ms), SQL_INTEGER(limit, TRIM_ROWS)),
            error);
    if (status == DIDI_OK)
        status = database_run(
            writer, QUERY_DELIVERY_TRIM_MANY,
            SQL_PARAMETERS(SQL_INTEGER(most, argument->most), SQL_INTEGER(limit, TRIM_ROWS)),
            error);
    if (status == DIDI_OK)
        status = database_run(writer, QUERY_WEBHOOK_FORGET_OLD_SECRETS,
                              SQL_PARAMETERS(SQL_INTEGER(now, argument->now_ms)), error);
    return status;
}

int store_delivery_trim(store *self, int64_t now_ms, int64_t before_ms, size_t most,
                        didi_error *error)
{
    trim_argument argument = {.now_ms = now_ms, .before_ms = before_ms, .most = most};
    return store_write(self, trim_operation, &argument, error);
}
