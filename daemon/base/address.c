/* SPDX-License-Identifier: Apache-2.0 */
/* Who counts as one. Short because it is one rule that several limits share. */
#include "daemon/base/address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

void address_owner(const char *address, char ret_owner[ADDRESS_OWNER_BYTES])
{
    struct in6_addr network;
    char text[INET6_ADDRSTRLEN] = "";
    if (inet_pton(AF_INET6, address, &network) != 1 || IN6_IS_ADDR_V4MAPPED(&network) ||
        IN6_IS_ADDR_LOOPBACK(&network)) {
        (void)snprintf(ret_owner, ADDRESS_OWNER_BYTES, "%s", address);
        return;
    }
    memset(network.s6_addr + 8, 0, 8);
    inet_ntop(AF_INET6, &network, text, sizeof text);
    (void)snprintf(ret_owner, ADDRESS_OWNER_BYTES, "%s/64", text);
}
