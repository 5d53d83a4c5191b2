/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked of S3: objects, uploads in parts, lists. */
#include "daemon/s3/answer.h"
#include "daemon/s3/client.h"
#include "daemon/s3/client_internal.h"

#include "daemon/base/base.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHECKSUM_BYTES = 45 /* of a SHA-256 in Base64, with the NUL */, LIST_PAGES_MAX = 1000 };

/* Hex as Base64, which checksums are written in. */
static void checksum_of(const char *sha256, char ret_checksum[CHECKSUM_BYTES])
{
    char digest[FILE_REPR_DIGEST_BYTES]; /* "sha-256=:<base64>:" */
    file_repr_digest(sha256, digest);
    (void)snprintf(ret_checksum, CHECKSUM_BYTES, "%.*s", (int)(CHECKSUM_BYTES - 1),
                   strchr(digest, ':') + 1);
}

static int take_etag(const s3_call *call, char ret_etag[S3_ETAG_BYTES], didi_error *error)
{
    const char *etag = call->facts.etag;
    if (etag[0] == '\0' || strpbrk(etag, "<>&\"'") != NULL || text_has_control(etag, strlen(etag)))
        return didi_fail(error, DIDI_STORAGE, call->object->key, "S3 gave no ETag");
    memcpy(ret_etag, call->facts.etag, S3_ETAG_BYTES);
    return DIDI_OK;
}

int s3_put(s3 *self, const s3_object *object, const s3_body *body, char ret_etag[S3_ETAG_BYTES],
           didi_error *error)
{
    char checksum[CHECKSUM_BYTES];
    s3_call call = {.object = object, .method = "PUT", .query = "", .body = body};
    checksum_of(body->sha256, checksum);
    s3_call_header(&call, "x-amz-checksum-sha256", checksum);
    s3_call_header(&call, "x-amz-meta-sha256", body->sha256);
    int status = s3_call_run(self, &call, error);
    if (status == DIDI_OK)
        status = take_etag(&call, ret_etag, error);
    s3_call_clear(&call);
    return status;
}

/* ---- uploads in parts ---- */

static int take_upload(void *context, const char *parent, const char *name, const char *text,
                       didi_error *error)
{
    char *id = context;
    (void)parent;
    if (strcmp(name, "UploadId") != 0)
        return DIDI_OK;
    if (strlen(text) >= S3_UPLOAD_BYTES)
        return didi_fail(error, DIDI_STORAGE, NULL, "S3 gave an upload a name that is too long");
    memcpy(id, text, strlen(text) + 1);
    return DIDI_OK;
}

int s3_upload_begin(s3 *self, const s3_object *object, const char *sha256,
                    char ret_upload[S3_UPLOAD_BYTES], didi_error *error)
{
    char id[S3_UPLOAD_BYTES] = "";
    s3_call call = {.object = object, .method = "POST", .query = "uploads="};
    s3_call_header(&call, "x-amz-checksum-algorithm", "SHA256");
    s3_call_header(&call, "x-amz-meta-sha256", sha256);
    int status = s3_call_run(self, &call, error);
    if (status == DIDI_OK)
        status = answer_read(call.document, call.document_bytes, take_upload, id, error);
    if (status == DIDI_OK && id[0] == '\0')
        status = didi_fail(error, DIDI_STORAGE, object->key, "S3 gave the upload no name");
    if (status == DIDI_OK)
        memcpy(ret_upload, id, sizeof id);
    s3_call_clear(&call);
    return status;
}

static char *upload_query(const char *upload, unsigned number)
{
    char *id = sign_encode(upload, false);
    char *query = NULL;
    if (id != NULL)
        query = number > 0 ? memory_format("partNumber=%u&uploadId=%s", number, id)
                           : memory_format("uploadId=%s", id);
    free(id);
    return query;
}

