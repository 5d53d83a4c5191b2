/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks and bits together, under a budget of bytes or of error (docs/method.md, "Bytes"). Pure
 * functions of spectra: no tensor is touched.
 *
 * At a price per byte every component of a block takes the width whose value less price is highest,
 * or is left out; a block takes the better of its factors and its dense forms. The price is then
 * searched for. */
#pragma once

#include "src/base/base.h"
#include "src/package/package.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One block that competes for bytes: the shared matrix or one expert of one layer, or a tensor
 * without factors. */
typedef struct precision_block {
    const double *sigma; /* singular values, descending; NULL when there are none */
    size_t count;        /* how many are known */
    size_t limit;        /* components it may take; beyond `count` their energy is guessed */
    double tail;         /* energy beyond `count` */
    double weight;       /* of energy in the loss */
    double tasks;        /* tasks the block serves: weight of energy in the plain error */
    uint64_t rows, columns;
    uint64_t overhead;        /* bytes that storing anything of the block adds: headers */
    precision_widths factors; /* widths allowed to components, and to the dense form */
    precision_widths dense;   /* 0 where the block has no dense form */
    double dense_energy;      /* energy the dense form holds, before rounding */
    bool required;            /* stored in some form, however little it gains */
    size_t rivals; /* number of blocks after it that are another form of the same tensor */

    size_t components[PRECISION_WIDTHS]; /* result: how many at each width */
    unsigned dense_bits;                 /* result: 0, or the dense form's width */
    uint64_t bytes;                      /* result: overhead included */
} precision_block;

typedef struct precision_choice {
    uint64_t bytes;
    double loss;  /* weighted energy that is lost: never taken, or rounded away */
    double error; /* the same by `tasks` */
    double price; /* of loss, per byte */
} precision_choice;

typedef struct precision_table precision_table;

/* Prepares `count` blocks; they stay the caller's and must outlive the table, which writes their
 * results. Errors: DIDI_NO_MEMORY. */
int precision_table_create(precision_block *blocks, size_t count, precision_table **ret_table,
                           didi_error *error);
void precision_table_free(precision_table *table);

/* The best choice of at most `bytes`; what is left over is less than any open block's next
 * component costs. Where the required blocks alone need more, those at their least. */
void precision_within_bytes(precision_table *table, uint64_t bytes, precision_choice *ret_choice);

/* The smallest choice whose error (by `tasks`) is at most `most`, or the one of lowest error. */
void precision_within_error(precision_table *table, double most, precision_choice *ret_choice);

/* The price at which about `bytes` are taken, to within a few percent. Cheap. */
double precision_price_near(precision_table *table, uint64_t bytes);

/* The choice at a price of loss per byte. */
void precision_at_price(precision_table *table, double price, precision_choice *ret_choice);

/* Loss of the choice in force over the blocks that have factors (`sigma`). */
double precision_matrix_loss(const precision_table *table);

/* Energy of block `index` that the choice in force loses. */
double precision_lost(const precision_table *table, size_t index);

size_t precision_block_rank(const precision_block *block);
