/* SPDX-License-Identifier: Apache-2.0 */
/* Models: the registry's rows. */
#include "daemon/base/base.h"
#include "daemon/store/writer.h"
#include "src/base/base.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const char *const model_state_names[] = {MODEL_STATE_TABLE(TEXT_WORD)};

const char *model_state_name(model_state state)
{
    assert((unsigned)state < MODEL_STATE_COUNT);
    return model_state_names[state];
}

void store_model_clear(store_model *model)
{
    free(model->name);
    free(model->root);
    free(model->revision);
    free(model->reason);
    memset(model, 0, sizeof *model);
}

/* Columns in the order of model_list. */
static int model_read(sqlite3_stmt *statement, store_model *ret_model, didi_error *error)
{
    store_model model = {0};
    char state[16];
    int status = column_copy(statement, 0, &model.name, error);
    if (status == DIDI_OK)
        status = column_copy(statement, 1, &model.root, error);
    if (status == DIDI_OK)
        status = column_copy(statement, 2, &model.revision, error);
    column_text(statement, 3, state, sizeof state);
    model.state = strcmp(state, model_state_name(MODEL_READY)) == 0 ? MODEL_READY : MODEL_BROKEN;
    if (status == DIDI_OK)
        status = column_copy(statement, 4, &model.reason, error);
    model.tensor_count = (uint64_t)sqlite3_column_int64(statement, 5);
    model.parameters = (uint64_t)sqlite3_column_int64(statement, 6);
    model.bytes = (uint64_t)sqlite3_column_int64(statement, 7);
    model.file_count = (uint64_t)sqlite3_column_int64(statement, 8);
    model.registered_ms = sqlite3_column_int64(statement, 9);
    model.updated_ms = sqlite3_column_int64(statement, 10);
    if (status == DIDI_OK)
        *ret_model = model;
    else
        store_model_clear(&model);
    return status;
}

static int read_row(sqlite3_stmt *statement, void *ret_row, didi_error *error)
{
    return model_read(statement, ret_row, error);
}

static void clear_row(void *row)
{
    store_model_clear(row);
}

static void bind_after(database *reader, sqlite3_stmt *statement, const void *after, int64_t limit)
{
    bind_text(reader, statement, ":after", after);
    bind_integer(reader, statement, ":limit", limit);
}

static const row_kind model_rows = {
    QUERY_MODEL_LIST, sizeof(store_model), STORE_PAGE_MAX, bind_after, read_row, clear_row,
};

int store_model_list(store *self, const char *after, size_t limit, store_model **ret_models,
                     size_t *ret_count, bool *ret_more, didi_error *error)
{
    row_list found = {0};
    int status = store_rows_read(self, &model_rows, NULL, after, limit, &found, error);
    if (status != DIDI_OK)
        return status;
    *ret_models = found.rows;
    *ret_count = found.count;
    *ret_more = found.more;
    return DIDI_OK;
}

void store_models_free(store_model *models, size_t count)
{
    store_rows_free(&model_rows, models, count);
}

static int model_select(database *reader, const char *name, store_model *ret_model,
                        didi_error *error)
{
    sqlite3_stmt *statement = database_statement(reader, QUERY_MODEL_SELECT, error);
    bool row = false;
    bind_text(reader, statement, ":name", name);
    int status = database_step(reader, statement, &row, error);
    if (status != DIDI_OK)
        return status;
    if (!row)
        return didi_fail(error, DIDI_NOT_FOUND, name, "there is no model '%.256s'", name);
    return model_read(statement, ret_model, error);
}

int store_model_get(store *self, const char *name, store_model *ret_model, didi_error *error)
{
    database *reader = NULL;
    int status = store_reader_borrow(self, &reader, error);
    if (status != DIDI_OK)
        return status;
    status = model_select(reader, name, ret_model, error);
    store_reader_return(self, reader);
    return status;
}

typedef struct replace_argument {
    const store_model *rows;
    size_t count;
} replace_argument;

static int model_upsert(database *writer, const store_model *model, int64_t now, didi_error *error)
{
    sqlite3_stmt *statement = database_statement(writer, QUERY_MODEL_UPSERT, error);
    bind_text(writer, statement, ":name", model->name);
    bind_text(writer, statement, ":root", model->root);
    bind_text(writer, statement, ":revision", model->revision);
    bind_text(writer, statement, ":state", model_state_name(model->state));
    bind_text(writer, statement, ":reason", model->reason);
    bind_integer(writer, statement, ":tensor_count", (int64_t)model->tensor_count);
    bind_integer(writer, statement, ":parameters", (int64_t)model->parameters);
    bind_integer(writer, statement, ":bytes", (int64_t)model->bytes);
    bind_integer(writer, statement, ":file_count", (int64_t)model->file_count);
    bind_integer(writer, statement, ":now", now);
    return database_run(writer, statement, error);
}

static int replace_operation(database *writer, void *context, store_changes *changes,
                             didi_error *error)
{
    const replace_argument *argument = context;
    int64_t now = clock_now_ms();
    int status = database_execute(writer, QUERY_MODEL_MARK_ABSENT, error);
    (void)changes;
    for (size_t i = 0; i < argument->count && status == DIDI_OK; i++)
        status = model_upsert(writer, &argument->rows[i], now, error);
    if (status == DIDI_OK)
        status = database_execute(writer, QUERY_MODEL_DELETE_ABSENT, error);
    return status;
}

int store_model_replace(store *self, const store_model *rows, size_t count, didi_error *error)
{
    replace_argument argument = {.rows = rows, .count = count};
    return store_write(self, replace_operation, &argument, error);
}
