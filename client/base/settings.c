/* SPDX-License-Identifier: Apache-2.0 */
/* Flags, environment and configuration file, in this order of precedence. */
#include "client/base/settings.h"

#include "client/base/contexts.h"
#include "client/base/exit_code.h"
#include "src/base/base.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    SETTINGS_HOST_BYTES_MAX = 1024,
    SETTINGS_FILE_LINES_MAX = 1000,
    SETTINGS_TOKEN_BYTES_MAX = 1024
};
#define SETTINGS_HOST_DEFAULT "http://127.0.0.1:7878"

static const option_row global_rows[] = {
    {SETTINGS_ID_HOST, 'H', "host", "URL", "server: http://HOST:PORT, https://..., unix:/PATH"},
    {SETTINGS_ID_OUTPUT, 'o', "output", "FORMAT", "table, json, jsonl or name"},
    {SETTINGS_ID_QUIET, 'q', "quiet", NULL, "no progress and no notes on stderr"},
    {SETTINGS_ID_NO_COLOR, 0, "no-color", NULL, "plain text (also by NO_COLOR or TERM=dumb)"},
    {SETTINGS_ID_TIMEOUT, 0, "timeout", "SECONDS", "give up on a silent server (30)"},
    {SETTINGS_ID_CONTEXT, 0, "context", "NAME", "server of this name (didictl login)"},
    {SETTINGS_ID_TOKEN_FILE, 0, "token-file", "FILE", "file with the token for the server"},
    {SETTINGS_ID_CA_FILE, 0, "ca-file", "FILE", "authorities to trust, not the system's"},
    {SETTINGS_ID_HELP, 'h', "help", NULL, "show help and exit"},
    {SETTINGS_ID_VERSION, 0, "version", NULL, "show the client's version and exit"},
};

option_table settings_options(void)
{
    return (option_table){.rows = global_rows, .count = sizeof global_rows / sizeof global_rows[0]};
}

int settings_set_host(client_settings *self, const char *value, const char *origin,
                      didi_error *error)
{
    size_t bytes = strlen(value);
    if (bytes == 0 || bytes > SETTINGS_HOST_BYTES_MAX)
        return didi_fail(error, CLIENT_USAGE, origin, "a host has 1 to %d characters",
                         SETTINGS_HOST_BYTES_MAX);
    for (size_t i = 0; i < bytes; i++) {
        if ((unsigned char)value[i] <= ' ' || value[i] == 0x7f ||
            strchr("?#@\\", value[i]) != NULL) {
            return didi_fail(error, CLIENT_USAGE, origin,
                             "a host holds no blanks, '?', '#', '@' or '\\'");
        }
    }
    bool unix_socket = strncmp(value, "unix:", 5) == 0;
    if (unix_socket && value[5] != '/')
        return didi_fail(error, CLIENT_USAGE, origin, "unix: needs an absolute path");
    if (!unix_socket && strstr(value, "://") != NULL && strncmp(value, "http://", 7) != 0 &&
        strncmp(value, "https://", 8) != 0)
        return didi_fail(error, CLIENT_USAGE, origin, "'%s' is not http, https or unix", value);
    bool bare = !unix_socket && strstr(value, "://") == NULL;
    char *host = memory_format("%s%s", bare ? "http://" : "", value);
    if (host == NULL)
        return client_fail_memory(error);
    for (size_t end = strlen(host); end > 0 && host[end - 1] == '/'; end--)
        host[end - 1] = '\0';
    free(self->host);
    self->host = host;
    return CLIENT_OK;
}

static int set_output(client_settings *self, const char *value, const char *origin,
                      didi_error *error)
{
    static const char *const names[] = {OUTPUT_FORMAT_TABLE(TEXT_WORD)};
    size_t count = sizeof names / sizeof names[0];
    size_t found = text_find(names, count, value);
    if (found == count)
        return didi_fail(error, CLIENT_USAGE, origin, "'%s' is not table, json, jsonl or name",
                         value);
    self->format = (output_format)found;
    return CLIENT_OK;
}

