/* SPDX-License-Identifier: Apache-2.0 */
/* Files from elsewhere: resumed, counted, hashed, renamed. */
#include "daemon/fetch/blob.h"

#include "daemon/base/base.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
    ATTEMPTS_MAX = 5,
    PAUSE_MILLISECONDS = 250, /* before the second attempt; doubles */
    PAUSE_STEP_MILLISECONDS = 50,
    TEXT_BYTES_MAX = 64 << 20,
    HASH_BYTES = 1 << 20,
};

static bool is_ended(const fetch_run *run)
{
    return run->end != NULL && atomic_load(run->end);
}

static void pause_before(const fetch_run *run, int attempt)
{
    int left = PAUSE_MILLISECONDS << (attempt - 1);
    for (; left > 0 && !is_ended(run); left -= PAUSE_STEP_MILLISECONDS)
        clock_pause_ms(PAUSE_STEP_MILLISECONDS);
}

/* ---- texts ---- */

typedef struct text {
    char *bytes;
    size_t used, room;
} text;

static int text_write(void *context, uint64_t from, const void *data, size_t bytes,
                      didi_error *error)
{
    text *self = context;
    (void)from;
    if (bytes > TEXT_BYTES_MAX - self->used)
        return didi_fail(error, DIDI_FORMAT, NULL, "longer than %d bytes", TEXT_BYTES_MAX);
    if (self->used + bytes + 1 > self->room) {
        size_t room = 2 * (self->used + bytes + 1);
        char *grown = memory_resized(self->bytes, room, 1);
        if (grown == NULL)
            return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for an answer");
        self->bytes = grown;
        self->room = room;
    }
    memcpy(self->bytes + self->used, data, bytes);
    self->used += bytes;
    self->bytes[self->used] = '\0';
    return DIDI_OK;
}

int blob_text(fetch_run *run, const char *url, char **ret_text, size_t *ret_bytes,
              didi_error *error)
{
    int status = DIDI_INTERNAL;
    for (int attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
        text body = {0};
        transfer_answer answer;
        const transfer_order order = {.url = url, .write = text_write, .context = &body};
        if (attempt > 0)
            pause_before(run, attempt);
        status = transfer_run(run->transfer, &order, &answer, error);
        if (status == DIDI_OK && body.bytes == NULL)
            status = didi_fail(error, DIDI_FORMAT, url, "the answer is empty");
        if (status == DIDI_OK) {
            *ret_text = body.bytes;
            *ret_bytes = body.used;
            return DIDI_OK;
        }
        free(body.bytes);
        if (!answer.may_pass)
            return status;
    }
    return status;
}

int blob_ask(fetch_run *run, const char *url, transfer_answer *ret_answer, didi_error *error)
{
    const transfer_order order = {.url = url, .head = true};
    int status = DIDI_INTERNAL;
    for (int attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
        if (attempt > 0)
            pause_before(run, attempt);
        status = transfer_run(run->transfer, &order, ret_answer, error);
        if (status == DIDI_OK || !ret_answer->may_pass)
            break;
    }
    return status;
}

/* ---- files ---- */

typedef struct download {
    fetch_run *run;
    const blob *wanted;
    int fd;
    uint64_t before, reached; /* of the run, bytes of other files; of this file, bytes on disk */
} download;

static int download_write(void *context, uint64_t from, const void *data, size_t bytes,
                          didi_error *error)
{
    download *self = context;
    if (from > self->wanted->bytes || bytes > self->wanted->bytes - from)
        return didi_fail(error, DIDI_FORMAT, self->wanted->url,
                         "more than the %llu bytes that were announced",
                         (unsigned long long)self->wanted->bytes);
    int status = file_pwrite_all(self->fd, data, bytes, from, self->wanted->url, error);
    if (status != DIDI_OK)
        return status;
    self->reached = from + bytes;
    self->run->done = self->before + self->reached;
    if (self->run->tell != NULL)
        self->run->tell(self->run->context, self->run);
    return DIDI_OK;
}

static int check_room(const download *self, didi_error *error)
{
    struct statvfs disk;
    uint64_t left = self->wanted->bytes - self->reached;
    if (fstatvfs(self->fd, &disk) != 0 || (uint64_t)disk.f_bavail * disk.f_frsize >= left)
        return DIDI_OK;
    return didi_fail(error, DIDI_DISK_FULL, self->wanted->url,
                     "%llu bytes are to come, and the fetch directory's disk has room for %llu",
                     (unsigned long long)left,
                     (unsigned long long)((uint64_t)disk.f_bavail * disk.f_frsize));
}

