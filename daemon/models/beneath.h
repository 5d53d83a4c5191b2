/* SPDX-License-Identifier: Apache-2.0 */
/* Opening what lies below a directory, and nothing else. */
#pragma once

/* Opens a relative path beneath directory_fd, O_CLOEXEC: links are followed that stay beneath; on
 * kernels without openat2, none. -1 with errno: EXDEV or ELOOP for a link that leaves. */
int open_beneath(int directory_fd, const char *path, int flags);
