/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of records share. Internal to the room. */
#pragma once

#include "daemon/s3/deposit.h"

/* Writes the record, whole or not at all. Errors: DIDI_NO_MEMORY, those of file_write_durable. */
int deposit_write(const deposit *self, int job_fd, didi_error *error);

uint64_t deposit_pieces_of(uint64_t bytes);

/* What s3.pieces says of a piece, in hex. Errors: DIDI_NOT_FOUND, DIDI_IO, DIDI_CHANGED. */
int deposit_piece_digest(int job_fd, const deposit_file *file, uint64_t piece, char ret_hex[65],
                         didi_error *error);
