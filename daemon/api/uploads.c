/* SPDX-License-Identifier: Apache-2.0 */
/* Uploads of models: made, filled file by file, committed; and models that go again. */
#include "daemon/uploads/uploads.h"
#include "daemon/api/uploads.h"

#include "daemon/api/api_internal.h"
#include "proto/proto.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A subject that is a setting names a limit; one that is an id, what is in the way. */
static void reply_failure(http_request *request, const didi_error *error)
{
    bool limit = strncmp(error->subject, "upload_", 7) == 0;
    if (strcmp(error->subject, "Content-Range") == 0) {
        (void)http_refuse_parameter(request, "Content-Range", error->message);
        return;
    }
    http_reply_error(request,
                     limit && error->status == DIDI_CONFLICT ? PROBLEM_UPLOAD_LIMIT
                     : limit                                 ? PROBLEM_CONFLICT
                     : error->status == DIDI_NOT_FOUND       ? PROBLEM_UNKNOWN_UPLOAD
                     : error->status == DIDI_INVALID         ? PROBLEM_INVALID_REQUEST
                     : error->status == DIDI_CANCELLED       ? PROBLEM_UNAVAILABLE
                                                             : problem_from_status(error->status),
                     error);
}

/* Only who made an upload, and administrators, may do something to it. */
static bool is_allowed(const api *self, http_request *request, const store_upload *row)
{
    access_client client;
    access_client_of(self->access, http_client(request), &client);
    if (client.scope == TOKEN_SCOPE_ADMIN || strcmp(row->client, http_client(request)) == 0)
        return true;
    http_reply_problem(request, &(http_problem){.type = PROBLEM_FORBIDDEN,
                                                .detail = "another client made this upload"});
    return false;
}

static json_t *upload_json(const store_upload *row, json_t *files)
{
    return json_pack("{s:s, s:s, s:s, s:I, s:o, s:o, s:o}", "id", row->id, "name", row->name,
                     "state", upload_state_name(row->state), "bytes", (json_int_t)row->bytes,
                     "files", files, "created_at", clock_json(row->created_ms), "updated_at",
                     clock_json(row->updated_ms));
}

/* How far a file is; one of a committed upload is whole. */
static int file_json(const api *self, const store_upload *row, const upload_file *file,
                     json_t **ret_value, upload_reached *ret_reached, didi_error *error)
{
    upload_reached reached = {file->bytes, true};
    int status = row->state == UPLOAD_COMMITTED
                     ? DIDI_OK
                     : uploads_reached(self->uploads, row->id, file, &reached, error);
    if (status != DIDI_OK)
        return status;
    *ret_value = json_pack("{s:s, s:I, s:s, s:I, s:b}", "name", file->name, "bytes",
                           (json_int_t)file->bytes, "sha256", file->sha256, "offset",
                           (json_int_t)reached.bytes, "complete", reached.complete);
    *ret_reached = reached;
    return *ret_value == NULL ? didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory") : DIDI_OK;
}

static int files_json(const api *self, const store_upload *row, json_t **ret_files,
                      didi_error *error)
{
    upload_request files = {.document = json_load_own(row->files)};
    json_t *list = json_array();
    int status = upload_files_read(files.document, &files, error);
    for (size_t i = 0; status == DIDI_OK && i < files.count; i++) {
        json_t *value = NULL;
        upload_reached reached;
        status = file_json(self, row, &files.files[i], &value, &reached, error);
        if (status == DIDI_OK)
            json_array_append_new(list, value);
    }
    upload_request_clear(&files);
    if (status == DIDI_OK)
        *ret_files = list;
    else
        json_decref(list);
    return status;
}

static void upload_reply(api *self, http_request *request, const char *id, int status)
{
    didi_error error = {0};
    store_upload row = {0};
    json_t *files = NULL;
    if (store_upload_get(self->records, id, &row, &error) == DIDI_OK &&
        files_json(self, &row, &files, &error) == DIDI_OK)
        http_reply_json(request, status, upload_json(&row, files));
    else
        reply_failure(request, &error);
    store_upload_clear(&row);
}

void api_uploads_create(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    upload_request asked = {0};
    char id[ID_BYTES];
    char location[64];
    size_t bytes;
    const char *body = http_body(request, &bytes);
    int status = upload_request_parse(body, bytes, bytes, &asked, &error);
    if (status == DIDI_FORMAT) {
        http_reply_error(request, PROBLEM_MALFORMED_JSON, &error);
        return;
    }
    if (status == DIDI_OK)
        status = uploads_create(self->uploads, &asked, http_client(request), id, &error);
    upload_request_clear(&asked);
    if (status != DIDI_OK) {
        reply_failure(request, &error);
        return;
    }
    snprintf(location, sizeof location, "/v1/models/uploads/%s", id);
    http_reply_header(request, "Location", location);
    upload_reply(self, request, id, 201);
}

void api_uploads_get(void *context, http_request *request)
{
    upload_reply(context, request, http_path_part(request, 0), 200);
}

void api_uploads_list(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    store_upload *rows = NULL;
    size_t count = 0;
    bool more = false;
    size_t limit = 0;
    const char *after = NULL;
    if (!api_page_asked(request, name_is_job, "after must be an upload's id", &after, &limit))
        return;
    if (store_upload_list(self->records, after, limit, &rows, &count, &more, &error) != DIDI_OK) {
        reply_failure(request, &error);
        return;
    }
    json_t *data = json_array();
    int status = DIDI_OK;
    for (size_t i = 0; status == DIDI_OK && i < count; i++) {
        json_t *files = NULL;
        status = files_json(self, &rows[i], &files, &error);
        if (status == DIDI_OK)
            json_array_append_new(data, upload_json(&rows[i], files));
    }
    if (status == DIDI_OK) {
        http_reply_json(request, 200, api_page(data, more, more ? rows[count - 1].id : NULL));
    } else {
        json_decref(data);
        reply_failure(request, &error);
    }
    store_uploads_free(rows, count);
}