static int set_timeout(client_settings *self, const char *value, const char *origin,
                       didi_error *error)
{
    char *end = NULL;
    errno = 0;
    long seconds = strtol(value, &end, 10);
    if (errno != 0 || end == value || *end != '\0' || seconds < 1 ||
        seconds > SETTINGS_TIMEOUT_SECONDS_MAX) {
        return didi_fail(error, CLIENT_USAGE, origin, "'%s' is not a number of seconds in 1 .. %d",
                         value, SETTINGS_TIMEOUT_SECONDS_MAX);
    }
    self->timeout_seconds = (int)seconds;
    return CLIENT_OK;
}

static int set_text(char **field, const char *value, didi_error *error)
{
    char *copy = memory_string(value);
    if (copy == NULL)
        return client_fail_memory(error);
    free(*field);
    *field = copy;
    return CLIENT_OK;
}

static int set_ca_file(client_settings *self, const char *value, const char *origin,
                       didi_error *error)
{
    (void)origin;
    return set_text(&self->ca_file, value, error);
}

int settings_set_token(client_settings *self, const char *value, const char *origin,
                       didi_error *error)
{
    size_t bytes = strlen(value);
    bool word = bytes > 0 && bytes <= SETTINGS_TOKEN_BYTES_MAX;
    for (size_t i = 0; i < bytes; i++)
        word = word && value[i] > ' ' && value[i] <= '~';
    if (!word)
        return didi_fail(error, CLIENT_USAGE, origin, "does not hold a token alone");
    return set_text(&self->token, value, error);
}

static int read_token_file(client_settings *self, const char *path, client_advice *advice,
                           didi_error *error)
{
    struct stat facts;
    char *text = NULL;
    size_t bytes = 0;
    didi_error failed = {0};
    if (stat(path, &facts) == 0 && (facts.st_mode & S_IRWXO) != 0) {
        advice_give(advice, "chmod 600 %s", path);
        return didi_fail(error, CLIENT_USAGE, path, "holds a token, and others can use the file");
    }
    if (file_read_text(AT_FDCWD, path, 2 * SETTINGS_TOKEN_BYTES_MAX, &text, &bytes, &failed) !=
        DIDI_OK) {
        advice_give(advice, "write the token into it, and chmod 600 %s; or didictl login URL",
                    path);
        return didi_fail(error, CLIENT_USAGE, path, "%s", failed.message);
    }
    int status = settings_set_token(self, text_trim(text), path, error);
    free(text);
    return status;
}

int settings_check_token(const client_settings *self, didi_error *error)
{
    static const char *const near[] = {"localhost", "127.0.0.1", "[::1]"};
    if (self->token == NULL || strncmp(self->host, "http://", 7) != 0)
        return CLIENT_OK;
    const char *name = self->host + 7;
    size_t bytes = name[0] == '[' ? strcspn(name, "]") + 1 : strcspn(name, ":/");
    for (size_t i = 0; i < sizeof near / sizeof near[0]; i++)
        if (strlen(near[i]) == bytes && strncmp(near[i], name, bytes) == 0)
            return CLIENT_OK;
    return didi_fail(error, CLIENT_USAGE, self->host,
                     "a token is not sent over http to another machine; use https");
}

/* Everything that may come from all three places. */
static const struct {
    const char *key, *variable, *flag;
    int id;
    int (*set)(client_settings *, const char *value, const char *origin, didi_error *);
} setting_rows[] = {
    {"host", "DIDI_HOST", "--host", SETTINGS_ID_HOST, settings_set_host},
    {"output", "DIDI_OUTPUT", "--output", SETTINGS_ID_OUTPUT, set_output},
    {"ca_file", "DIDI_CA_FILE", "--ca-file", SETTINGS_ID_CA_FILE, set_ca_file},
    {"timeout", "DIDI_TIMEOUT", "--timeout", SETTINGS_ID_TIMEOUT, set_timeout},
};
enum { SETTING_ROW_COUNT = sizeof setting_rows / sizeof setting_rows[0] };

/* Where in the file a line is, and what the file says of the server that is meant. */
typedef struct file_place {
    char section[CONTEXT_NAME_BYTES_MAX + 1]; /* "" above the first */
    bool context_given;                       /* by flag or environment: before the file's */
    bool found, has_token;
    nearest near; /* contexts that may have been meant */
    client_advice *advice;
} file_place;

static int apply_heading(const client_settings *self, const char *name, file_place *place,
                         const char *origin, didi_error *error)
{
    if (!context_name_is_valid(name))
        return didi_fail(error, CLIENT_USAGE, origin, "not the name of a context");
    (void)snprintf(place->section, sizeof place->section, "%s", name);
    place->found = place->found || (self->context != NULL && strcmp(name, self->context) == 0);
    place->near.wanted = self->context != NULL ? self->context : "";
    nearest_try(&place->near, name);
    return CLIENT_OK;
}

