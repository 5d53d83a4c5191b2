/* SPDX-License-Identifier: Apache-2.0 */
/* A server of S3: signed requests over libcurl, tried again while that may help, within a number of
 * times and within seconds. */
#pragma once

#include "daemon/base/base.h"
#include "src/base/base.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    S3_BUCKET_BYTES = 64,   /* with the NUL */
    S3_KEY_BYTES = 1025,    /* with the NUL */
    S3_ETAG_BYTES = 256,    /* of an ETag, its marks taken off */
    S3_UPLOAD_BYTES = 1024, /* of the id of an upload in parts */
    S3_PARTS_MAX = 10000,   /* of an object */
    S3_PART_BYTES_MIN = 5 << 20,
    S3_ATTEMPTS_MAX = 8,
    S3_QUICK_SECONDS = 10, /* for requests that somebody waits for */
};

typedef struct s3 s3;

typedef struct s3_rules {
    const char *endpoint;         /* URL without a path; NULL: Amazon's of the region */
    const char *region;           /* "us-east-1" */
    const char *credentials_file; /* NULL: none */
    const char *ca_file;          /* certificates trusted instead of the system's; NULL: none */
    bool metadata;                /* the instance may be asked for credentials */
    bool allow_private;           /* addresses that are not public, and http */
    bool path_style;              /* HOST/BUCKET/KEY instead of BUCKET.HOST/KEY */
    unsigned retry_seconds;       /* for one request, with all its attempts */
} s3_rules;

/* What the settings say. Keeps their texts. */
s3_rules s3_rules_of(const config *settings);

/* Copies the rules. Speaks to nobody yet. Errors: DIDI_INVALID (a setting), DIDI_NO_MEMORY. */
int s3_open(const s3_rules *rules, s3 **ret_s3, didi_error *error);
/* No call may be in progress. NULL is fine. */
void s3_close(s3 *self);

/* Splits "s3://BUCKET[/KEY]"; slashes at the end are taken off; ret_key may be "". Errors:
 * DIDI_INVALID with `subject`. */
int s3_parse_url(const char *url, const char *subject, char ret_bucket[S3_BUCKET_BYTES],
                 char ret_key[S3_KEY_BYTES], didi_error *error);

/* What a call is about, and what ends it. */
typedef struct s3_object {
    const char *bucket, *key;
    const atomic_bool *end; /* set: the call ends with DIDI_CANCELLED; may be NULL */
    bool quick;             /* somebody waits: S3_QUICK_SECONDS at most */
} s3_object;

typedef struct s3_facts {
    uint64_t bytes;
    int64_t modified; /* seconds since 1970; 0: not told */
    char etag[S3_ETAG_BYTES];
    char sha256[65]; /* as s3_put noted it, or the server knows it; "" for none */
} s3_facts;

/* All calls are thread-safe. Errors of all: DIDI_STORAGE with the server's own code and words, and
 * what to do about them; DIDI_NOT_FOUND (no such bucket, key or upload); DIDI_CHANGED (the object
 * is not the one with this ETag); DIDI_DISK_FULL (a quota); DIDI_CANCELLED; DIDI_INVALID (no
 * credentials, a private address); DIDI_NO_MEMORY; subject = "s3://BUCKET/KEY". */

/* Writes `bytes` bytes of a file from `offset` as an object; `sha256` is their digest. */
typedef struct s3_body {
    int fd;
    uint64_t offset, bytes;
    const char *sha256;
} s3_body;
int s3_put(s3 *self, const s3_object *object, const s3_body *body, char ret_etag[S3_ETAG_BYTES],
           didi_error *error);

/* An object in parts, from 1 on; each but the last has S3_PART_BYTES_MIN at least. */
int s3_upload_begin(s3 *self, const s3_object *object, const char *sha256,
                    char ret_upload[S3_UPLOAD_BYTES], didi_error *error);
int s3_upload_part(s3 *self, const s3_object *object, const char *upload, unsigned number,
                   const s3_body *body, char ret_etag[S3_ETAG_BYTES], didi_error *error);
typedef struct s3_part {
    char etag[S3_ETAG_BYTES];
    char sha256[65];
} s3_part;
int s3_upload_end(s3 *self, const s3_object *object, const char *upload, const s3_part *parts,
                  size_t count, char ret_etag[S3_ETAG_BYTES], didi_error *error);
/* Ends all uploads in parts of keys that begin with the object's: what they brought is freed. */
int s3_upload_abort_all(s3 *self, const s3_object *object, didi_error *error);

int s3_head(s3 *self, const s3_object *object, s3_facts *ret_facts, didi_error *error);

/* Reads exactly `bytes` bytes from `offset`, of the object with this ETag (NULL: any). */
int s3_read(s3 *self, const s3_object *object, const char *etag, uint64_t offset, void *buffer,
            size_t bytes, didi_error *error);

/* An object that is not there is gone. */
int s3_delete(s3 *self, const s3_object *object, didi_error *error);

/* Calls visit for every object whose key begins with the object's, at most `most`, in the order of
 * keys; the ETag has no marks. */
typedef int s3_visit(void *context, const char *key, uint64_t bytes, const char *etag,
                     didi_error *error);
int s3_list(s3 *self, const s3_object *prefix, size_t most, s3_visit *visit, void *context,
            didi_error *error);

/* A URL by which anybody may GET the object for `seconds`; less where the credentials end before.
 * The caller frees. Asks nobody but for credentials. */
int s3_presign(s3 *self, const s3_object *object, unsigned seconds, char **ret_url,
               didi_error *error);
