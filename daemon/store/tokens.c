/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens: rows that say whose SHA-256 may do what. */
#include "daemon/base/base.h"
#include "daemon/store/writer.h"
#include "src/base/base.h"

#include <assert.h>
#include <string.h>

static const char *const scope_names[] = {TOKEN_SCOPE_TABLE(TEXT_WORD)};

const char *token_scope_name(token_scope scope)
{
    assert((unsigned)scope < TOKEN_SCOPE_COUNT);
    return scope_names[scope];
}

#define AT(kind, member) ROW_COLUMN(store_token, kind, member)
/* As token_select and token_list have them. */
static const row_kind row_of_token = {.noun = "token",
                                      .bytes = sizeof(store_token),
                                      .states = scope_names,
                                      .state_count = TOKEN_SCOPE_COUNT,
                                      .columns = {AT(TEXT, id), AT(GIVEN, name), AT(TEXT, hash),
                                                  AT(STATE, scope), AT(GIVEN, created_by),
                                                  AT(INTEGER, created_ms), AT(INTEGER, expires_ms),
                                                  AT(INTEGER, used_ms)}};

void store_token_clear(store_token *token)
{
    row_clear(&row_of_token, token);
}

void store_tokens_free(store_token *tokens, size_t count)
{
    rows_free(&row_of_token, tokens, count);
}

typedef struct create_argument {
    const store_token *token;
    char id[ID_BYTES];
} create_argument;

static int create_operation(database *writer, void *context, store_changes *changes,
                            didi_error *error)
{
    create_argument *argument = context;
    const store_token *token = argument->token;
    int64_t count = 0;
    (void)changes;
    int status =
        database_row(writer, QUERY_TOKEN_COUNT, NULL, &row_of_integer, &count, NULL, error);
    if (status == DIDI_OK && count >= LIMIT_TOKENS)
        return didi_fail(error, DIDI_CONFLICT, NULL,
                         "there are %d tokens, which is the limit; revoke some first",
                         LIMIT_TOKENS);
    if (status == DIDI_OK)
        status = database_new_id(writer, clock_now_ms(), argument->id, error);
    if (status != DIDI_OK)
        return status;
    return database_run(
        writer, QUERY_TOKEN_INSERT,
        SQL_PARAMETERS(SQL_TEXT(id, argument->id), SQL_TEXT(name, token->name),
                       SQL_TEXT(hash, token->hash), SQL_TEXT(scope, token_scope_name(token->scope)),
                       SQL_TEXT(created_by, token->created_by), SQL_INTEGER(now, clock_now_ms()),
                       SQL_INTEGER(expires, token->expires_ms)),
        error);
}

int store_token_create(store *self, const store_token *token, char ret_id[ID_BYTES],
                       didi_error *error)
{
    create_argument argument = {.token = token};
    int status = store_write(self, create_operation, &argument, error);
    if (status == DIDI_OK)
        memcpy(ret_id, argument.id, ID_BYTES);
    return status;
}

static int fail_unknown(const char *id, didi_error *error)
{
    return didi_fail(error, DIDI_NOT_FOUND, NULL, "there is no token '%.64s'", id);
}

int store_token_get(store *self, const char *id, store_token *ret_token, didi_error *error)
{
    bool found = false;
    int status = store_row_read(self, QUERY_TOKEN_SELECT, SQL_PARAMETERS(SQL_TEXT(id, id)),
                                &row_of_token, ret_token, &found, error);
    return status == DIDI_OK && !found ? fail_unknown(id, error) : status;
}

int store_token_list(store *self, const char *before, size_t limit, store_token **ret_tokens,
                     size_t *ret_count, bool *ret_more, didi_error *error)
{
    const row_list wanted = {
        .query = QUERY_TOKEN_LIST,
        .kind = &row_of_token,
        .parameters = SQL_PARAMETERS(SQL_TEXT(before, before), SQL_INTEGER(limit, ROWS_ALL)),
        .limit = limit,
        .most = LIMIT_TOKENS};
    return store_rows_read(self, &wanted, ret_tokens, ret_count, ret_more, error);
}

static int delete_operation(database *writer, void *context, store_changes *changes,
                            didi_error *error)
{
    char removed[ID_BYTES];
    bool found = false;
    (void)changes;
    int status = database_row(writer, QUERY_TOKEN_DELETE, SQL_PARAMETERS(SQL_TEXT(id, context)),
                              &row_of_id, removed, &found, error);
    return status == DIDI_OK && !found ? fail_unknown(context, error) : status;
}

int store_token_delete(store *self, const char *id, didi_error *error)
{
    char copy[ID_BYTES];
    if (!id_is_valid(id))
        return fail_unknown(id, error);
    memcpy(copy, id, sizeof copy);
    return store_write(self, delete_operation, copy, error);
}

typedef struct used_argument {
    char id[ID_BYTES];
    int64_t now_ms;
} used_argument;

static int used_operation(database *writer, void *context, store_changes *changes,
                          didi_error *error)
{
    const used_argument *argument = context;
    (void)changes;
    return database_run(
        writer, QUERY_TOKEN_USED,
        SQL_PARAMETERS(SQL_TEXT(id, argument->id), SQL_INTEGER(now, argument->now_ms)), error);
}

void store_token_used(store *self, const char *id, int64_t now_ms)
{
    used_argument *argument = memory_zeroed(1, sizeof *argument);
    if (argument == NULL)
        return;
    memcpy(argument->id, id, ID_BYTES);
    argument->now_ms = now_ms;
    store_post(self, used_operation, argument, true);
}