/* Reads the upload of the path for a change. False: a reply was made. */
static bool find_own(api *self, http_request *request, store_upload *ret_row)
{
    didi_error error = {0};
    if (store_upload_get(self->records, http_path_part(request, 0), ret_row, &error) != DIDI_OK)
        reply_failure(request, &error);
    else if (is_allowed(self, request, ret_row))
        return true;
    store_upload_clear(ret_row);
    return false;
}

void api_uploads_delete(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    store_upload row = {0};
    if (!find_own(self, request, &row))
        return;
    if (uploads_remove(self->uploads, row.id, &error) == DIDI_OK)
        http_reply_empty(request, 204);
    else
        reply_failure(request, &error);
    store_upload_clear(&row);
}

void api_uploads_commit(void *context, http_request *request)
{
    api *self = context;
    didi_error error = {0};
    store_upload row = {0};
    if (!find_own(self, request, &row))
        return;
    if (uploads_commit(self->uploads, row.id, &error) == DIDI_OK)
        upload_reply(self, request, row.id, 200);
    else
        reply_failure(request, &error);
    store_upload_clear(&row);
}

static void file_reply(http_request *request, json_t *value, const upload_reached *reached)
{
    char offset[24];
    snprintf(offset, sizeof offset, "%llu", (unsigned long long)reached->bytes);
    http_reply_header(request, "Upload-Offset", offset);
    http_reply_json(request, 200, value);
}

void api_uploads_file_get(void *context, http_request *request)
{
    api *self = context;
    const char *name = http_path_part(request, 1);
    didi_error error = {0};
    store_upload row = {0};
    upload_request files = {0};
    upload_reached reached = {0};
    json_t *value = NULL;
    int status = store_upload_get(self->records, http_path_part(request, 0), &row, &error);
    if (status == DIDI_OK) {
        files.document = json_load_own(row.files);
        status = upload_files_read(files.document, &files, &error);
    }
    const upload_file *file = status == DIDI_OK ? upload_request_find(&files, name) : NULL;
    if (status == DIDI_OK)
        status = file == NULL ? didi_fail(&error, DIDI_NOT_FOUND, name,
                                          "the upload has no file '%.200s'", name)
                              : file_json(self, &row, file, &value, &reached, &error);
    if (status == DIDI_OK)
        file_reply(request, value, &reached);
    else
        reply_failure(request, &error);
    upload_request_clear(&files);
    store_upload_clear(&row);
}

/* ---- a part of a file ---- */

static int sink_write(void *context, const void *bytes, size_t count, didi_error *error)
{
    return upload_writer_write(context, bytes, count, error);
}

static void sink_done(void *context, http_request *request, int status, const didi_error *error)
{
    didi_error own = {0};
    upload_reached reached = {0};
    if (status != DIDI_OK)
        own = *error;
    else
        status = upload_writer_finish(context, &reached, &own);
    if (status == DIDI_OK)
        file_reply(request,
                   json_pack("{s:s, s:I, s:b}", "name", http_path_part(request, 1), "offset",
                             (json_int_t)reached.bytes, "complete", reached.complete),
                   &reached);
    else
        reply_failure(request, &own);
}

static bool sink_lasts(void *context)
{
    return upload_writer_lasts(context);
}

static void sink_close(void *context)
{
    upload_writer_close(context);
}

void api_uploads_file_put(void *context, http_request *request)
{
    api *self = context;
    const char *text = http_header(request, "Content-Range");
    content_range range = {0};
    didi_error error = {0};
    store_upload row = {0};
    upload_writer *writer = NULL;
    uint64_t length = 0;
    if (text != NULL && !content_range_parse(text, &range)) {
        (void)http_refuse_parameter(request, "Content-Range",
                                    "it must be \"bytes FIRST-LAST/TOTAL\"");
        return;
    }
    if (text != NULL && http_body_length(request, &length) &&
        length != range.last - range.first + 1) {
        (void)http_refuse_parameter(request, "Content-Range",
                                    "it has another length than the body");
        return;
    }
    if (!find_own(self, request, &row))
        return;
    if (upload_writer_open(self->uploads, row.id, http_path_part(request, 1),
                           text != NULL ? &range : NULL, &writer, &error) == DIDI_OK)
        http_take_body(request, &(http_sink){writer, sink_write, sink_done, sink_lasts, sink_close},
                       upload_writer_room(writer));
    else
        reply_failure(request, &error);
    store_upload_clear(&row);
}

/* ---- models ---- */

void api_models_delete(void *context, http_request *request)
{
    api *self = context;
    const char *name = http_path_part(request, 0);
    didi_error error = {0};
    int status = name_is_model(name)
                     ? uploads_remove_model(self->uploads, name, &error)
                     : didi_fail(&error, DIDI_NOT_FOUND, name, "no model has this name");
    if (status == DIDI_OK)
        http_reply_empty(request, 204);
    else if (status == DIDI_NOT_FOUND)
        http_reply_error(request, PROBLEM_UNKNOWN_MODEL, &error);
    else
        reply_failure(request, &error);
}