int s3_upload_part(s3 *self, const s3_object *object, const char *upload, unsigned number,
                   const s3_body *body, char ret_etag[S3_ETAG_BYTES], didi_error *error)
{
    char checksum[CHECKSUM_BYTES];
    char *query = upload_query(upload, number);
    assert(number >= 1 && number <= S3_PARTS_MAX);
    if (query == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, object->key, "out of memory");
    s3_call call = {.object = object, .method = "PUT", .query = query, .body = body};
    checksum_of(body->sha256, checksum);
    s3_call_header(&call, "x-amz-checksum-sha256", checksum);
    int status = s3_call_run(self, &call, error);
    if (status == DIDI_OK)
        status = take_etag(&call, ret_etag, error);
    s3_call_clear(&call);
    free(query);
    return status;
}

static char *parts_text(const s3_part *parts, size_t count)
{
    text_stream *stream = text_stream_open();
    if (stream == NULL)
        return NULL;
    FILE *file = text_stream_file(stream);
    fprintf(file, "<CompleteMultipartUpload>");
    for (size_t i = 0; i < count; i++) {
        char checksum[CHECKSUM_BYTES];
        checksum_of(parts[i].sha256, checksum);
        /* An ETag with a mark of XML in it is none that S3 gives: checked as it was taken. */
        fprintf(file,
                "<Part><ChecksumSHA256>%s</ChecksumSHA256><ETag>&quot;%s&quot;</ETag>"
                "<PartNumber>%zu</PartNumber></Part>",
                checksum, parts[i].etag, i + 1);
    }
    fprintf(file, "</CompleteMultipartUpload>");
    return text_stream_close(stream, NULL);
}

static int take_text_etag(void *context, const char *parent, const char *name, const char *text,
                          didi_error *error)
{
    char *etag = context;
    (void)parent;
    (void)error;
    if (strcmp(name, "ETag") == 0) {
        text += text[0] == '"';
        (void)snprintf(etag, S3_ETAG_BYTES, "%.*s", (int)strcspn(text, "\""), text);
    }
    return DIDI_OK;
}

int s3_upload_end(s3 *self, const s3_object *object, const char *upload, const s3_part *parts,
                  size_t count, char ret_etag[S3_ETAG_BYTES], didi_error *error)
{
    char etag[S3_ETAG_BYTES] = "";
    char *query = upload_query(upload, 0);
    char *text = parts_text(parts, count);
    assert(count >= 1 && count <= S3_PARTS_MAX);
    s3_call call = {
        .object = object, .method = "POST", .query = query, .text = text, .may_fail_late = true};
    int status = query != NULL && text != NULL
                     ? s3_call_run(self, &call, error)
                     : didi_fail(error, DIDI_NO_MEMORY, object->key, "out of memory");
    if (status == DIDI_OK)
        status = answer_read(call.document != NULL ? call.document : "", call.document_bytes,
                             take_text_etag, etag, error);
    if (status == DIDI_OK && etag[0] == '\0')
        status = didi_fail(error, DIDI_STORAGE, object->key, "S3 gave no ETag");
    if (status == DIDI_OK)
        memcpy(ret_etag, etag, sizeof etag);
    s3_call_clear(&call);
    free(text);
    free(query);
    return status;
}

typedef struct abort_run {
    s3 *client;
    const s3_object *prefix;
    char key[S3_KEY_BYTES];
    size_t count;
} abort_run;

static int abort_one(abort_run *self, const char *upload, didi_error *error)
{
    const s3_object object = {.bucket = self->prefix->bucket,
                              .key = self->key,
                              .end = self->prefix->end,
                              .quick = self->prefix->quick};
    char *query = upload_query(upload, 0);
    if (query == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, self->key, "out of memory");
    s3_call call = {.object = &object, .method = "DELETE", .query = query};
    int status = s3_call_run(self->client, &call, error);
    s3_call_clear(&call);
    free(query);
    self->count++;
    return status == DIDI_NOT_FOUND ? DIDI_OK : status;
}

