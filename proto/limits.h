/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of the wire contract, each with its unit; openapi.yaml says the same. */
#pragma once

enum {
    LIMIT_BODY_BYTES = 1024 * 1024, /* of a request, unless configured otherwise */
    LIMIT_JSON_DEPTH = 16,          /* nested arrays and objects */
    LIMIT_TASKS = 1024,
    LIMIT_TASK_NAME_BYTES = 128,
    LIMIT_JOB_ID_CHARACTERS = 26,
    LIMIT_MODEL_NAME_BYTES = 255,
    LIMIT_SOURCE_BYTES = 2000,
    LIMIT_MODEL_NAME_COMPONENTS = 8,
    LIMIT_JOB_NAME_CHARACTERS = 128,
    LIMIT_GLOBS = 256, /* in each list */
    LIMIT_GLOB_CHARACTERS = 512,
    LIMIT_UPLOAD_FILES = 1024,
    LIMIT_UPLOAD_FILE_NAME_BYTES = 200,
    LIMIT_LABELS = 16,
    LIMIT_LABEL_KEY_BYTES = 63,
    LIMIT_LABEL_VALUE_BYTES = 255,
    LIMIT_PRIORITY = 100, /* either way from 0 */
    LIMIT_IDEMPOTENCY_KEY_BYTES = 128,
    LIMIT_TOKENS = 1000,
    LIMIT_TOKEN_NAME_CHARACTERS = 64,
    LIMIT_TOKEN_SECONDS = 315360000, /* ten years, the longest life that can be asked for */
    LIMIT_PAGE = 200,
    LIMIT_PAGE_DEFAULT = 50,
    LIMIT_EVENT_PAGE = 1000,
    LIMIT_EVENT_PAGE_DEFAULT = 200,
    LIMIT_WAIT_SECONDS = 60,
    LIMIT_METHOD_NAME_BYTES = 64,
    LIMIT_METHOD_OPTIONS = 32,
    LIMIT_BAKEOFF_METHODS = 64,
    LIMIT_BAKEOFF_SIZES = 32,
    LIMIT_BAKEOFF_MEMBERS = LIMIT_BAKEOFF_METHODS + LIMIT_BAKEOFF_SIZES + 3,
    LIMIT_WEBHOOKS = 64,
    LIMIT_WEBHOOK_URL_BYTES = 2000,
    LIMIT_WEBHOOK_DESCRIPTION_CHARACTERS = 256,
    LIMIT_WEBHOOK_SECRET_BYTES = 64, /* decoded; LIMIT_WEBHOOK_SECRET_BYTES_MIN at least */
    LIMIT_WEBHOOK_SECRET_BYTES_MIN = 24,
    LIMIT_WEBHOOK_OVERLAP_SECONDS = 30 * 24 * 3600,
    LIMIT_EXPORT_RANK = 65536,
    LIMIT_EXPORT_RANK_PORTABLE = 16, /* the lowest max_rank of format peft */
};

#define LIMIT_BUDGET 1000.0 /* ratio to one model */
/* Of the sizes of a bake-off that are found, in models of 16 bits: between two of them, and the
 * most, beyond which didi has the fine-tunes' own scores. */
#define LIMIT_BAKEOFF_SIZE_STEP 0.05
#define LIMIT_BAKEOFF_SIZE_FOUND 2.2
#define LIMIT_SAFE_INTEGER 9007199254740991LL /* 2^53 - 1, the largest every JSON reader keeps */
