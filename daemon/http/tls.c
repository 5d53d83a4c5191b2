/* SPDX-License-Identifier: Apache-2.0 */
/* TLS sessions. A session is OpenSSL's SSL, a certificate its SSL_CTX. */
#include "daemon/http/tls.h"

#include "daemon/base/base.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

enum { TLS_TICKETS = 1 /* for resumption, given to each new client */ };

struct http_tls {
    SSL_CTX *context;
};

static SSL *ssl_of(http_tls_session *session)
{
    return (SSL *)(void *)session;
}

/* http/1.1 or nothing: a client that wants only other protocols is told so. */
static int choose_protocol(SSL *ssl, const unsigned char **ret_name, unsigned char *ret_bytes,
                           const unsigned char *offered, unsigned offered_bytes, void *context)
{
    static const unsigned char ours[] = "\x08http/1.1";
    unsigned char *name = NULL;
    (void)ssl;
    (void)context;
    if (SSL_select_next_proto(&name, ret_bytes, ours, sizeof ours - 1, offered, offered_bytes) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *ret_name = name;
    return SSL_TLSEXT_ERR_OK;
}

/* OpenSSL's reason, without the file's content. */
static int tls_refuse(const char *path, const char *what, didi_error *error)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code == 0 ? NULL : ERR_reason_error_string(code);
    if (ERR_SYSTEM_ERROR(code))
        reason = strerror(ERR_GET_REASON(code));
    didi_fail(error, DIDI_INVALID, path, "%s: %s: %s", path, what,
              reason == NULL ? "no reason given" : reason);
    ERR_clear_error();
    return DIDI_INVALID;
}

/* A key that asks for a passphrase is not waited for on a terminal. */
static int no_passphrase(char *buffer, int room, int for_writing, void *context)
{
    (void)buffer, (void)room, (void)for_writing, (void)context;
    return -1;
}

static int use_certificate(SSL_CTX *context, const char *certificate, didi_error *error)
{
    char *path = NULL;
    int status = secret_path("tls_certificate", certificate, &path, error);
    if (status == DIDI_OK && SSL_CTX_use_certificate_chain_file(context, path) != 1)
        status = tls_refuse(certificate, "not a certificate in PEM", error);
    free(path);
    return status;
}

static int use_key(SSL_CTX *context, const char *key, didi_error *error)
{
    char *text = NULL;
    int status = secret_read("tls_key", key, &text, error);
    if (status != DIDI_OK)
        return status;
    BIO *source = BIO_new_mem_buf(text, -1);
    EVP_PKEY *read =
        source == NULL ? NULL : PEM_read_bio_PrivateKey(source, NULL, no_passphrase, NULL);
    if (read == NULL || SSL_CTX_use_PrivateKey(context, read) != 1)
        status = tls_refuse(key, "not a private key in PEM, or another certificate's", error);
    EVP_PKEY_free(read);
    BIO_free(source);
    OPENSSL_cleanse(text, strlen(text));
    free(text);
    return status;
}

static int context_fill(SSL_CTX *context, const char *certificate, const char *key,
                        didi_error *error)
{
    static const unsigned char name[] = "didid";
    SSL_CTX_set_default_passwd_cb(context, no_passphrase);
    int status = use_certificate(context, certificate, error);
    if (status == DIDI_OK)
        status = use_key(context, key, error);
    if (status != DIDI_OK)
        return status;
    if (SSL_CTX_check_private_key(context) != 1)
        return tls_refuse(key, "the key does not belong to the certificate", error);
    if (SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_session_id_context(context, name, sizeof name - 1) != 1)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for TLS");
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                     SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
    /* Resumption is by tickets: the client keeps the session, not we. */
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(context, TLS_TICKETS);
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
    return DIDI_OK;
}

int http_tls_open(const char *certificate, const char *key, http_tls **ret_tls, didi_error *error)
{
    http_tls *self = memory_zeroed(1, sizeof *self);
    if (self != NULL)
        self->context = SSL_CTX_new(TLS_server_method());
    int status = self != NULL && self->context != NULL
                     ? context_fill(self->context, certificate, key, error)
                     : didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for TLS");
    if (status == DIDI_OK)
        *ret_tls = self;
    else
        http_tls_close(self);
    return status;
}

void http_tls_close(http_tls *self)
{
    if (self != NULL)
        SSL_CTX_free(self->context);
    free(self);
}

http_tls_session *http_tls_accept(http_tls *self, int fd)
{
    SSL *ssl = SSL_new(self->context);
    if (ssl == NULL || SSL_set_fd(ssl, fd) != 1) {
        SSL_free(ssl);
        ERR_clear_error();
        return NULL;
    }
    SSL_set_accept_state(ssl);
    return (http_tls_session *)(void *)ssl;
}

void http_tls_free(http_tls_session *session)
{
    SSL_free(ssl_of(session));
}

static ssize_t result_of(SSL *ssl, int code)
{
    if (code > 0)
        return code;
    switch (SSL_get_error(ssl, code)) {
    case SSL_ERROR_WANT_READ:
        return HTTP_IO_WANT_READ;
    case SSL_ERROR_WANT_WRITE:
        return HTTP_IO_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        return HTTP_IO_END;
    default:
        return HTTP_IO_FAILED;
    }
}

ssize_t http_tls_handshake(http_tls_session *session)
{
    ERR_clear_error();
    ssize_t result = result_of(ssl_of(session), SSL_do_handshake(ssl_of(session)));
    if (result == HTTP_IO_FAILED && ERR_GET_REASON(ERR_peek_error()) == SSL_R_HTTP_REQUEST)
        result = HTTP_IO_NOT_TLS;
    ERR_clear_error();
    return result;
}

ssize_t http_tls_read(http_tls_session *session, void *buffer, size_t room)
{
    ERR_clear_error();
    return result_of(ssl_of(session),
                     SSL_read(ssl_of(session), buffer, (int)smaller(room, INT_MAX)));
}

ssize_t http_tls_write(http_tls_session *session, const void *bytes, size_t count)
{
    ERR_clear_error();
    ssize_t result =
        result_of(ssl_of(session), SSL_write(ssl_of(session), bytes, (int)smaller(count, INT_MAX)));
    return result == HTTP_IO_END ? HTTP_IO_FAILED : result;
}

bool http_tls_pending(http_tls_session *session)
{
    return SSL_has_pending(ssl_of(session)) == 1;
}

void http_tls_goodbye(http_tls_session *session)
{
    SSL *ssl = ssl_of(session);
    ERR_clear_error();
    if (SSL_is_init_finished(ssl))
        SSL_shutdown(ssl);
    ERR_clear_error();
}
