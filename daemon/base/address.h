/* SPDX-License-Identifier: Apache-2.0 */
/* Who counts as one where limits go by address. */
#pragma once

enum { ADDRESS_OWNER_BYTES = 64 };

/* An IPv6 address stands for its /64, which a customer usually has to himself ("2001:db8::/64");
 * any other text stands for itself, cut where it is longer. */
void address_owner(const char *address, char ret_owner[ADDRESS_OWNER_BYTES]);
