/* SPDX-License-Identifier: Apache-2.0 */
/* Admission. The edge's thread asks a table in memory; whoever changes the rows reads it anew. */
#include "daemon/access/access.h"

#include "daemon/access/limiter.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { USED_MILLISECONDS = 60000 /* between notes of a token's use */ };

struct access_control {
    const config *settings;
    store *records;
    pthread_mutex_t change; /* held from a change of rows until the table has it */
    pthread_mutex_t lock;   /* guards what follows */
    store_token *tokens;
    size_t count;
    bool guarded; /* there was a token: revoking the last one opens nothing */
    failures attempts;
};

static int table_read(access_control *self, didi_error *error)
{
    store_token *tokens = NULL;
    size_t count = 0;
    int status = store_token_list(self->records, NULL, LIMIT_TOKENS, &tokens, &count, NULL, error);
    if (status != DIDI_OK)
        return status;
    pthread_mutex_lock(&self->lock);
    store_token *old = self->tokens;
    size_t old_count = self->count;
    self->tokens = tokens;
    self->count = count;
    self->guarded = self->guarded || count > 0;
    pthread_mutex_unlock(&self->lock);
    store_tokens_free(old, old_count);
    return DIDI_OK;
}

int access_create(const config *settings, store *records, access_control **ret_access,
                  didi_error *error)
{
    access_control *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    self->settings = settings;
    self->records = records;
    pthread_mutex_init(&self->change, NULL);
    pthread_mutex_init(&self->lock, NULL);
    int status = table_read(self, error);
    if (status != DIDI_OK)
        access_free(self);
    else
        *ret_access = self;
    return status;
}

void access_free(access_control *self)
{
    if (self == NULL)
        return;
    store_tokens_free(self->tokens, self->count);
    pthread_mutex_destroy(&self->lock);
    pthread_mutex_destroy(&self->change);
    free(self);
}

bool access_has_tokens(access_control *self)
{
    pthread_mutex_lock(&self->lock);
    bool any = self->count > 0;
    pthread_mutex_unlock(&self->lock);
    return any;
}

/* ---- the table, under its lock ---- */

static bool hashes_equal(const char *a, const char *b)
{
    unsigned char difference = 0;
    for (size_t i = 0; i < TOKEN_HASH_BYTES - 1; i++)
        difference |= (unsigned char)(a[i] ^ b[i]);
    return difference == 0;
}

/* Compares with all of them, so that the time does not tell which one is near. */
static store_token *find_hash(access_control *self, const char *hash)
{
    store_token *found = NULL;
    for (size_t i = 0; i < self->count; i++)
        if (hashes_equal(self->tokens[i].hash, hash))
            found = &self->tokens[i];
    return found;
}

static store_token *find_id(access_control *self, const char *id)
{
    for (size_t i = 0; i < self->count; i++)
        if (strcmp(self->tokens[i].id, id) == 0)
            return &self->tokens[i];
    return NULL;
}

static bool is_current(const store_token *token, int64_t now_ms)
{
    return token != NULL && (token->expires_ms == 0 || now_ms < token->expires_ms);
}

/* ---- refusals ---- */

static bool refuse(http_request *request, problem type, const char *detail)
{
    if (type == PROBLEM_UNAUTHENTICATED)
        http_reply_header(request, "WWW-Authenticate", "Bearer realm=\"didid\"");
    http_reply_problem(request, &(http_problem){.type = type, .detail = detail});
    return false;
}

void access_refuse_ended(http_request *request)
{
    refuse(request, PROBLEM_UNAUTHENTICATED, "the token was revoked, or is over");
}

