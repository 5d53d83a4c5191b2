/* SPDX-License-Identifier: Apache-2.0 */
/* Settings: the table, its parser, its help. */
#include "daemon/base/config.h"

#include "proto/proto.h"
#include "src/base/base.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef enum config_type {
    CONFIG_PATH,
    CONFIG_PATHS,
    CONFIG_TEXT,
    CONFIG_INTEGER,
    CONFIG_CHOICE,
    CONFIG_LIVE = 16, /* beside one of the above */
    CONFIG_INTEGER_LIVE = CONFIG_INTEGER | CONFIG_LIVE,
    CONFIG_CHOICE_LIVE = CONFIG_CHOICE | CONFIG_LIVE,
} config_type;

typedef struct config_entry {
    const char *key;
    config_type declared;
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

static config_type entry_type(const config_entry *entry)
{
    return (config_type)((unsigned)entry->declared & ~(unsigned)CONFIG_LIVE);
}

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

static int fail_unknown(const char *key, didi_error *error)
{
    char meant[NEAREST_TEXT_BYTES];
    nearest near = nearest_begin(key);
    for (size_t i = 0; i < CONFIG_ENTRY_COUNT; i++)
        nearest_try(&near, config_entries[i].key);
    return didi_fail(error, DIDI_INVALID, key, "unknown setting '%s'%s", key,
                     nearest_text(&near, "'", "'", meant));
}

int config_set(config *self, const char *key, const char *value, didi_error *error)
{
    const config_entry *entry = config_find(key);
    if (entry == NULL)
        return fail_unknown(key, error);
    if (value[0] == '\0')
        return didi_fail(error, DIDI_INVALID, key, "%s needs a value", key);
    switch ((int)entry_type(entry)) {
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
    for (size_t i = 0; i < CONFIG_ENTRY_COUNT; i++) {
        const config_type type = entry_type(&config_entries[i]);
        if (type == CONFIG_TEXT || type == CONFIG_PATH)
            free(*(char **)config_field(self, &config_entries[i]));
    }
    for (size_t i = 0; i < CONFIG_MODEL_ROOTS_MAX; i++)
        free(self->models[i]);
    memset(self, 0, sizeof *self);
}

static int config_read_line(config *self, char *line, bool seen[CONFIG_ENTRY_COUNT],
                            didi_error *error)
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
    if (entry != NULL && entry_type(entry) != CONFIG_PATHS) {
        if (seen[entry - config_entries])
            return didi_fail(error, DIDI_INVALID, key, "'%s' is set twice", key);
        seen[entry - config_entries] = true;
    }
    return config_set(self, key, text_trim(equals + 1), error);
}

int config_read_file(config *self, const char *path, didi_error *error)
{
    char *text = NULL;
    size_t bytes = 0;
    bool seen[CONFIG_ENTRY_COUNT] = {false};
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
        status = config_read_line(self, line, seen, error);
        if (status != DIDI_OK)
            didi_error_wrap(error, "%s line %u", path, number);
        line = next;
    }
    free(text);
    return status;
}

/* Where a model appears by being renamed, it must be found. */
static int check_upload_dir(const config *self, didi_error *error)
{
    for (size_t i = 0; i < self->model_count && self->upload_dir != NULL; i++)
        if (strcmp(self->models[i], self->upload_dir) == 0)
            return DIDI_OK;
    return self->upload_dir == NULL
               ? DIDI_OK
               : didi_fail(error, DIDI_INVALID, "upload_dir",
                           "--upload-dir must be one of the directories of --models");
}

/* What is fetched is found as other models are. */
static int add_fetch_root(config *self, didi_error *error)
{
    for (size_t i = 0; i < self->model_count && self->fetch_dir != NULL; i++)
        if (strcmp(self->models[i], self->fetch_dir) == 0)
            return DIDI_OK;
    return self->fetch_dir != NULL ? config_set(self, "models", self->fetch_dir, error) : DIDI_OK;
}

static int check_scope(const config *self, didi_error *error)
{
    static const char *const words[] = {TOKEN_SCOPE_TABLE(TEXT_WORD)};
    if (self->socket_scope == NULL ||
        text_find(words, TOKEN_SCOPE_COUNT, self->socket_scope) != TOKEN_SCOPE_COUNT)
        return DIDI_OK;
    return didi_fail(error, DIDI_INVALID, "socket_scope", "'%s' is not read, submit or admin",
                     self->socket_scope);
}

static int check_absolute(const char *key, const char *path, didi_error *error)
{
    return path == NULL || path[0] == '/'
               ? DIDI_OK
               : didi_fail(error, DIDI_INVALID, key, "'%s' is no absolute path", path);
}