/* Key comes before UploadId. A key of another prefix is none that was asked for. */
static int abort_visit(void *context, const char *parent, const char *name, const char *text,
                       didi_error *error)
{
    abort_run *self = context;
    if (strcmp(parent, "Upload") != 0)
        return DIDI_OK;
    if (strcmp(name, "Key") == 0)
        (void)snprintf(self->key, sizeof self->key, "%s", text);
    if (strcmp(name, "UploadId") != 0 ||
        strncmp(self->key, self->prefix->key, strlen(self->prefix->key)) != 0)
        return DIDI_OK;
    return abort_one(self, text, error);
}

int s3_upload_abort_all(s3 *self, const s3_object *object, didi_error *error)
{
    abort_run run = {.client = self, .prefix = object};
    char *prefix = sign_encode(object->key, false);
    char *query = prefix != NULL ? memory_format("prefix=%s&uploads=", prefix) : NULL;
    int status =
        query != NULL ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, object->key, "out of memory");
    for (int page = 0; page < LIST_PAGES_MAX && status == DIDI_OK; page++) {
        s3_call call = {.object = object, .method = "GET", .query = query, .on_bucket = true};
        run.count = 0;
        status = s3_call_run(self, &call, error);
        if (status == DIDI_OK)
            status = answer_read(call.document != NULL ? call.document : "", call.document_bytes,
                                 abort_visit, &run, error);
        s3_call_clear(&call);
        if (run.count == 0)
            break;
    }
    free(query);
    free(prefix);
    return status;
}

/* ---- objects ---- */

int s3_head(s3 *self, const s3_object *object, s3_facts *ret_facts, didi_error *error)
{
    s3_call call = {.object = object, .method = "HEAD", .query = ""};
    s3_call_header(&call, "x-amz-checksum-mode", "ENABLED");
    int status = s3_call_run(self, &call, error);
    if (status == DIDI_OK)
        *ret_facts = call.facts;
    s3_call_clear(&call);
    return status;
}

int s3_read(s3 *self, const s3_object *object, const char *etag, uint64_t offset, void *buffer,
            size_t bytes, didi_error *error)
{
    s3_call call = {.object = object,
                    .method = "GET",
                    .query = "",
                    .buffer = buffer,
                    .room = bytes,
                    .offset = offset,
                    .etag = etag};
    if (bytes == 0)
        return DIDI_OK;
    int status = s3_call_run(self, &call, error);
    if (status == DIDI_STORAGE && call.status == 416)
        status = didi_fail(error, DIDI_CHANGED, object->key,
                           "the object is shorter than what was stored");
    if (status == DIDI_OK && etag != NULL && strcmp(call.facts.etag, etag) != 0)
        status = didi_fail(error, DIDI_CHANGED, object->key,
                           "the object is not the one that was stored: it was replaced");
    s3_call_clear(&call);
    return status;
}

int s3_delete(s3 *self, const s3_object *object, didi_error *error)
{
    s3_call call = {.object = object, .method = "DELETE", .query = ""};
    int status = s3_call_run(self, &call, error);
    s3_call_clear(&call);
    return status == DIDI_NOT_FOUND ? DIDI_OK : status;
}

typedef struct listing {
    s3_visit *visit;
    void *context;
    size_t count, most;
    char key[S3_KEY_BYTES], etag[S3_ETAG_BYTES];
    uint64_t bytes;
    bool has_size, is_cut;
    char next[ANSWER_TEXT_BYTES];
} listing;

