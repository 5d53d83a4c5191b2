/* SPDX-License-Identifier: Apache-2.0 */
/* Reading of a request to upload a model. */
#include "proto/upload_request.h"

#include "proto/document.h"
#include "proto/limits.h"
#include "proto/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool ends_with(const char *name, const char *ending)
{
    size_t bytes = strlen(name);
    size_t wanted = strlen(ending);
    return bytes > wanted && strcmp(name + bytes - wanted, ending) == 0;
}

bool upload_name_is_file(const char *name)
{
    static const char *const endings[] = {".safetensors", ".json",  ".txt",
                                          ".model",       ".jinja", ".tiktoken"};
    size_t bytes = name_component(name);
    if (bytes == 0 || name[bytes] != '\0' || bytes > LIMIT_UPLOAD_FILE_NAME_BYTES ||
        ends_with(name, ".part"))
        return false;
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++)
        if (ends_with(name, endings[i]))
            return true;
    return strncmp(name, "tokenizer", 9) == 0 || strcmp(name, "README.md") == 0;
}

static bool is_digest(const char *text)
{
    return text != NULL && strspn(text, "0123456789abcdef") == 64 && text[64] == '\0';
}

static int fail_at(size_t index, const char *member, const char *expected, didi_error *error)
{
    char pointer[64];
    (void)snprintf(pointer, sizeof pointer, "/files/%zu%s", index, member);
    return didi_fail(error, DIDI_INVALID, pointer, "%s", expected);
}

static int read_file(json_t *value, size_t index, upload_file *ret_file, didi_error *error)
{
    const char *key;
    json_t *member;
    if (!json_is_object(value))
        return fail_at(index, "", "must be an object", error);
    json_object_foreach(value, key, member)
    {
        if (strcmp(key, "name") != 0 && strcmp(key, "bytes") != 0 && strcmp(key, "sha256") != 0)
            return fail_at(index, "", "has a member besides name, bytes and sha256", error);
    }
    const char *name = json_string_value(json_object_get(value, "name"));
    const char *digest = json_string_value(json_object_get(value, "sha256"));
    const json_t *bytes = json_object_get(value, "bytes");
    if (name == NULL || !upload_name_is_file(name))
        return fail_at(index, "/name",
                       "must be the plain name of a file that models have: *.safetensors, *.json, "
                       "*.txt, *.model, *.jinja, *.tiktoken, tokenizer* or README.md",
                       error);
    if (!json_is_integer(bytes) || json_integer_value(bytes) < 0 ||
        json_integer_value(bytes) > LIMIT_SAFE_INTEGER)
        return fail_at(index, "/bytes", "must be a whole number from 0 to 9007199254740991", error);
    if (!is_digest(digest))
        return fail_at(index, "/sha256", "must be 64 lower-case hex digits", error);
    *ret_file = (upload_file){name, (uint64_t)json_integer_value(bytes), digest};
    return DIDI_OK;
}

int upload_files_read(json_t *files, upload_request *request, didi_error *error)
{
    size_t count = json_array_size(files);
    if (!json_is_array(files) || count == 0 || count > LIMIT_UPLOAD_FILES)
        return didi_fail(error, DIDI_INVALID, "/files", "must be a list of 1 to %d files",
                         LIMIT_UPLOAD_FILES);
    request->files = memory_zeroed(count, sizeof *request->files);
    if (request->files == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    for (size_t i = 0; i < count; i++) {
        upload_file file;
        int status = read_file(json_array_get(files, i), i, &file, error);
        if (status != DIDI_OK)
            return status;
        if (upload_request_find(request, file.name) != NULL)
            return fail_at(i, "/name", "is given twice", error);
        if (request->bytes > (uint64_t)LIMIT_SAFE_INTEGER - file.bytes)
            return fail_at(i, "/bytes", "all files together are over 9007199254740991", error);
        request->bytes += file.bytes;
        request->files[request->count++] = file;
    }
    return DIDI_OK;
}

/* Below a name of a hub's cache nothing would be found under the name asked for. */
static bool is_model_name(const char *name)
{
    return name != NULL && name_is_model(name) && strchr(name, '@') == NULL &&
           strstr(name, "models--") == NULL;
}

static int read_request(upload_request *request, didi_error *error)
{
    const char *key;
    json_t *member;
    if (!json_is_object(request->document))
        return didi_fail(error, DIDI_INVALID, "", "must be an object");
    json_object_foreach(request->document, key, member)
    {
        if (strcmp(key, "name") != 0 && strcmp(key, "files") != 0)
            return didi_fail(error, DIDI_INVALID, "", "has a member besides name and files");
    }
    request->name = json_string_value(json_object_get(request->document, "name"));
    if (!is_model_name(request->name))
        return didi_fail(error, DIDI_INVALID, "/name",
                         "must be a model's name without a revision and without \"models--\"");
    return upload_files_read(json_object_get(request->document, "files"), request, error);
}

int upload_request_parse(const char *text, size_t bytes, size_t bytes_max,
                         upload_request *ret_request, didi_error *error)
{
    upload_request request = {0};
    int status = document_parse(text, bytes, bytes_max, &request.document, error);
    if (status == DIDI_OK)
        status = read_request(&request, error);
    if (status == DIDI_OK)
        *ret_request = request;
    else
        upload_request_clear(&request);
    return status;
}

void upload_request_clear(upload_request *request)
{
    free(request->files);
    json_decref(request->document);
    memset(request, 0, sizeof *request);
}

const upload_file *upload_request_find(const upload_request *request, const char *name)
{
    for (size_t i = 0; i < request->count; i++)
        if (strcmp(request->files[i].name, name) == 0)
            return &request->files[i];
    return NULL;
}