/* Someone came with what is no token of ours. */
static bool refuse_wrong(access_control *self, http_request *request, const char *text,
                         const char *detail)
{
    const char *address = http_peer_address(request);
    char hint[TOKEN_HINT_BYTES] = "";
    int seconds = 0;
    pthread_mutex_lock(&self->lock);
    bool within = limiter_attempt(&self->attempts, address, clock_monotonic_ms(), &seconds);
    pthread_mutex_unlock(&self->lock);
    if (!within) {
        char text_seconds[16];
        char limit[96];
        snprintf(text_seconds, sizeof text_seconds, "%d", seconds);
        snprintf(limit, sizeof limit, "%d wrong tokens a minute are answered", FAILURES_MAX);
        http_reply_header(request, "Retry-After", text_seconds);
        return refuse(request, PROBLEM_TOO_MANY_ATTEMPTS, limit);
    }
    if (text != NULL)
        token_hint(text, hint);
    log_emit(LOG_LEVEL_WARNING, "wrong token", LOG_TEXT("address", address),
             LOG_TEXT("token", hint), LOG_TEXT("reason", detail));
    return refuse(request, PROBLEM_UNAUTHENTICATED, detail);
}

static bool check_scope(http_request *request, token_scope scope)
{
    int needed = (int)http_request_access(request);
    char detail[96];
    if ((int)scope >= needed)
        return true;
    snprintf(detail, sizeof detail, "this needs the scope %s; the client has %s",
             token_scope_name((token_scope)needed), token_scope_name(scope));
    return refuse(request, PROBLEM_FORBIDDEN, detail);
}

/* ---- admission ---- */

_Static_assert((int)HTTP_ACCESS_READ == (int)TOKEN_SCOPE_READ &&
                   (int)HTTP_ACCESS_SUBMIT == (int)TOKEN_SCOPE_SUBMIT &&
                   (int)HTTP_ACCESS_ADMIN == (int)TOKEN_SCOPE_ADMIN,
               "routes and tokens count scopes alike");

static bool admit_token(access_control *self, http_request *request, const char *header)
{
    const char *text = token_from_header(header);
    char hash[TOKEN_HASH_BYTES];
    access_client client = {.id = ""};
    didi_error error = {0};
    int64_t now_ms = clock_now_ms();
    if (text == NULL)
        return refuse_wrong(self, request, NULL, "the Authorization header holds no token");
    if (token_hash(text, hash, &error) != DIDI_OK) {
        http_reply_error(request, PROBLEM_INTERNAL, &error);
        return false;
    }
    pthread_mutex_lock(&self->lock);
    store_token *token = find_hash(self, hash);
    bool current = is_current(token, now_ms);
    bool note = current && now_ms - token->used_ms >= USED_MILLISECONDS;
    if (current) {
        memcpy(client.id, token->id, sizeof client.id);
        client.scope = token->scope;
    }
    if (note)
        token->used_ms = now_ms;
    pthread_mutex_unlock(&self->lock);
    if (!current)
        return refuse_wrong(self, request, text,
                            token != NULL ? "the token is over" : "the token is not known here");
    if (note)
        store_token_used(self->records, client.id, now_ms);
    http_identify(request, client.id);
    return check_scope(request, client.scope);
}

/* What a user at the other end of a Unix socket may do; false: nothing. */
static bool scope_of_user(const access_control *self, uid_t user, token_scope *ret_scope)
{
    static const char *const words[] = {TOKEN_SCOPE_TABLE(TEXT_WORD)};
    size_t scope = TOKEN_SCOPE_ADMIN;
    if (user != 0 && user != geteuid())
        scope = self->settings->socket_scope == NULL
                    ? TOKEN_SCOPE_COUNT
                    : text_find(words, TOKEN_SCOPE_COUNT, self->settings->socket_scope);
    if (scope == TOKEN_SCOPE_COUNT)
        return false;
    *ret_scope = (token_scope)scope;
    return true;
}

