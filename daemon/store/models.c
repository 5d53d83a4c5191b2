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

#define AT(kind, member) ROW_COLUMN(store_model, kind, member)
/* As model_select and model_list have them. */
static const row_kind row_of_model = {
    .noun = "model",
    .bytes = sizeof(store_model),
    .states = model_state_names,
    .state_count = MODEL_STATE_COUNT,
    .columns = {AT(GIVEN, name), AT(GIVEN, root), AT(GIVEN, revision), AT(STATE, state),
                AT(STRING, reason), AT(INTEGER, tensor_count), AT(INTEGER, parameters),
                AT(INTEGER, bytes), AT(INTEGER, file_count), AT(INTEGER, is_adapter),
                AT(INTEGER, registered_ms), AT(INTEGER, updated_ms)}};

void store_model_clear(store_model *model)
{
    row_clear(&row_of_model, model);
}

void store_models_free(store_model *models, size_t count)
{
    rows_free(&row_of_model, models, count);
}

int store_model_list(store *self, const char *after, size_t limit, store_model **ret_models,
                     size_t *ret_count, bool *ret_more, didi_error *error)
{
    const row_list wanted = {
        .query = QUERY_MODEL_LIST,
        .kind = &row_of_model,
        .parameters = SQL_PARAMETERS(SQL_TEXT(after, after), SQL_INTEGER(limit, ROWS_ALL)),
        .limit = limit,
        .most = STORE_PAGE_MAX};
    return store_rows_read(self, &wanted, ret_models, ret_count, ret_more, error);
}

int store_model_get(store *self, const char *name, store_model *ret_model, didi_error *error)
{
    bool found = false;
    int status = store_row_read(self, QUERY_MODEL_SELECT, SQL_PARAMETERS(SQL_TEXT(name, name)),
                                &row_of_model, ret_model, &found, error);
    if (status == DIDI_OK && !found)
        return didi_fail(error, DIDI_NOT_FOUND, name, "there is no model '%.256s'", name);
    return status;
}

typedef struct replace_argument {
    const store_model *rows;
    size_t count;
} replace_argument;

static int model_upsert(database *writer, const store_model *model, int64_t now, didi_error *error)
{
    return database_run(
        writer, QUERY_MODEL_UPSERT,
        SQL_PARAMETERS(
            SQL_TEXT(name, model->name), SQL_TEXT(root, model->root),
            SQL_TEXT(revision, model->revision), SQL_TEXT(state, model_state_name(model->state)),
            SQL_TEXT(reason, model->reason), SQL_INTEGER(tensor_count, model->tensor_count),
            SQL_INTEGER(parameters, model->parameters), SQL_INTEGER(bytes, model->bytes),
            SQL_INTEGER(file_count, model->file_count), SQL_INTEGER(is_adapter, model->is_adapter),
            SQL_INTEGER(now, now)),
        error);
}

static const row_kind row_of_past = {
    .noun = "model",
    .bytes = sizeof(model_past),
    .states = model_state_names,
    .state_count = MODEL_STATE_COUNT,
    .columns = {ROW_COLUMN(model_past, STATE, state), ROW_COLUMN(model_past, TEXT, revision)}};

static int model_replace(database *writer, const store_model *model, int64_t now, bool noticed,
                         store_changes *changes, didi_error *error)
{
    model_past before = {0};
    bool found = false;
    int status = DIDI_OK;
    if (noticed)
        status =
            database_row(writer, QUERY_MODEL_BEFORE, SQL_PARAMETERS(SQL_TEXT(name, model->name)),
                         &row_of_past, &before, &found, error);
    if (status == DIDI_OK)
        status = model_upsert(writer, model, now, error);
    if (status == DIDI_OK && noticed)
        status = notice_model(writer, model, &before, changes, error);
    return status;
}

static int replace_operation(database *writer, void *context, store_changes *changes,
                             didi_error *error)
{
    const replace_argument *argument = context;
    int64_t now = clock_now_ms();
    bool noticed = false;
    int status = notice_any(writer, &noticed, error);
    if (status == DIDI_OK)
        status = database_run(writer, QUERY_MODEL_MARK_ABSENT, NULL, error);
    for (size_t i = 0; i < argument->count && status == DIDI_OK; i++)
        status = model_replace(writer, &argument->rows[i], now, noticed, changes, error);
    if (status == DIDI_OK)
        status = database_run(writer, QUERY_MODEL_DELETE_ABSENT, NULL, error);
    return status;
}

int store_model_replace(store *self, const store_model *rows, size_t count, didi_error *error)
{
    replace_argument argument = {.rows = rows, .count = count};
    return store_write(self, replace_operation, &argument, error);
}
