/* SPDX-License-Identifier: Apache-2.0 */
/* Who may use the interface: tokens, peers on Unix sockets, and this machine while there is no
 * token. */
#pragma once

#include "daemon/access/listen_rule.h"
#include "daemon/access/token.h"
#include "daemon/base/base.h"
#include "daemon/http/http.h"
#include "daemon/store/store.h"
#include "proto/proto.h"
#include "src/base/base.h"

typedef struct access_control access_control;

/* Reads all tokens into memory. Keeps the pointers, which live longer. Errors: those of
 * store_token_list. */
int access_create(const config *settings, store *records, access_control **ret_access,
                  didi_error *error);
void access_free(access_control *self);

/* There is a token, expired ones among them: strangers need one. Thread-safe. */
bool access_has_tokens(access_control *self);

/* For http_settings.admit: lets the request pass and identifies its client, or replies 401, 403 or
 * 429. Thread-safe, does not block. The client becomes a token's id, "user-" and the number of a
 * user at the other end of a Unix socket, or "". */
bool access_admit(access_control *self, http_request *request);

/* False once the client of an admitted request may go on no longer: its token was revoked, or is
 * over. For what lasts: polls and streams ask at each turn. Thread-safe, does not block. */
bool access_holds(access_control *self, const char *client);
/* Replies that it does not hold. */
void access_refuse_ended(http_request *request);

/* What the client of an admitted request may do. */
typedef struct access_client {
    char id[ID_BYTES]; /* of its token; "" without one */
    token_scope scope;
} access_client;
void access_client_of(access_control *self, const char *client, access_client *ret_client);

/* Makes a token and tells it in *ret_text, once; `seconds` of life, 0 for ever. Known to
 * access_admit when this returns. Errors: those of store_token_create. May block. */
int access_token_create(access_control *self, const token_request *asked, const char *created_by,
                        char ret_id[ID_BYTES], char ret_text[TOKEN_TEXT_BYTES], didi_error *error);
/* Refused everywhere when this returns. Errors: DIDI_NOT_FOUND. May block. */
int access_token_revoke(access_control *self, const char *id, const char *by, didi_error *error);

/* A token as the wire has it, without what it is; NULL when out of memory. Caller decrefs. */
json_t *access_token_json(const store_token *token);

/* "STATE_DIR/control.sock" as http_settings.listen, however long the path of the directory is. */
enum { ACCESS_CONTROL_BYTES = 64 };
void access_control_place(const state_dir *state, char ret_listen[ACCESS_CONTROL_BYTES]);

/* `didid token ...`; argv[0] is "token". Returns an exit status. */
int access_command(int argc, char **argv);
