/* SPDX-License-Identifier: Apache-2.0 */
/* Whose request it is that a trusted proxy passes on: X-Forwarded-For, and Forwarded (RFC 7239).
 * Pure functions. */
#pragma once

#include "daemon/http/head.h"
#include "src/base/base.h"

#include <netinet/in.h>

enum {
    HTTP_NETWORKS_MAX = 32,
    HTTP_FORWARDED_MAX = 32, /* addresses that one request may have come through */
};

/* Addresses of which the first `bits` are as these. IPv4 is kept as IPv6 that carries it. */
typedef struct http_network {
    struct in6_addr address;
    unsigned bits;
} http_network;

typedef struct http_networks {
    http_network list[HTTP_NETWORKS_MAX];
    size_t count;
} http_networks;

/* Reads "ADDRESS,ADDRESS/BITS,..."; NULL stands for none. Errors: DIDI_INVALID. */
int http_networks_parse(const char *text, http_networks *ret_networks, didi_error *error);

/* False also for what is no address: "unix". */
bool http_networks_has(const http_networks *self, const char *address);

/* The rightmost address of X-Forwarded-For or Forwarded that is not a trusted one, the first where
 * all are; "" when neither header is there. False: *fault says why. */
bool http_forwarded_client(const http_head *head, const http_networks *trusted,
                           char ret_address[INET6_ADDRSTRLEN], http_fault *fault);