static int apply_line(client_settings *self, char *line, file_place *place, const char *origin,
                      didi_error *error)
{
    char *key = text_trim(line);
    if (*key == '\0' || *key == '#')
        return CLIENT_OK;
    char *equals = strchr(key, '=');
    char *heading = equals == NULL ? context_heading(key) : NULL;
    if (heading != NULL)
        return apply_heading(self, heading, place, origin, error);
    if (equals == NULL)
        return didi_fail(error, CLIENT_USAGE, origin, "expected 'key = value'");
    *equals = '\0';
    key = text_trim(key);
    char *value = text_trim(equals + 1);
    bool inside = place->section[0] != '\0';
    place->has_token = place->has_token || (inside && strcmp(key, "token") == 0);
    if (inside && (self->context == NULL || strcmp(place->section, self->context) != 0))
        return CLIENT_OK;
    if (inside && strcmp(key, "token") == 0)
        return settings_set_token(self, value, origin, error);
    if (!inside && strcmp(key, "context") == 0)
        return place->context_given ? CLIENT_OK : set_text(&self->context, value, error);
    for (size_t i = 0; i < SETTING_ROW_COUNT; i++)
        if (strcmp(key, setting_rows[i].key) == 0)
            return setting_rows[i].set(self, value, origin, error);
    return didi_fail(error, CLIENT_USAGE, origin,
                     "unknown key '%s' (host, output, timeout, ca_file, context)", key);
}

static int load_file(client_settings *self, const char *path, bool required, file_place *place,
                     didi_error *error)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        if (!required && (errno == ENOENT || errno == ENOTDIR || errno == EACCES))
            return CLIENT_OK;
        return didi_fail(error, CLIENT_USAGE, path, "%s", strerror(errno));
    }
    char line[SETTINGS_HOST_BYTES_MAX + 64];
    int status = CLIENT_OK;
    for (int number = 1; status == CLIENT_OK && fgets(line, sizeof line, file) != NULL; number++) {
        char *origin = memory_format("%s:%d", path, number);
        if (number > SETTINGS_FILE_LINES_MAX ||
            (strchr(line, '\n') == NULL && strlen(line) == sizeof line - 1))
            status = didi_fail(error, CLIENT_USAGE, origin, "too long");
        else
            status = apply_line(self, line, place, origin, error);
        free(origin);
    }
    if (status == CLIENT_OK && ferror(file))
        status = didi_fail(error, CLIENT_USAGE, path, "cannot be read");
    struct stat facts;
    if (status == CLIENT_OK && place->has_token && fstat(fileno(file), &facts) == 0 &&
        (facts.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        advice_give(place->advice, "chmod 600 %s", path);
        status = didi_fail(error, CLIENT_USAGE, path, "holds a token, and others can use the file");
    }
    fclose(file);
    return status;
}

static int find_path(client_settings *self, didi_error *error)
{
    const char *path = getenv("DIDI_CONFIG");
    const char *directory = getenv("XDG_CONFIG_HOME");
    const char *home = getenv("HOME");
    if (path != NULL && *path != '\0')
        self->path = memory_string(path);
    else if (directory != NULL && directory[0] == '/')
        self->path = memory_format("%s/didi/config", directory);
    else if (home != NULL && home[0] == '/')
        self->path = memory_format("%s/.config/didi/config", home);
    else
        return CLIENT_OK;
    return self->path != NULL ? CLIENT_OK : client_fail_memory(error);
}

static int load_files(client_settings *self, bool context_given, client_advice *advice,
                      didi_error *error)
{
    const char *path = getenv("DIDI_CONFIG");
    char meant[NEAREST_TEXT_BYTES];
    file_place place = {
        .context_given = context_given, .near = nearest_begin(""), .advice = advice};
    int status = find_path(self, error);
    if (status == CLIENT_OK && self->path != NULL)
        status = load_file(self, self->path, path != NULL && *path != '\0', &place, error);
    if (status == CLIENT_OK && self->context != NULL && !place.found) {
        place.near.wanted = self->context;
        advice_give(advice,
                    "%sdidictl context ls shows those there are, didictl login URL --name %s makes "
                    "one",
                    getenv("DIDI_CONTEXT") != NULL ? "DIDI_CONTEXT= " : "", self->context);
        status = didi_fail(error, CLIENT_USAGE, self->context, "there is no context of this name%s",
                           nearest_text(&place.near, "", "", meant));
    }
    return status;
}