/* What each executor needs. Programs are looked for when it is made. */
static int check_cluster(const config *self, didi_error *error)
{
    static const char *const executors[] = {"local", "slurm", "mpi", "command"};
    if (text_find(executors, 4, self->executor) == 4)
        return didi_fail(error, DIDI_INVALID, "executor",
                         "'%s' is not local, slurm, mpi or command", self->executor);
    if (strcmp(self->mpi_allocation, "none") != 0 && strcmp(self->mpi_allocation, "slurm") != 0)
        return didi_fail(error, DIDI_INVALID, "mpi_allocation", "'%s' is neither none nor slurm",
                         self->mpi_allocation);
    if (check_absolute("worker_path", self->worker_path, error) != DIDI_OK ||
        check_absolute("mpi_program", self->mpi_program, error) != DIDI_OK)
        return DIDI_INVALID;
    if (strcmp(self->executor, "mpi") == 0 && self->mpi_ranks == 0)
        return didi_fail(error, DIDI_INVALID, "mpi_ranks", "--executor mpi needs --mpi-ranks");
    if (strcmp(self->executor, "command") == 0 &&
        (self->command_submit == NULL || self->command_status == NULL ||
         self->command_cancel == NULL))
        return didi_fail(error, DIDI_INVALID, "command_submit",
                         "--executor command needs --command-submit, --command-status and "
                         "--command-cancel");
    return DIDI_OK;
}

int config_finish(config *self, didi_error *error)
{
    if (check_scope(self, error) != DIDI_OK || check_cluster(self, error) != DIDI_OK)
        return DIDI_INVALID;
    if (self->state_dir == NULL)
        return didi_fail(error, DIDI_INVALID, "state_dir", "--state-dir is required");
    if (self->model_count == 0)
        return didi_fail(error, DIDI_INVALID, "models", "at least one --models is required");
    if (self->fetch_dir == NULL && (self->hub_endpoint != NULL || self->fetch_hosts != NULL))
        return didi_fail(error, DIDI_INVALID, "fetch_dir",
                         "--hub-endpoint and --fetch-hosts need --fetch-dir");
    if ((self->tls_certificate == NULL) != (self->tls_key == NULL))
        return didi_fail(error, DIDI_INVALID, "tls_certificate",
                         "--tls-certificate and --tls-key need each other");
    config_resolve(self);
    int status = add_fetch_root(self, error);
    return status == DIDI_OK ? check_upload_dir(self, error) : status;
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
    if (entry_type(entry) == CONFIG_PATHS) {
        for (size_t i = 0; i < self->model_count; i++)
            fprintf(stream, "models = %s\n", self->models[i]);
    } else if (entry_type(entry) == CONFIG_INTEGER) {
        fprintf(stream, "%s = %" PRIu64 "\n", entry->key, *(const uint64_t *)field);
    } else if (entry_type(entry) == CONFIG_CHOICE) {
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
        bool live = (config_entries[i].declared & CONFIG_LIVE) != 0;
        fprintf(stream, "# %s%s\n", config_entries[i].help, live ? " (taken anew on SIGHUP)" : "");
        print_entry(self, &config_entries[i], stream);
    }
}

static bool texts_differ(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a != b : strcmp(a, b) != 0;
}

static bool entry_differs(const config *self, const config *fresh, const config_entry *entry)
{
    const void *own = (const char *)self + entry->offset;
    const void *other = (const char *)fresh + entry->offset;
    bool differs = false;
    switch ((int)entry_type(entry)) {
    case CONFIG_INTEGER:
        return *(const _Atomic uint64_t *)own != *(const _Atomic uint64_t *)other;
    case CONFIG_CHOICE:
        return strcmp(entry->key, "log_format") == 0 ? self->log_format != fresh->log_format
                                                     : self->log_level != fresh->log_level;
    case CONFIG_PATHS:
        for (size_t i = 0; i < CONFIG_MODEL_ROOTS_MAX; i++)
            differs = differs || texts_differ(i < self->model_count ? self->models[i] : NULL,
                                              i < fresh->model_count ? fresh->models[i] : NULL);
        return differs;
    default:
        return texts_differ(*(char *const *)own, *(char *const *)other);
    }
}

void config_reload(config *self, const config *fresh,
                   void (*changed)(void *context, const char *key, bool taken), void *context)
{
    for (size_t i = 0; i < CONFIG_ENTRY_COUNT; i++) {
        const config_entry *entry = &config_entries[i];
        bool live = (entry->declared & CONFIG_LIVE) != 0;
        if (!entry_differs(self, fresh, entry))
            continue;
        if (live && entry_type(entry) == CONFIG_INTEGER) {
            const void *read = (const char *)fresh + entry->offset;
            *(_Atomic uint64_t *)config_field(self, entry) = *(const _Atomic uint64_t *)read;
        }
        changed(context, entry->key, live);
    }
    self->log_format = fresh->log_format; /* read by the log alone */
    self->log_level = fresh->log_level;
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
