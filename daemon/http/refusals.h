/* SPDX-License-Identifier: Apache-2.0 */
/* Why the edge turns connections and requests away. Part of http.h. */
#pragma once

/* Why a connection or a request was turned away, or a connection ended by the edge. */
#define HTTP_REFUSAL_TABLE(X)                                                                      \
    X(MALFORMED, "malformed") /* what RFC 9112 forbids, or what is no HTTP */                      \
    X(TIMEOUT, "timeout")     /* a deadline passed */                                              \
    X(EVICTED, "evicted")     /* idle, incomplete or stalled, for another one of its address */    \
    X(CONNECTIONS, "connections") /* no room for a connection */                                   \
    X(DESCRIPTORS, "descriptors") /* no file descriptor for it */                                  \
    X(RATE, "rate")                                                                                \
    X(WAITS, "waits")                                                                              \
    X(DOWNLOADS, "downloads")                                                                      \
    X(TLS, "tls") /* the handshake failed */

typedef enum http_refusal {
#define HTTP_REFUSAL_ENUMERATOR(id, name) HTTP_REFUSAL_##id,
    HTTP_REFUSAL_TABLE(HTTP_REFUSAL_ENUMERATOR)
#undef HTTP_REFUSAL_ENUMERATOR
        HTTP_REFUSAL_COUNT
} http_refusal;

#define HTTP_REFUSAL_NAME(id, name) name,
