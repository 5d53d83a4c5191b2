/* SPDX-License-Identifier: Apache-2.0 */
/* One model on disk: a directory with model.safetensors, or shards with
 * model.safetensors.index.json; or, where neither is there, a PEFT adapter (adapter.h). Files stay
 * open, and are watched for change, while it lives. */
#pragma once

#include "src/files/safetensors.h"

enum {
    CHECKPOINT_SHARDS_MAX = 4096,
    CHECKPOINT_INDEX_BYTES_MAX = 100000000,
    ADAPTER_CONFIG_BYTES_MAX = 4 << 20,
};

typedef struct checkpoint checkpoint;

typedef struct checkpoint_file {
    const char *name; /* file name inside the directory, owned by the checkpoint */
    uint64_t bytes;
    uint64_t device, inode;
    int64_t modified_ns; /* mtime, nanoseconds since the epoch */
} checkpoint_file;

typedef struct checkpoint_tensor {
    const safetensors_tensor *tensor;
    size_t file; /* index of the shard that holds it */
} checkpoint_tensor;

/* Opens the model in the directory `directory_fd` (the fd is duplicated, not consumed); `label` is
 * what errors call it (the model's name). If both forms exist, model.safetensors.index.json wins
 * only when model.safetensors is absent. Index rules: total_size advisory; every weight_map value a
 * plain file name (no '/', '\\', NUL, leading dot); each listed tensor in its shard; a tensor in a
 * shard but not in the map, or in two shards, is an error. Files are opened relative to the
 * directory with O_NOFOLLOW semantics for '..' (openat2 RESOLVE_BENEATH where the kernel has it;
 * links inside the directory tree are followed only if they stay beneath; a link that leaves is
 * refused), O_CLOEXEC, and must be regular files. Errors: DIDI_NOT_FOUND, DIDI_FORMAT, DIDI_IO,
 * DIDI_NO_MEMORY; subject = "label/file[: tensor]". */
int checkpoint_open(int directory_fd, const char *label, checkpoint **ret_checkpoint,
                    didi_error *error);

/* Closes all files and frees; NULL is fine. */
void checkpoint_close(checkpoint *checkpoint);

const char *checkpoint_label(const checkpoint *checkpoint);

/* The tensors are an adapter's, adapter_model.safetensors; the last of the files is
 * adapter_config.json, which holds none and is read by the other function (the caller frees
 * *ret_text). Errors: DIDI_FORMAT (too long), DIDI_IO, DIDI_NO_MEMORY. */
bool checkpoint_is_adapter(const checkpoint *checkpoint);
int checkpoint_read_config(const checkpoint *checkpoint, char **ret_text, size_t *ret_bytes,
                           didi_error *error);

/* Tensors of all shards together, sorted by name. */
size_t checkpoint_count(const checkpoint *checkpoint);
const checkpoint_tensor *checkpoint_at(const checkpoint *checkpoint, size_t index);
const checkpoint_tensor *checkpoint_find(const checkpoint *checkpoint, const char *name);

size_t checkpoint_file_count(const checkpoint *checkpoint);
const checkpoint_file *checkpoint_file_at(const checkpoint *checkpoint, size_t index);

/* Reads bytes [first, first + count) of a tensor into `buffer` (pread until done). Thread-safe.
 * Errors: DIDI_IO, DIDI_CHANGED if the file became shorter. */
int checkpoint_read(const checkpoint *checkpoint, const checkpoint_tensor *tensor, uint64_t first,
                    void *buffer, uint64_t count, didi_error *error);

/* Reads elements [first, first + count) converted to float32 (float dtypes only), using at most 1
 * MiB of scratch of its own. Thread-safe. */
int checkpoint_read_f32(const checkpoint *checkpoint, const checkpoint_tensor *tensor,
                        uint64_t first, float *buffer, uint64_t count, didi_error *error);

/* Tells the system that elements [first, first + count) are read soon. */
void checkpoint_will_need(const checkpoint *checkpoint, const checkpoint_tensor *tensor,
                          uint64_t first, uint64_t count);

/* Checks that every file still has the size, mtime and inode it had at open, both the open
 * descriptor and the name in the directory. Errors: DIDI_CHANGED naming the file, DIDI_IO. */
int checkpoint_verify_unchanged(const checkpoint *checkpoint, didi_error *error);

/* Lower-case hex SHA-256 (64 characters + NUL) of a whole file. Calls cancelled(context) about
 * every 16 MiB when not NULL; non-zero stops with DIDI_CANCELLED. Thread-safe. Errors: DIDI_IO,
 * DIDI_CHANGED, DIDI_CANCELLED. */
int checkpoint_digest(const checkpoint *checkpoint, size_t file, int (*cancelled)(void *context),
                      void *context, char ret_hex[65], didi_error *error);
