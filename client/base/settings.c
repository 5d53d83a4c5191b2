/* SPDX-License-Identifier: Apache-2.0 */
/* Flags, environment and configuration file, in this order of precedence. */
#include "client/base/settings.h"

#include "client/base/exit_code.h"
#include "src/base/base.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SETTINGS_HOST_BYTES_MAX = 1024, SETTINGS_FILE_LINES_MAX = 1000 };
#define SETTINGS_HOST_DEFAULT "http://127.0.0.1:7878"

static const option_row global_rows[] = {
    {SETTINGS_ID_HOST, 'H', "host", "URL", "server: http://HOST:PORT, https://..., unix:/PATH"},
    {SETTINGS_ID_OUTPUT, 'o', "output", "FORMAT", "table, json, jsonl or name"},
    {SETTINGS_ID_QUIET, 'q', "quiet", NULL, "no progress and no notes on stderr"},
    {SETTINGS_ID_NO_COLOR, 0, "no-color", NULL, "plain text (also by NO_COLOR or TERM=dumb)"},
    {SETTINGS_ID_TIMEOUT, 0, "timeout", "SECONDS", "give up on a silent server (30)"},
    {SETTINGS_ID_HELP, 'h', "help", NULL, "show help and exit"},
    {SETTINGS_ID_VERSION, 0, "version", NULL, "show the client's version and exit"},
};

option_table settings_options(void)
{
    return (option_table){.rows = global_rows, .count = sizeof global_rows / sizeof global_rows[0]};
}

static int set_host(client_settings *self, const char *value, const char *origin, didi_error *error)
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

/* Everything that may come from all three places. */
static const struct {
    const char *key, *variable, *flag;
    int id;
    int (*set)(client_settings *, const char *value, const char *origin, didi_error *);
} setting_rows[] = {
    {"host", "DIDI_HOST", "--host", SETTINGS_ID_HOST, set_host},
    {"output", "DIDI_OUTPUT", "--output", SETTINGS_ID_OUTPUT, set_output},
    {"timeout", "DIDI_TIMEOUT", "--timeout", SETTINGS_ID_TIMEOUT, set_timeout},
};
enum { SETTING_ROW_COUNT = sizeof setting_rows / sizeof setting_rows[0] };

static int apply_line(client_settings *self, char *line, const char *origin, didi_error *error)
{
    char *key = text_trim(line);
    if (*key == '\0' || *key == '#')
        return CLIENT_OK;
    char *equals = strchr(key, '=');
    if (equals == NULL)
        return didi_fail(error, CLIENT_USAGE, origin, "expected 'key = value'");
    *equals = '\0';
    key = text_trim(key);
    for (size_t i = 0; i < SETTING_ROW_COUNT; i++)
        if (strcmp(key, setting_rows[i].key) == 0)
            return setting_rows[i].set(self, text_trim(equals + 1), origin, error);
    return didi_fail(error, CLIENT_USAGE, origin, "unknown key '%s' (host, output, timeout)", key);
}

static int load_file(client_settings *self, const char *path, bool required, didi_error *error)
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
            status = apply_line(self, line, origin, error);
        free(origin);
    }
    if (status == CLIENT_OK && ferror(file))
        status = didi_fail(error, CLIENT_USAGE, path, "cannot be read");
    fclose(file);
    return status;
}

static int load_files(client_settings *self, didi_error *error)
{
    const char *path = getenv("DIDI_CONFIG");
    if (path != NULL && *path != '\0')
        return load_file(self, path, true, error);
    const char *directory = getenv("XDG_CONFIG_HOME");
    const char *home = getenv("HOME");
    char *file = NULL;
    if (directory != NULL && directory[0] == '/')
        file = memory_format("%s/didi/config", directory);
    else if (home != NULL && home[0] == '/')
        file = memory_format("%s/.config/didi/config", home);
    else
        return CLIENT_OK;
    if (file == NULL)
        return client_fail_memory(error);
    int status = load_file(self, file, false, error);
    free(file);
    return status;
}

static int load_flags(client_settings *self, const client_arguments *arguments, didi_error *error)
{
    int status = CLIENT_OK;
    for (size_t i = 0; status == CLIENT_OK && i < SETTING_ROW_COUNT; i++) {
        const char *value = getenv(setting_rows[i].variable);
        if (value != NULL && *value != '\0')
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
                  didi_error *error)
{
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    client_settings self = {.format = OUTPUT_TABLE,
                            .quiet = arguments_has(arguments, SETTINGS_ID_QUIET),
                            .smart = term == NULL || strcmp(term, "dumb") != 0,
                            .timeout_seconds = SETTINGS_TIMEOUT_SECONDS_DEFAULT};
    self.color = !arguments_has(arguments, SETTINGS_ID_NO_COLOR) &&
                 (no_color == NULL || *no_color == '\0') && self.smart;
    int status = set_host(&self, SETTINGS_HOST_DEFAULT, NULL, error);
    if (status == CLIENT_OK)
        status = load_files(&self, error);
    if (status == CLIENT_OK)
        status = load_flags(&self, arguments, error);
    if (status != CLIENT_OK)
        settings_clear(&self);
    else
        *ret_settings = self;
    return status;
}

void settings_clear(client_settings *settings)
{
    free(settings->host);
    settings->host = NULL;
}
