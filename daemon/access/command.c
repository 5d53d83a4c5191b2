/* SPDX-License-Identifier: Apache-2.0 */
/* didid token: tokens of a state directory, before its daemon's first start and beside it.
 *
 * There is one read-write connection to the database: whoever holds the directory's lock has it.
 * So this asks the daemon where one runs, and opens the database itself where none does. */
#include "daemon/access/access.h"
#include "daemon/access/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { COMMAND_ATTEMPTS_MAX = 100, COMMAND_PAUSE_MILLISECONDS = 100 };

typedef struct token_command {
    const char *state_dir, *name, *scope, *expires;
    bool help;
    option_list words;
    token_request asked;
    /* One of both. */
    access_control *access;
    store *records;
    int state_fd;
} token_command;

#define AT(member) offsetof(token_command, member)
static const option_row option_rows[] = {
    {"state_dir", OPTION_TEXT, AT(state_dir)},
    {"name", OPTION_TEXT, AT(name)},
    {"scope", OPTION_TEXT, AT(scope)},
    {"expires", OPTION_TEXT, AT(expires)},
    {"help", OPTION_FLAG, AT(help)},
    {"word", OPTION_ARGUMENT, AT(words)},
    {NULL, OPTION_END, 0},
};

static void print_usage(void)
{
    puts("Usage: didid token create --state-dir DIR --name NAME --scope SCOPE [--expires TIME]\n"
         "       didid token list --state-dir DIR\n"
         "       didid token revoke ID --state-dir DIR\n"
         "Make, list and revoke what clients need to use the interface.\n\n"
         "  --state-dir DIR          the daemon's state directory; the daemon may run or not\n"
         "  --name NAME              what the token is called in lists and in the log\n"
         "  --scope SCOPE            read, submit or admin; each allows what those before it do\n"
         "  --expires TIME           life from now, as 12h or 90d [for ever]\n\n"
         "create prints the token alone; it is not kept and cannot be shown again.");
}

static int run_create(token_command *self, didi_error *error)
{
    char id[ID_BYTES];
    char text[TOKEN_TEXT_BYTES] = "";
    char by[32];
    int status = DIDI_OK;
    (void)snprintf(by, sizeof by, "user-%lu", (unsigned long)getuid());
    if (self->access != NULL) {
        status = access_token_create(self->access, &self->asked, by, id, text, error);
    } else {
        char *body = token_request_write(&self->asked);
        json_t *made = NULL;
        status = body != NULL
                     ? control_exchange(self->state_fd, "POST", "/v1/tokens", body, &made, error)
                     : didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
        const char *token = json_string_value(json_object_get(made, "token"));
        if (status == DIDI_OK && (token == NULL || !token_is_well_formed(token)))
            status = didi_fail(error, DIDI_IO, NULL, "the daemon sent no token");
        if (status == DIDI_OK)
            (void)snprintf(text, sizeof text, "%s", token);
        json_decref(made);
        free(body);
    }
    if (status == DIDI_OK)
        puts(text);
    explicit_bzero(text, sizeof text);
    return status;
}

static const char *word_of(const json_t *token, const char *key, const char *other)
{
    const char *text = json_string_value(json_object_get(token, key));
    return text != NULL ? text : other;
}

static void print_tokens(const json_t *tokens)
{
    for (size_t i = 0; i < json_array_size(tokens); i++) {
        const json_t *token = json_array_get(tokens, i);
        printf("%-26s  %-6s  %-24s  %-24s  %-24s  %s\n", word_of(token, "id", ""),
               word_of(token, "scope", ""), word_of(token, "created_at", ""),
               word_of(token, "expires_at", "never"), word_of(token, "last_used_at", "never"),
               word_of(token, "name", ""));
    }
}

static int list_rows(token_command *self, didi_error *error)
{
    store_token *rows = NULL;
    size_t count = 0;
    int status = store_token_list(self->records, NULL, LIMIT_TOKENS, &rows, &count, NULL, error);
    json_t *tokens = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(tokens, access_token_json(&rows[i]));
    print_tokens(tokens);
    json_decref(tokens);
    store_tokens_free(rows, count);
    return status;
}

static int run_list(token_command *self, didi_error *error)
{
    char target[96] = "/v1/tokens?limit=200";
    bool more = true;
    printf("%-26s  %-6s  %-24s  %-24s  %-24s  %s\n", "ID", "SCOPE", "CREATED", "EXPIRES",
           "LAST USED", "NAME");
    if (self->access != NULL)
        return list_rows(self, error);
    for (size_t page = 0; more && page <= LIMIT_TOKENS; page++) {
        json_t *answer = NULL;
        int status = control_exchange(self->state_fd, "GET", target, NULL, &answer, error);
        if (status != DIDI_OK)
            return status;
        print_tokens(json_object_get(answer, "data"));
        more = json_is_true(json_object_get(answer, "has_more"));
        (void)snprintf(target, sizeof target, "/v1/tokens?limit=200&after=%.26s",
                       word_of(answer, "next", ""));
        json_decref(answer);
    }
    return DIDI_OK;
}