/* One attempt, from where the file ends. */
static int download_once(download *self, bool *ret_may_pass, didi_error *error)
{
    transfer_answer answer = {.may_pass = false};
    const transfer_order order = {.url = self->wanted->url,
                                  .offset = self->reached,
                                  .write = download_write,
                                  .context = self};
    int status = check_room(self, error);
    if (status == DIDI_OK)
        status = transfer_run(self->run->transfer, &order, &answer, error);
    if (status == DIDI_OK && answer.status == 416)
        self->reached = 0;
    if (status == DIDI_OK && self->reached < self->wanted->bytes) {
        status =
            didi_fail(error, DIDI_IO, self->wanted->url, "cut short at %llu of %llu bytes",
                      (unsigned long long)self->reached, (unsigned long long)self->wanted->bytes);
        answer.may_pass = true;
    }
    /* What a whole answer did not reach of an earlier part is not known to be of the same file. */
    if (ftruncate(self->fd, (off_t)self->reached) != 0 && status == DIDI_OK)
        status = didi_fail_errno(error, errno, self->wanted->url, "cannot shorten");
    *ret_may_pass = answer.may_pass;
    return status;
}

static int download_all(download *self, didi_error *error)
{
    bool may_pass = true;
    int status = DIDI_OK;
    for (int attempt = 0; self->reached < self->wanted->bytes && may_pass; attempt++) {
        uint64_t before = self->reached;
        if (attempt > 0)
            pause_before(self->run, attempt);
        status = download_once(self, &may_pass, error);
        if (status == DIDI_OK)
            break;
        attempt = self->reached > before ? 0 : attempt; /* it gets on */
        may_pass = may_pass && attempt + 1 < ATTEMPTS_MAX && !is_ended(self->run);
    }
    return status;
}

/* As `git hash-object` does it. */
static int git_digest(int fd, uint64_t bytes, const char *subject, char ret_hex[65],
                      didi_error *error)
{
    char *buffer = malloc(HASH_BYTES);
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    int used = 0;
    int status = DIDI_OK;
    if (buffer == NULL || hash == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, subject, "no memory to hash");
    if (status == DIDI_OK) {
        used = snprintf(buffer, HASH_BYTES, "blob %llu", (unsigned long long)bytes) + 1;
        EVP_DigestInit_ex(hash, EVP_sha1(), NULL);
        EVP_DigestUpdate(hash, buffer, (size_t)used);
    }
    for (uint64_t at = 0; at < bytes && status == DIDI_OK; at += HASH_BYTES) {
        size_t count = bytes - at < HASH_BYTES ? (size_t)(bytes - at) : HASH_BYTES;
        status = file_pread_all(fd, buffer, count, at, subject, error);
        if (status == DIDI_OK)
            EVP_DigestUpdate(hash, buffer, count);
    }
    if (status == DIDI_OK) {
        EVP_DigestFinal_ex(hash, digest, &length);
        file_hex(digest, length, ret_hex);
    }
    EVP_MD_CTX_free(hash);
    free(buffer);
    return status;
}

static int check_digest(const download *self, didi_error *error)
{
    const blob *wanted = self->wanted;
    size_t digits = strspn(wanted->digest, "0123456789abcdef");
    char found[65] = "";
    int status = DIDI_OK;
    if (wanted->digest[digits] != '\0' || (digits != 64 && digits != 40))
        return DIDI_OK;
    if (digits == 64)
        status = file_sha256(self->fd, NULL, NULL, found, NULL, wanted->url, error);
    else
        status = git_digest(self->fd, wanted->bytes, wanted->url, found, error);
    if (status == DIDI_OK && strcmp(found, wanted->digest) != 0)
        status = didi_fail(error, DIDI_FORMAT, wanted->url,
                           "the file has the digest %s, it should be %s: fetch again", found,
                           wanted->digest);
    return status;
}

int blob_fetch(fetch_run *run, const blob *wanted, int to_fd, const char *to, didi_error *error)
{
    struct stat facts;
    assert(run->temporary_fd >= 0 && strchr(wanted->key, '/') == NULL && wanted->key[0] != '.');
    download self = {.run = run, .wanted = wanted, .before = run->done};
    self.fd =
        openat(run->temporary_fd, wanted->key, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0640);
    if (self.fd < 0 || fstat(self.fd, &facts) != 0) {
        int status = didi_fail_errno(error, errno, wanted->url, "cannot create a file for it");
        file_close(self.fd);
        return status;
    }
    if ((uint64_t)facts.st_size <= wanted->bytes)
        self.reached = (uint64_t)facts.st_size;
    run->done = self.before + self.reached;
    int status = download_all(&self, error);
    if (status == DIDI_OK) {
        status = check_digest(&self, error);
        if (status == DIDI_FORMAT)
            (void)unlinkat(run->temporary_fd, wanted->key, 0);
    }
    if (status == DIDI_OK)
        status = file_sync(self.fd, wanted->url, error);
    if (status == DIDI_OK && is_ended(run))
        status = didi_fail(error, DIDI_CANCELLED, wanted->url, "the fetch is ended");
    if (status == DIDI_OK)
        status = file_rename(run->temporary_fd, wanted->key, to_fd, to, error);
    if (status == DIDI_OK)
        status = file_sync(to_fd, to, error);
    file_close(self.fd);
    if (status == DIDI_OK)
        run->done = self.before + wanted->bytes;
    return status;
}