/* The context's token goes to the context's host alone. */
static int load_token(client_settings *self, const client_arguments *arguments,
                      const char *context_host, client_advice *advice, didi_error *error)
{
    const char *file = arguments_value(arguments, SETTINGS_ID_TOKEN_FILE);
    const char *variable = getenv("DIDI_TOKEN_FILE");
    const char *token = getenv("DIDI_TOKEN");
    int status = CLIENT_OK;
    if (strcmp(self->host, context_host) != 0) {
        free(self->token);
        self->token = NULL;
    }
    bool chosen = arguments_has(arguments, SETTINGS_ID_CONTEXT) && self->token != NULL;
    if (file != NULL)
        status = read_token_file(self, file, advice, error);
    else if (!chosen && variable != NULL && *variable != '\0')
        status = read_token_file(self, variable, advice, error);
    else if (!chosen && token != NULL && *token != '\0')
        status = settings_set_token(self, token, "DIDI_TOKEN", error);
    if (status != CLIENT_OK)
        return status;
    status = settings_check_token(self, error);
    if (status != CLIENT_OK)
        advice_give(advice, "the server's address with https://, or a tunnel: "
                            "ssh -L 7878:127.0.0.1:7878 HOST");
    return status;
}

static int load_flags(client_settings *self, const client_arguments *arguments, didi_error *error)
{
    int status = CLIENT_OK;
    for (size_t i = 0; status == CLIENT_OK && i < SETTING_ROW_COUNT; i++) {
        const char *value = getenv(setting_rows[i].variable);
        bool chosen =
            setting_rows[i].id == SETTINGS_ID_HOST && arguments_has(arguments, SETTINGS_ID_CONTEXT);
        if (!chosen && value != NULL && *value != '\0')
            status = setting_rows[i].set(self, value, setting_rows[i].variable, error);
    }
    for (size_t i = 0; status == CLIENT_OK && i < SETTING_ROW_COUNT; i++) {
        const char *value = arguments_value(arguments, setting_rows[i].id);
        if (value != NULL)
            status = setting_rows[i].set(self, value, setting_rows[i].flag, error);
    }
    return status;
}

int settings_load(const client_arguments *arguments, client_settings *ret_settings,
                  client_advice *advice, didi_error *error)
{
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    client_settings self = {.format = OUTPUT_TABLE,
                            .quiet = arguments_has(arguments, SETTINGS_ID_QUIET),
                            .smart = term == NULL || strcmp(term, "dumb") != 0,
                            .timeout_seconds = SETTINGS_TIMEOUT_SECONDS_DEFAULT};
    self.color = !arguments_has(arguments, SETTINGS_ID_NO_COLOR) &&
                 (no_color == NULL || *no_color == '\0') && self.smart;
    const char *context = arguments_value(arguments, SETTINGS_ID_CONTEXT);
    char *context_host = NULL;
    if (context == NULL)
        context = getenv("DIDI_CONTEXT");
    bool given = context != NULL && *context != '\0';
    int status = settings_set_host(&self, SETTINGS_HOST_DEFAULT, NULL, error);
    if (status == CLIENT_OK && given)
        status = set_text(&self.context, context, error);
    if (status == CLIENT_OK)
        status = load_files(&self, given, advice, error);
    if (status == CLIENT_OK)
        status = set_text(&context_host, self.host, error);
    if (status == CLIENT_OK)
        status = load_flags(&self, arguments, error);
    if (status == CLIENT_OK)
        status = load_token(&self, arguments, context_host, advice, error);
    free(context_host);
    if (status != CLIENT_OK)
        settings_clear(&self);
    else
        *ret_settings = self;
    return status;
}

void settings_clear(client_settings *settings)
{
    if (settings->token != NULL)
        explicit_bzero(settings->token, strlen(settings->token));
    free(settings->host);
    free(settings->path);
    free(settings->context);
    free(settings->token);
    free(settings->ca_file);
    settings->host = settings->path = settings->context = settings->token = settings->ca_file =
        NULL;
}