bool access_admit(access_control *self, http_request *request)
{
    const char *header = http_header(request, "Authorization");
    token_scope scope = TOKEN_SCOPE_ADMIN;
    char client[32];
    uid_t user = 0;
    if (http_request_access(request) == HTTP_ACCESS_PUBLIC)
        return true;
    if (header != NULL)
        return admit_token(self, request, header);
    bool known = http_peer_user(request, &user);
    if (known && scope_of_user(self, user, &scope)) {
        snprintf(client, sizeof client, "user-%lu", (unsigned long)user);
        http_identify(request, client);
        return check_scope(request, scope);
    }
    pthread_mutex_lock(&self->lock);
    bool guarded = self->guarded;
    pthread_mutex_unlock(&self->lock);
    if (!guarded)
        return true; /* listen_check saw to it that only this machine comes here */
    return refuse(request, PROBLEM_UNAUTHENTICATED,
                  "send Authorization: Bearer and a token; didid token create makes one");
}

static bool is_token_id(const char *client)
{
    return client[0] != '\0' && strncmp(client, "user-", 5) != 0;
}

bool access_holds(access_control *self, const char *client)
{
    pthread_mutex_lock(&self->lock);
    bool holds = is_token_id(client) ? is_current(find_id(self, client), clock_now_ms())
                                     : client[0] != '\0' || !self->guarded;
    pthread_mutex_unlock(&self->lock);
    return holds;
}

void access_client_of(access_control *self, const char *client, access_client *ret_client)
{
    access_client found = {.scope = TOKEN_SCOPE_ADMIN};
    if (is_token_id(client)) {
        pthread_mutex_lock(&self->lock);
        const store_token *token = find_id(self, client);
        found.scope = token != NULL ? token->scope : TOKEN_SCOPE_READ;
        pthread_mutex_unlock(&self->lock);
        snprintf(found.id, sizeof found.id, "%s", client);
    } else if (client[0] != '\0') {
        scope_of_user(self, (uid_t)strtoul(client + 5, NULL, 10), &found.scope);
    }
    *ret_client = found;
}

/* ---- changes ---- */

json_t *access_token_json(const store_token *token)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o}", "id", token->id, "name", token->name,
                     "scope", token_scope_name(token->scope), "created_by", token->created_by,
                     "created_at", clock_json(token->created_ms), "expires_at",
                     clock_json(token->expires_ms), "last_used_at", clock_json(token->used_ms));
}

int access_token_create(access_control *self, const token_request *asked, const char *created_by,
                        char ret_id[ID_BYTES], char ret_text[TOKEN_TEXT_BYTES], didi_error *error)
{
    store_token token = {.name = asked->name, .scope = (token_scope)asked->scope};
    char *by = memory_string(created_by);
    char text[TOKEN_TEXT_BYTES];
    if (by == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    token.created_by = by;
    if (asked->expires_seconds != 0)
        token.expires_ms = clock_now_ms() + asked->expires_seconds * 1000;
    int status = token_generate(text, error);
    if (status == DIDI_OK)
        status = token_hash(text, token.hash, error);
    pthread_mutex_lock(&self->change);
    if (status == DIDI_OK)
        status = store_token_create(self->records, &token, ret_id, error);
    if (status == DIDI_OK)
        status = table_read(self, error);
    pthread_mutex_unlock(&self->change);
    if (status == DIDI_OK) {
        memcpy(ret_text, text, sizeof text);
        log_emit(LOG_LEVEL_INFO, "token created", LOG_TEXT("token", ret_id),
                 LOG_TEXT("name", asked->name), LOG_TEXT("scope", token_scope_name(token.scope)),
                 LOG_TEXT("by", created_by));
    }
    explicit_bzero(text, sizeof text);
    free(by);
    return status;
}

int access_token_revoke(access_control *self, const char *id, const char *by, didi_error *error)
{
    pthread_mutex_lock(&self->change);
    int status = store_token_delete(self->records, id, error);
    if (status == DIDI_OK)
        status = table_read(self, error);
    pthread_mutex_unlock(&self->change);
    if (status == DIDI_OK)
        log_emit(LOG_LEVEL_INFO, "token revoked", LOG_TEXT("token", id), LOG_TEXT("by", by));
    return status;
}