static int run_revoke(token_command *self, didi_error *error)
{
    const char *id = self->words.texts[1];
    char target[64];
    char by[32];
    json_t *answer = NULL;
    (void)snprintf(by, sizeof by, "user-%lu", (unsigned long)getuid());
    if (self->access != NULL)
        return access_token_revoke(self->access, id, by, error);
    (void)snprintf(target, sizeof target, "/v1/tokens/%s", id);
    int status = control_exchange(self->state_fd, "DELETE", target, NULL, &answer, error);
    json_decref(answer);
    return status;
}

typedef int (*token_verb)(token_command *self, didi_error *error);

/* Files of another user in the directory would keep the daemon from starting. */
static int check_owner(const token_command *self, didi_error *error)
{
    struct stat facts;
    if (stat(self->state_dir, &facts) != 0 || facts.st_uid == geteuid())
        return DIDI_OK;
    return didi_fail(error, DIDI_INVALID, self->state_dir,
                     "the directory belongs to user %lu, and no daemon runs there: do this as that "
                     "user",
                     (unsigned long)facts.st_uid);
}

static int run_here(token_command *self, token_verb run, didi_error *error)
{
    const config none = {0};
    int status = check_owner(self, error);
    if (status == DIDI_OK)
        status = store_open(self->state_dir, &self->records, error);
    if (status == DIDI_OK)
        status = access_create(&none, self->records, &self->access, error);
    if (status == DIDI_OK)
        status = run(self, error);
    access_free(self->access);
    store_close(self->records);
    return status;
}

/* Where a daemon holds the lock and does not answer, it starts or ends: once more. */
static int run_somewhere(token_command *self, token_verb run, didi_error *error)
{
    const struct timespec pause = {.tv_nsec = COMMAND_PAUSE_MILLISECONDS * 1000000L};
    int status = DIDI_OK;
    for (int attempt = 0; attempt < COMMAND_ATTEMPTS_MAX; attempt++) {
        state_dir *state = NULL;
        didi_error held = {0};
        status = state_dir_open(self->state_dir, &state, &held);
        if (status == DIDI_OK) {
            status = run_here(self, run, error);
            state_dir_close(state);
            return status;
        }
        if (status != DIDI_CONFLICT) {
            *error = held;
            return status;
        }
        self->state_fd = open(self->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (self->state_fd < 0)
            return didi_fail_errno(error, errno, self->state_dir, "cannot open %s",
                                   self->state_dir);
        status = run(self, error);
        close(self->state_fd);
        if (status != DIDI_NOT_FOUND)
            return status;
        nanosleep(&pause, NULL);
    }
    return status;
}

static int read_verb(token_command *self, token_verb *ret_run, didi_error *error)
{
    static const struct {
        const char *word;
        size_t words;
        token_verb run;
    } verbs[] = {{"create", 1, run_create}, {"list", 1, run_list}, {"revoke", 2, run_revoke}};
    const char *word = self->words.count > 0 ? self->words.texts[0] : "";
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp(verbs[i].word, word) == 0 && self->words.count == verbs[i].words)
            *ret_run = verbs[i].run;
    if (*ret_run == NULL)
        return didi_fail(error, DIDI_INVALID, NULL, "expected create, list or revoke ID");
    if (self->state_dir == NULL)
        return didi_fail(error, DIDI_INVALID, NULL, "--state-dir is required");
    bool creates = *ret_run == run_create;
    if (creates && (self->name == NULL || self->scope == NULL))
        return didi_fail(error, DIDI_INVALID, NULL, "--name and --scope are required");
    if (!creates && (self->name != NULL || self->scope != NULL || self->expires != NULL))
        return didi_fail(error, DIDI_INVALID, NULL, "--name, --scope and --expires are of create");
    if (*ret_run == run_revoke && !id_is_valid(self->words.texts[1]))
        return didi_fail(error, DIDI_INVALID, NULL,
                         "that is no id of a token; see didid token list");
    return creates ? token_request_from_texts(self->name, self->scope, self->expires, &self->asked,
                                              error)
                   : DIDI_OK;
}

int access_command(int argc, char **argv)
{
    token_command self = {.state_fd = -1};
    didi_error error = {0};
    token_verb run = NULL;
    log_configure(LOG_FORMAT_LOGFMT, LOG_LEVEL_WARNING, STDERR_FILENO);
    umask(0027);
    int status = options_read(option_rows, &self, argc, argv, &error);
    if (status == DIDI_OK && self.help) {
        print_usage();
        return EXIT_SUCCESS;
    }
    if (status == DIDI_OK)
        status = read_verb(&self, &run, &error);
    if (status != DIDI_OK)
        return options_refuse("didid token", &error);
    status = run_somewhere(&self, run, &error);
    token_request_clear(&self.asked);
    if (status == DIDI_OK && fflush(stdout) == 0)
        return EXIT_SUCCESS;
    fprintf(stderr, "didid token: %s\n", status != DIDI_OK ? error.message : "cannot write");
    return EXIT_FAILURE;
}
