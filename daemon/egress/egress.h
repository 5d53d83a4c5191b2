/* SPDX-License-Identifier: Apache-2.0 */
/* Whom the daemon speaks to when it is the client: URLs, lists of hosts, and addresses judged on
 * the socket that is about to be connected. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

typedef enum egress_part { EGRESS_SCHEME, EGRESS_HOST, EGRESS_PORT, EGRESS_USER } egress_part;

/* A part of a URL as libcurl will understand it, the port filled in from the scheme; the caller
 * frees. NULL: there is none, or no memory, or the text is no URL. */
char *egress_url_part(const char *url, egress_part part);

/* True when the host is in the list "HOST,.HOST", where ".HOST" stands for all below it. `hosts`
 * may be NULL. */
bool egress_host_is_listed(const char *hosts, const char *host);

/* True for an address of the public Internet: not private, loopback, link-local, shared, reserved,
 * multicast, nor IPv6 that carries such an IPv4 address. */
bool egress_address_is_public(const struct sockaddr *address);

/* True where a line of a reply's head, as libcurl hands it over, is the field `name`; its value,
 * cut to `room`. */
bool egress_header_value(const char *line, size_t bytes, const char *name, char *ret_value,
                         size_t room);

/* A socket for this address, or -1: it could not be had, or the address is not public and
 * `allow_private` is not set, which *ret_refused tells. libcurl connects it to that same address,
 * so that no later answer of a name server counts. */
int egress_open_socket(const struct sockaddr *address, int type, int protocol, bool allow_private,
                       bool *ret_refused);
