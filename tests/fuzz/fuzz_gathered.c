/* SPDX-License-Identifier: Apache-2.0 */
/* Input: the bytes of a tensor of gathered ones. */
#include "src/files/gathered.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
    if (!holds)
        abort();
}

/* Parts that are found lie within the tensor, behind its index, and are not empty. */
static void check_part(const safetensors_tensor *part, const safetensors_tensor *from)
{
    check(part->dtype == DIDI_DTYPE_U8 && part->dimensions == 1 && part->bytes > 0);
    check(part->shape[0] == part->bytes && part->elements == part->bytes);
    check(part->offset >= from->offset + GATHERED_COUNT_BYTES + GATHERED_ENTRY_BYTES);
    check(part->offset + part->bytes <= from->offset + from->bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"a.expert_packed", "b.expert_packed", "a.shared_packed"};
    enum { BEFORE = 3 }; /* bytes of the file before the tensor */
    const uint64_t shape = size;
    const safetensors_tensor from = {.name = "parts",
                                     .dtype = DIDI_DTYPE_U8,
                                     .dimensions = 1,
                                     .shape = &shape,
                                     .elements = size,
                                     .offset = BEFORE,
                                     .bytes = size};
    gathered *opened = NULL;
    didi_error error = {0};
    int fd = memfd_create("parts", MFD_CLOEXEC);
    check(fd >= 0 && pwrite(fd, data, size, BEFORE) == (ssize_t)size);
    int status = gathered_open(fd, "file", &from, &opened, &error);
    if (status != DIDI_OK)
        check(status == error.status && error.message[0] != '\0' && opened == NULL);
    for (size_t i = 0; status == DIDI_OK && i < sizeof names / sizeof *names; i++) {
        const safetensors_tensor *part = gathered_find(opened, names[i]);
        if (part != NULL)
            check_part(part, &from);
    }
    gathered_free(opened);
    close(fd);
    return 0;
}