static int list_visit(void *context, const char *parent, const char *name, const char *text,
                      didi_error *error)
{
    listing *self = context;
    if (strcmp(parent, "ListBucketResult") == 0 && strcmp(name, "IsTruncated") == 0)
        self->is_cut = strcmp(text, "true") == 0;
    if (strcmp(parent, "ListBucketResult") == 0 && strcmp(name, "NextContinuationToken") == 0)
        (void)snprintf(self->next, sizeof self->next, "%s", text);
    if (strcmp(parent, "Contents") != 0)
        return DIDI_OK;
    if (strcmp(name, "Key") == 0) {
        if (strlen(text) >= sizeof self->key)
            return didi_fail(error, DIDI_FORMAT, NULL, "a key is longer than 1024 bytes");
        memcpy(self->key, text, strlen(text) + 1);
    } else if (strcmp(name, "ETag") == 0) {
        (void)take_text_etag(self->etag, parent, name, text, error);
    } else if (strcmp(name, "Size") == 0) {
        char *end = NULL;
        self->bytes = strtoull(text, &end, 10);
        self->has_size = text[0] >= '0' && text[0] <= '9' && *end == '\0';
    }
    if (self->key[0] == '\0' || self->etag[0] == '\0' || !self->has_size)
        return DIDI_OK;
    if (self->count++ >= self->most)
        return didi_fail(error, DIDI_FORMAT, NULL, "there are more than %zu objects", self->most);
    int status = self->visit(self->context, self->key, self->bytes, self->etag, error);
    self->key[0] = self->etag[0] = '\0';
    self->has_size = false;
    return status;
}

int s3_list(s3 *self, const s3_object *prefix, size_t most, s3_visit *visit, void *context,
            didi_error *error)
{
    listing all = {.visit = visit, .context = context, .most = most, .is_cut = true};
    char *encoded = sign_encode(prefix->key, false);
    int status =
        encoded != NULL ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, prefix->key, "out of memory");
    for (int page = 0; page < LIST_PAGES_MAX && status == DIDI_OK && all.is_cut; page++) {
        char *next = sign_encode(all.next, false);
        char *query = next == NULL ? NULL
                      : page == 0  ? memory_format("list-type=2&prefix=%s", encoded)
                                   : memory_format("continuation-token=%s&list-type=2&prefix=%s",
                                                   next, encoded);
        s3_call call = {.object = prefix, .method = "GET", .query = query, .on_bucket = true};
        all.is_cut = false;
        all.next[0] = '\0';
        status = query != NULL ? s3_call_run(self, &call, error)
                               : didi_fail(error, DIDI_NO_MEMORY, prefix->key, "out of memory");
        if (status == DIDI_OK)
            status = answer_read(call.document != NULL ? call.document : "", call.document_bytes,
                                 list_visit, &all, error);
        if (all.next[0] == '\0')
            all.is_cut = false;
        s3_call_clear(&call);
        free(query);
        free(next);
    }
    free(encoded);
    if (status == DIDI_OK && all.is_cut)
        status = didi_fail(error, DIDI_FORMAT, NULL, "the list has more than %d pages",
                           (int)LIST_PAGES_MAX);
    return status;
}

int s3_presign(s3 *self, const s3_object *object, unsigned seconds, char **ret_url,
               didi_error *error)
{
    credentials keys;
    char time_text[SIGN_TIME_BYTES];
    char *host = NULL;
    char *path = NULL;
    char *target = NULL;
    const int64_t now = clock_now_ms() / 1000;
    int status = s3_credentials(self, NULL, &keys, error);
    if (status == DIDI_OK && !s3_place_of(self, object, false, &host, &path))
        status = didi_fail(error, DIDI_NO_MEMORY, object->key, "out of memory");
    if (status != DIDI_OK)
        return status;
    if (keys.ends > now && keys.ends - now < (int64_t)seconds)
        seconds = (unsigned)(keys.ends - now);
    const sign_key key = {keys.id, keys.secret, keys.token[0] != '\0' ? keys.token : NULL,
                          self->rules.region};
    const sign_request request = {.method = "GET", .host = host, .path = path, .query = ""};
    sign_time(now, time_text);
    status = sign_target(&key, &request, time_text, seconds, &target, error);
    if (status == DIDI_OK) {
        *ret_url = memory_format("%s://%s%s", self->scheme, host, target);
        if (*ret_url == NULL)
            status = didi_fail(error, DIDI_NO_MEMORY, object->key, "out of memory");
    }
    free(target);
    free(path);
    free(host);
    return status;
}
