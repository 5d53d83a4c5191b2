/* SPDX-License-Identifier: Apache-2.0 */
/* States of jobs, exports, fetches, models and deliveries as the wire and the database spell them.
 */
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

#define UPLOAD_STATE_TABLE(X)                                                                      \
    X(OPEN, "open")                                                                                \
    X(COMMITTING, "committing")                                                                    \
    X(COMMITTED, "committed")

#define FETCH_STATE_TABLE(X)                                                                       \
    X(QUEUED, "queued")                                                                            \
    X(RUNNING, "running")                                                                          \
    X(SUCCEEDED, "succeeded")                                                                      \
    X(FAILED, "failed")                                                                            \
    X(CANCELLED, "cancelled")

#define MODEL_STATE_TABLE(X)                                                                       \
    X(READY, "ready")                                                                              \
    X(BROKEN, "broken")

#define DELIVERY_STATE_TABLE(X)                                                                    \
    X(QUEUED, "queued")                                                                            \
    X(SUCCEEDED, "succeeded")                                                                      \
    X(FAILED, "failed")
/* What a member of a bake-off is there for: a method at its own size, the base alone, didi's
 * decomposition, didi at a size of another. */
#define MEMBER_ROLE_TABLE(X)                                                                       \
    X(METHOD, "method")                                                                            \
    X(BASE, "base")                                                                                \
    X(SURVEY, "survey")                                                                            \
    X(DIDI, "didi")
/* What a token allows; each allows what those before it do. */
#define TOKEN_SCOPE_TABLE(X)                                                                       \
    X(READ, "read")                                                                                \
    X(SUBMIT, "submit")                                                                            \
    X(ADMIN, "admin")

#define STATES_ENUMERATOR_JOB(id, name) JOB_##id,
#define STATES_ENUMERATOR_EXPORT(id, name) EXPORT_##id,
#define STATES_ENUMERATOR_UPLOAD(id, name) UPLOAD_##id,
#define STATES_ENUMERATOR_FETCH(id, name) FETCH_##id,
#define STATES_ENUMERATOR_MODEL(id, name) MODEL_##id,
#define STATES_ENUMERATOR_DELIVERY(id, name) DELIVERY_##id,
typedef enum job_state { JOB_STATE_TABLE(STATES_ENUMERATOR_JOB) JOB_STATE_COUNT } job_state;
typedef enum export_state {
    EXPORT_STATE_TABLE(STATES_ENUMERATOR_EXPORT) EXPORT_STATE_COUNT
} export_state;
typedef enum upload_state {
    UPLOAD_STATE_TABLE(STATES_ENUMERATOR_UPLOAD) UPLOAD_STATE_COUNT
} upload_state;
typedef enum fetch_state {
    FETCH_STATE_TABLE(STATES_ENUMERATOR_FETCH) FETCH_STATE_COUNT
} fetch_state;
typedef enum model_state {
    MODEL_STATE_TABLE(STATES_ENUMERATOR_MODEL) MODEL_STATE_COUNT
} model_state;
typedef enum delivery_state {
    DELIVERY_STATE_TABLE(STATES_ENUMERATOR_DELIVERY) DELIVERY_STATE_COUNT
} delivery_state;
#define STATES_ENUMERATOR_MEMBER(id, name) MEMBER_##id,
typedef enum member_role {
    MEMBER_ROLE_TABLE(STATES_ENUMERATOR_MEMBER) MEMBER_ROLE_COUNT
} member_role;
#undef STATES_ENUMERATOR_MEMBER
#define STATES_ENUMERATOR_TOKEN(id, name) TOKEN_SCOPE_##id,
typedef enum token_scope {
    TOKEN_SCOPE_TABLE(STATES_ENUMERATOR_TOKEN) TOKEN_SCOPE_COUNT
} token_scope;
#undef STATES_ENUMERATOR_TOKEN
#undef STATES_ENUMERATOR_JOB
#undef STATES_ENUMERATOR_EXPORT
#undef STATES_ENUMERATOR_FETCH
#undef STATES_ENUMERATOR_MODEL
#undef STATES_ENUMERATOR_DELIVERY
