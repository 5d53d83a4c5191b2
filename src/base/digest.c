/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 of files. */
#include "src/base/fault.h"
#include "src/base/file.h"
#include "src/base/memory.h"

#include <assert.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { BUFFER_BYTES = 256 * 1024, CANCEL_BYTES = 16 * 1024 * 1024, SHA256_BYTES = 32 };

typedef struct hashing {
    EVP_MD_CTX *hash;
    unsigned char *buffer;
    int (*cancelled)(void *context);
    void *context;
} hashing;

/* Set once, never freed; what is fetched is constant. */
static _Atomic(EVP_MD *) sha256_held;

static const EVP_MD *sha256(void)
{
    const EVP_MD *held = atomic_load(&sha256_held);
    return held != NULL ? held : EVP_sha256();
}

int file_sha256_prepare(didi_error *error)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    if (atomic_load(&sha256_held) != NULL)
        return DIDI_OK;
    EVP_MD *fetched = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (fetched == NULL || EVP_Digest("", 0, digest, NULL, fetched, NULL) != 1 ||
        EVP_Digest("", 0, digest, NULL, EVP_sha1(), NULL) != 1) {
        EVP_MD_free(fetched);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "SHA-256 is not available");
    }
    atomic_store(&sha256_held, fetched);
    return DIDI_OK;
}

static int hash_file(const hashing *self, int fd, unsigned char ret_digest[SHA256_BYTES],
                     uint64_t *ret_bytes, const char *subject, didi_error *error)
{
    uint64_t done = 0;
    if (EVP_DigestInit_ex(self->hash, sha256(), NULL) != 1)
        return didi_fail(error, DIDI_INTERNAL, subject, "SHA-256 is not available");
    for (;;) {
        int fault = fault_at(FAULT_DIGEST);
        if (fault != 0)
            return didi_fail_errno(error, fault, subject, "cannot read");
        if (self->cancelled != NULL && done % CANCEL_BYTES == 0 && self->cancelled(self->context))
            return didi_fail(error, DIDI_CANCELLED, subject, "cancelled while hashing");
        /* Whole buffers, so that `done` meets the multiples of CANCEL_BYTES. */
        size_t filled = 0;
        while (filled < BUFFER_BYTES) {
            ssize_t got =
                pread(fd, self->buffer + filled, BUFFER_BYTES - filled, (off_t)(done + filled));
            if (got < 0 && errno == EINTR)
                continue;
            if (got < 0)
                return didi_fail_errno(error, errno, subject, "cannot read");
            if (got == 0)
                break;
            filled += (size_t)got;
        }
        if (EVP_DigestUpdate(self->hash, self->buffer, filled) != 1)
            return didi_fail(error, DIDI_INTERNAL, subject, "SHA-256 failed");
        done += filled;
        if (filled < BUFFER_BYTES)
            break;
    }
    if (EVP_DigestFinal_ex(self->hash, ret_digest, NULL) != 1)
        return didi_fail(error, DIDI_INTERNAL, subject, "SHA-256 failed");
    *ret_bytes = done;
    return DIDI_OK;
}

void file_hex(const void *bytes, size_t count, char *ret_hex)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *from = bytes;
    for (size_t i = 0; i < count; i++) {
        ret_hex[2 * i] = digits[from[i] >> 4];
        ret_hex[2 * i + 1] = digits[from[i] & 15];
    }
    ret_hex[2 * count] = '\0';
}

int file_sha256_bytes(const void *bytes, size_t count, char ret_hex[65], didi_error *error)
{
    assert(bytes != NULL || count == 0);
    unsigned char digest[SHA256_BYTES];
    if (EVP_Digest(bytes, count, digest, NULL, sha256(), NULL) != 1)
        return didi_fail(error, DIDI_INTERNAL, NULL, "SHA-256 is not available");
    file_hex(digest, sizeof digest, ret_hex);
    return DIDI_OK;
}

int file_sha256_pieces(file_next_piece *next, void *context, char ret_hex[65], didi_error *error)
{
    unsigned char digest[SHA256_BYTES];
    const void *bytes = NULL;
    size_t count = 1;
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    if (hash == NULL || EVP_DigestInit_ex(hash, sha256(), NULL) != 1) {
        EVP_MD_CTX_free(hash);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory to hash");
    }
    int status = DIDI_OK;
    while (status == DIDI_OK && count > 0) {
        status = next(context, &bytes, &count, error);
        if (status == DIDI_OK && EVP_DigestUpdate(hash, bytes, count) != 1)
            status = didi_fail(error, DIDI_INTERNAL, NULL, "SHA-256 failed");
    }
    if (status == DIDI_OK && EVP_DigestFinal_ex(hash, digest, NULL) != 1)
        status = didi_fail(error, DIDI_INTERNAL, NULL, "SHA-256 failed");
    if (status == DIDI_OK)
        file_hex(digest, sizeof digest, ret_hex);
    EVP_MD_CTX_free(hash);
    return status;
}

void file_repr_digest(const char hex[65], char ret_text[FILE_REPR_DIGEST_BYTES])
{
    unsigned char digest[SHA256_BYTES];
    unsigned char base64[48] = "";
    for (size_t i = 0; i < sizeof digest; i++) {
        char pair[] = {hex[2 * i], hex[2 * i + 1], '\0'};
        digest[i] = (unsigned char)strtoul(pair, NULL, 16);
    }
    EVP_EncodeBlock(base64, digest, sizeof digest);
    (void)snprintf(ret_text, FILE_REPR_DIGEST_BYTES, "sha-256=:%s:", (const char *)base64);
}

int file_sha256(int fd, int (*cancelled)(void *context), void *context, char ret_hex[65],
                uint64_t *ret_bytes, const char *subject, didi_error *error)
{
    const hashing work = {EVP_MD_CTX_new(), memory_aligned(BUFFER_BYTES, 1), cancelled, context};
    unsigned char digest[SHA256_BYTES];
    uint64_t bytes = 0;
    int status = work.buffer != NULL && work.hash != NULL
                     ? hash_file(&work, fd, digest, &bytes, subject, error)
                     : didi_fail(error, DIDI_NO_MEMORY, subject, "no memory to hash");
    if (status == DIDI_OK)
        file_hex(digest, sizeof digest, ret_hex);
    if (status == DIDI_OK && ret_bytes != NULL)
        *ret_bytes = bytes;
    EVP_MD_CTX_free(work.hash);
    free(work.buffer);
    return status;
}
