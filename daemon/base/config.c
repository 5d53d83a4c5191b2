/* SPDX-License-Identifier: Apache-2.0 */
/* Settings: the table, its parser, its help. */
#include "daemon/base/config.h"

#include "src/base/base.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef enum config_type {
    CONFIG_PATH,
    CONFIG_PATHS,
    CONFIG_TEXT,
    CONFIG_INTEGER,
    CONFIG_CHOICE,
} config_type;

typedef struct config_entry {
    const char *key;
    config_type type;
    const char *unit, *initial;
    int64_t lowest, highest;
    const char *help;
    size_t offset; /* of the field */
} config_entry;

#define CONFIG_ENTRY(key, type, unit, initial, lowest, highest, help)                              \
    {#key, CONFIG_##type, unit, initial, lowest, highest, help, offsetof(config, key)},
static const config_entry config_entries[] = {CONFIG_TABLE(CONFIG_ENTRY)};
enum { CONFIG_ENTRY_COUNT = sizeof config_entries / sizeof config_entries[0] };

static const char *const level_names[] = {LOG_LEVEL_TABLE(TEXT_WORD)};
enum { LEVEL_COUNT = sizeof level_names / sizeof level_names[0] };

static const config_entry *config_find(const char *key)
{
    for (size_t i = 0; i < CONFIG_ENTRY_COUNT; i++)
        if (strcmp(config_entries[i].key, key) == 0)
            return &config_entries[i];
    return NULL;
}

static void *config_field(config *self, const config_entry *entry)
{
    return (char *)self + entry->offset;
}

static int set_text(char **field, const char *value, didi_error *error)
{
    char *copy = memory_string(value);
    if (copy == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    free(*field);
    *field = copy;
    return DIDI_OK;
}

static int set_integer(config *self, const config_entry *entry, const char *value,
                       didi_error *error)
{
    static const char suffixes[] = "KMGT"; /* powers of 1024, for bytes */
    char *end = NULL;
    errno = 0;
    long long number = strtoll(value, &end, 10);
    const char *suffix = strchr(suffixes, *end);
    if (*end != '\0' && suffix != NULL && strcmp(entry->unit, "bytes") == 0) {
        int shift = 10 * (int)(1 + (suffix - suffixes));
        if (number > INT64_MAX >> shift)
            errno = ERANGE;
        else
            number <<= shift;
        end++;
    }
    if (!isdigit((unsigned char)value[0]) || *end != '\0')
        return didi_fail(error, DIDI_INVALID, entry->key, "'%s' is not a whole number", value);
    if (errno == ERANGE || number < entry->lowest || number > entry->highest)
        return didi_fail(error, DIDI_INVALID, entry->key,
                         "%s is outside %" PRId64 " .. %" PRId64 " %s", value, entry->lowest,
                         entry->highest, entry->unit);
    *(uint64_t *)config_field(self, entry) = (uint64_t)number;
    return DIDI_OK;
}

static int set_choice(config *self, const char *key, const char *value, didi_error *error)
{
    if (strcmp(key, "log_format") == 0) {
        if (strcmp(value, "logfmt") != 0 && strcmp(value, "json") != 0)
            return didi_fail(error, DIDI_INVALID, key, "'%s' is neither logfmt nor json", value);
        self->log_format = value[0] == 'j' ? LOG_FORMAT_JSON : LOG_FORMAT_LOGFMT;
        return DIDI_OK;
    }
    size_t level = text_find(level_names, LEVEL_COUNT, value);
    if (level == LEVEL_COUNT)
        return didi_fail(error, DIDI_INVALID, key, "'%s' is not error, warning, info or debug",
                         value);
    self->log_level = (log_level)level;
    return DIDI_OK;
}

int config_set(config *self, const char *key, const char *value, didi_error *error)
{
    const config_entry *entry = config_find(key);
    if (entry == NULL)
        return didi_fail(error, DIDI_INVALID, key, "unknown setting '%s'", key);
    if (value[0] == '\0')
        return didi_fail(error, DIDI_INVALID, key, "%s needs a value", key);
    switch (entry->type) {
    case CONFIG_INTEGER:
        return set_integer(self, entry, value, error);
    case CONFIG_CHOICE:
        return set_choice(self, key, value, error);
    case CONFIG_PATHS:
        if (self->model_count == CONFIG_MODEL_ROOTS_MAX)
            return didi_fail(error, DIDI_INVALID, key, "more than %d directories",
                             CONFIG_MODEL_ROOTS_MAX);
        if (set_text(&self->models[self->model_count], value, error) != DIDI_OK)
            return DIDI_NO_MEMORY;
        self->model_count++;
        return DIDI_OK;
    case CONFIG_TEXT:
        if (strlen(value) >= CONFIG_LISTEN_BYTES_MAX)
            return didi_fail(error, DIDI_INVALID, key, "longer than %d bytes",
                             CONFIG_LISTEN_BYTES_MAX - 1);
        return set_text(config_field(self, entry), value, error);
    case CONFIG_PATH:
        return set_text(config_field(self, entry), value, error);
    }
    return didi_fail(error, DIDI_INTERNAL, key, "setting of no type");
}

int config_init(config *self, didi_error *error)
{
    memset(self, 0, sizeof *self);
    for (size_t i = 0; i < CONFIG_ENTRY_COUNT; i++)
        if (config_entries[i].initial[0] != '\0') {
            const int status =
                config_set(self, config_entries[i].key, config_entries[i].initial, error);
            if (status != DIDI_OK)
                return status;
        }
    return DIDI_OK;
}

void config_clear(config *self)
{
    free(self->state_dir);
    free(self->listen);
    free(self->fetch_dir);
    free(self->hub_endpoint);
    free(self->hub_token_file);
    free(self->fetch_hosts);
    for (size_t i = 0; i < CONFIG_MODEL_ROOTS_MAX; i++)
        free(self->models[i]);
    memset(self, 0, sizeof *self);
}

static int config_read_line(config *self, char *line, uint64_t *seen, didi_error *error)
{
    char *text = text_trim(line);
    if (text[0] == '\0' || text[0] == '#')
        return DIDI_OK;
    char *equals = strchr(text, '=');
    if (equals == NULL)
        return didi_fail(error, DIDI_INVALID, NULL, "expected 'key = value'");
    *equals = '\0';
    char *key = text_trim(text);
    const config_entry *entry = config_find(key);
    if (entry != NULL && entry->type != CONFIG_PATHS) {
        uint64_t bit = UINT64_C(1) << (entry - config_entries);
        if ((*seen & bit) != 0)
            return didi_fail(error, DIDI_INVALID, key, "'%s' is set twice", key);
        *seen |= bit;
    }
    return config_set(self, key, text_trim(equals + 1), error);
}

int config_read_file(config *self, const char *path, didi_error *error)
{
    char *text = NULL;
    size_t bytes = 0;
    uint64_t seen = 0;
    unsigned number = 0;
    int status = file_read_text(AT_FDCWD, path, CONFIG_FILE_BYTES_MAX, &text, &bytes, error);
    if (status != DIDI_OK)
        return status;
    if (strlen(text) != bytes)
        status = didi_fail(error, DIDI_INVALID, path, "holds a NUL byte");
    for (char *line = text; status == DIDI_OK && line != NULL;) {
        char *next = strchr(line, '\n');
        if (next != NULL)
            *next++ = '\0';
        number++;
        status = config_read_line(self, line, &seen, error);
        if (status != DIDI_OK)
            didi_error_wrap(error, "%s line %u", path, number);
        line = next;
    }
    free(text);
    return status;
}

/* What is fetched is found as other models are. */
static int add_fetch_root(config *self, didi_error *error)
{
    for (size_t i = 0; i < self->model_count && self->fetch_dir != NULL; i++)
        if (strcmp(self->models[i], self->fetch_dir) == 0)
            return DIDI_OK;
    return self->fetch_dir != NULL ? config_set(self, "models", self->fetch_dir, error) : DIDI_OK;
}

int config_finish(config *self, didi_error *error)
{
    if (self->state_dir == NULL)
        return didi_fail(error, DIDI_INVALID, "state_dir", "--state-dir is required");
    if (self->model_count == 0)
        return didi_fail(error, DIDI_INVALID, "models", "at least one --models is required");
    if (self->fetch_dir == NULL && (self->hub_endpoint != NULL || self->fetch_hosts != NULL))
        return didi_fail(error, DIDI_INVALID, "fetch_dir",
                         "--hub-endpoint and --fetch-hosts need --fetch-dir");
    config_resolve(self);
    return add_fetch_root(self, error);
}

void config_resolve(config *self)
{
    if (self->workers == 0) {
        cpu_set_t processors;
        CPU_ZERO(&processors);
        bool known = sched_getaffinity(0, sizeof processors, &processors) == 0;
        self->workers = known ? (size_t)CPU_COUNT(&processors) : 1;
    }
    if (self->memory_limit == 0) {
        const long pages = sysconf(_SC_PHYS_PAGES);
        const long page_bytes = sysconf(_SC_PAGESIZE);
        self->memory_limit =
            pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes / 2 : 1U << 30;
    }
    assert(self->workers > 0 && self->memory_limit > 0);
}

static void print_entry(const config *self, const config_entry *entry, FILE *stream)
{
    const void *field = (const char *)self + entry->offset;
    if (entry->type == CONFIG_PATHS) {
        for (size_t i = 0; i < self->model_count; i++)
            fprintf(stream, "models = %s\n", self->models[i]);
    } else if (entry->type == CONFIG_INTEGER) {
        fprintf(stream, "%s = %" PRIu64 "\n", entry->key, *(const uint64_t *)field);
    } else if (entry->type == CONFIG_CHOICE) {
        const char *format = self->log_format == LOG_FORMAT_JSON ? "json" : "logfmt";
        fprintf(stream, "%s = %s\n", entry->key,
                strcmp(entry->key, "log_format") == 0 ? format : level_names[self->log_level]);
    } else {
        const char *text = *(char *const *)field;
        fprintf(stream, text != NULL ? "%s = %s\n" : "#%s =%s\n", entry->key,
                text != NULL ? text : "");
    }
}

void config_print(const config *self, FILE *stream)
{
    for (size_t i = 0; i < CONFIG_ENTRY_COUNT; i++) {
        fprintf(stream, "# %s\n", config_entries[i].help);
        print_entry(self, &config_entries[i], stream);
    }
}

void config_print_help(FILE *stream)
{
    for (size_t i = 0; i < CONFIG_ENTRY_COUNT; i++) {
        const config_entry *entry = &config_entries[i];
        char option[64];
        snprintf(option, sizeof option, "--%s", entry->key);
        for (char *c = option; *c != '\0'; c++)
            if (*c == '_')
                *c = '-';
        fprintf(stream, "  %-24s %s", option, entry->help);
        if (entry->initial[0] != '\0')
            fprintf(stream, " [%s%s%s]", entry->initial, entry->unit[0] != '\0' ? " " : "",
                    entry->unit);
        fputc('\n', stream);
    }
}
