/* SPDX-License-Identifier: Apache-2.0 */
/* States of jobs, exports, fetches and models as the wire and the database spell them. */
#pragma once

/* queued -> running -> succeeded | failed | cancelled; queued -> cancelled; retry: failed or
 * cancelled -> queued. */
#define JOB_STATE_TABLE(X)                                                                         \
    X(QUEUED, "queued")                                                                            \
    X(RUNNING, "running")                                                                          \
    X(SUCCEEDED, "succeeded")                                                                      \
    X(FAILED, "failed")                                                                            \
    X(CANCELLED, "cancelled")

#define EXPORT_STATE_TABLE(X)                                                                      \
    X(QUEUED, "queued")                                                                            \
    X(RUNNING, "running")                                                                          \
    X(SUCCEEDED, "succeeded")                                                                      \
    X(FAILED, "failed")

#define FETCH_STATE_TABLE(X)                                                                       \
    X(QUEUED, "queued")                                                                            \
    X(RUNNING, "running")                                                                          \
    X(SUCCEEDED, "succeeded")                                                                      \
    X(FAILED, "failed")

#define MODEL_STATE_TABLE(X)                                                                       \
    X(READY, "ready")                                                                              \
    X(BROKEN, "broken")

#define STATES_ENUMERATOR_JOB(id, name) JOB_##id,
#define STATES_ENUMERATOR_EXPORT(id, name) EXPORT_##id,
#define STATES_ENUMERATOR_FETCH(id, name) FETCH_##id,
#define STATES_ENUMERATOR_MODEL(id, name) MODEL_##id,
typedef enum job_state { JOB_STATE_TABLE(STATES_ENUMERATOR_JOB) JOB_STATE_COUNT } job_state;
typedef enum export_state {
    EXPORT_STATE_TABLE(STATES_ENUMERATOR_EXPORT) EXPORT_STATE_COUNT
} export_state;
typedef enum fetch_state {
    FETCH_STATE_TABLE(STATES_ENUMERATOR_FETCH) FETCH_STATE_COUNT
} fetch_state;
typedef enum model_state {
    MODEL_STATE_TABLE(STATES_ENUMERATOR_MODEL) MODEL_STATE_COUNT
} model_state;
#undef STATES_ENUMERATOR_JOB
#undef STATES_ENUMERATOR_EXPORT
#undef STATES_ENUMERATOR_FETCH
#undef STATES_ENUMERATOR_MODEL
