/* SPDX-License-Identifier: Apache-2.0 */
/* TLS over non-blocking sockets, by OpenSSL. */
#pragma once

#include "src/base/base.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

typedef struct http_tls http_tls; /* a certificate with its key */
typedef struct http_tls_session http_tls_session;

/* What reading, writing and shaking hands give instead of a count. */
enum {
    HTTP_IO_END = 0,
    HTTP_IO_WANT_READ = -1, /* again, once the socket is readable */
    HTTP_IO_WANT_WRITE = -2,
    HTTP_IO_FAILED = -3,
    HTTP_IO_NOT_TLS = -4, /* the peer speaks HTTP: said by the handshake alone */
};

/* Reads PEM files: the certificate with its chain, and its key, which others must not be able to
 * read; each a path or "credential:NAME". TLS 1.2 and 1.3. Errors: those of secret_read naming the
 * setting or the file. Sessions outlive it. */
int http_tls_open(const char *certificate, const char *key, http_tls **ret_tls, didi_error *error);
void http_tls_close(http_tls *self);

/* A server's session on the socket, which stays the caller's. NULL when out of memory. */
http_tls_session *http_tls_accept(http_tls *self, int fd);
void http_tls_free(http_tls_session *session);

/* 1 when done, else one of the above. */
ssize_t http_tls_handshake(http_tls_session *session);
/* A count above 0, or one of the above. */
ssize_t http_tls_read(http_tls_session *session, void *buffer, size_t room);
/* When it wants to be called again, then with the same bytes, or with more after them. */
ssize_t http_tls_write(http_tls_session *session, const void *bytes, size_t count);
/* True when bytes were received that the socket no longer tells of. */
bool http_tls_pending(http_tls_session *session);
/* Says goodbye, once, without waiting for an answer. */
void http_tls_goodbye(http_tls_session *session);
