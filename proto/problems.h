/* SPDX-License-Identifier: Apache-2.0 */
/* Problem types (RFC 9457): everything that can go wrong on the wire has one row here. */
#pragma once

#define PROBLEM_TYPE_PREFIX "urn:didid:problem:"
#define PROBLEM_MEDIA_TYPE "application/problem+json"

/* enumerator, name (the type without its prefix), HTTP status, title */
#define PROBLEM_TABLE(X)                                                                           \
    X(MALFORMED_REQUEST, "malformed-request", 400, "The request is malformed")                     \
    X(MALFORMED_JSON, "malformed-json", 400, "The body is not the JSON it should be")              \
    X(INVALID_PARAMETER, "invalid-parameter", 400, "A query parameter or header is invalid")       \
    X(BAD_SIGNATURE, "bad-signature", 401, "The delivery is not signed as the hook wants")         \
    X(TOO_MANY_FAILURES, "too-many-failures", 429, "Too many deliveries of this address failed")   \
    X(UNAUTHENTICATED, "unauthenticated", 401, "The request needs a valid token")                  \
    X(FORBIDDEN, "forbidden", 403, "The token does not allow this")                                \
    X(UNKNOWN_TOKEN, "unknown-token", 404, "There is no such token")                               \
    X(TOO_MANY_ATTEMPTS, "too-many-attempts", 429, "Too many wrong tokens from this address")      \
    X(CROSS_ORIGIN, "cross-origin", 403, "Pages of other origins may not use this service")        \
    X(NOT_FOUND, "not-found", 404, "There is nothing at this path")                                \
    X(UNKNOWN_MODEL, "unknown-model", 404, "There is no such model")                               \
    X(UNKNOWN_FETCH, "unknown-fetch", 404, "There is no such fetch")                               \
    X(UNKNOWN_UPLOAD, "unknown-upload", 404, "There is no such upload, or such a file of it")      \
    X(UPLOAD_LIMIT, "upload-limit", 507, "Uploads are over a limit")                               \
    X(ARTIFACT_LIMIT, "artifact-limit", 507, "Artifacts would be over their limit")                \
    X(UNKNOWN_WEBHOOK, "unknown-webhook", 404, "There is no such webhook")                         \
    X(UNKNOWN_DELIVERY, "unknown-delivery", 404, "The webhook has no such delivery")               \
    X(UNKNOWN_HOOK, "unknown-hook", 404, "There is no such hook")                                  \
    X(UNKNOWN_BAKEOFF, "unknown-bakeoff", 404, "There is no such bake-off")                        \
    X(UNKNOWN_JOB, "unknown-job", 404, "There is no such job")                                     \
    X(UNKNOWN_ARTIFACT, "unknown-artifact", 404, "The job has no such file")                       \
    X(METHOD_NOT_ALLOWED, "method-not-allowed", 405, "The path does not take this method")         \
    X(CONFLICT, "conflict", 409, "The state of the resource forbids it")                           \
    X(NO_RESULT, "no-result", 409, "The job has no result yet")                                    \
    X(INPUT_CHANGED, "input-changed", 409, "An input file changed while in use")                   \
    X(PRECONDITION_FAILED, "precondition-failed", 412, "The file is another one")                  \
    X(BODY_TOO_LARGE, "body-too-large", 413, "The body is too large")                              \
    X(UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", 415, "The body's media type is not taken") \
    X(RANGE_NOT_SATISFIABLE, "range-not-satisfiable", 416, "The range lies outside the file")      \
    X(WRONG_HOST, "wrong-host", 421, "The Host header does not name this service")                 \
    X(INVALID_SPECIFICATION, "invalid-specification", 422, "The specification is invalid")         \
    X(INVALID_REQUEST, "invalid-request", 422, "The body has a field that cannot be used")         \
    X(MISSING_MODEL, "missing-model", 422, "The specification names a model that is not there")    \
    X(NOT_REUSABLE, "not-reusable", 422, "The job has nothing another one could start from")       \
    X(UNKNOWN_TASK, "unknown-task", 422, "The job has no such task")                               \
    X(IDEMPOTENCY_KEY_REUSED, "idempotency-key-reused", 422,                                       \
      "The idempotency key belongs to another body")                                               \
    X(MALFORMED_FILE, "malformed-file", 422, "A model's file is malformed")                        \
    X(MODELS_DIFFER, "models-differ", 422, "The models do not belong to one family")               \
    X(BUDGET_UNREACHABLE, "budget-unreachable", 422, "The budget is too small")                    \
    X(MEMORY_LIMIT, "memory-limit", 422, "The memory limit is too small for the job")              \
    X(NUMERIC_FAILURE, "numeric-failure", 422, "The numbers cannot be worked with")                \
    X(CANCELLED, "cancelled", 409, "The work was cancelled")                                       \
    X(INTERNAL, "internal-error", 500, "The service made a mistake")                               \
    X(WORKER_LOST, "worker-lost", 500, "A worker hung in the job")                                 \
    X(SCORER_FAILED, "scorer-failed", 500, "The operator's scorer gave no number")                 \
    X(CLUSTER_FAILED, "cluster-failed", 500, "The cluster refused the work or failed in it")       \
    X(STORAGE_FAILED, "storage-failed", 502, "The object storage refused or failed")               \
    X(ARTIFACT_CHANGED, "artifact-changed", 502, "The stored artifact is not what was stored")     \
    X(IO, "io-error", 500, "A file operation failed")                                              \
    X(QUEUE_FULL, "queue-full", 503, "Too many jobs are waiting")                                  \
    X(TOO_MANY_STREAMS, "too-many-streams", 503, "Too many models are streamed at once")           \
    X(UNAVAILABLE, "unavailable", 503, "The service is starting or stopping")                      \
    X(SCHEDULER_UNAVAILABLE, "scheduler-unavailable", 503,                                         \
      "The scheduler of the cluster does not answer")                                              \
    X(OUT_OF_MEMORY, "out-of-memory", 503, "Memory ran out")                                       \
    X(DISK_FULL, "disk-full", 507, "The disk is full")                                             \
    X(REQUEST_TIMEOUT, "request-timeout", 408, "The request did not arrive in time")               \
    X(TARGET_TOO_LONG, "target-too-long", 414, "The request's target is too long")                 \
    X(EXPECTATION_FAILED, "expectation-failed", 417, "What is expected cannot be met")             \
    X(TOO_MANY_REQUESTS, "too-many-requests", 429, "One client asks for too much at once")         \
    X(HEAD_TOO_LARGE, "head-too-large", 431, "The request's headers are too long or too many")     \
    X(NOT_IMPLEMENTED, "not-implemented", 501, "The method or transfer coding is not known")       \
    X(TOO_MANY_CONNECTIONS, "too-many-connections", 503, "There are too many connections")         \
    X(VERSION_NOT_SUPPORTED, "version-not-supported", 505, "The version of HTTP is not spoken")

typedef enum problem {
#define PROBLEM_ENUMERATOR(id, name, status, title) PROBLEM_##id,
    PROBLEM_TABLE(PROBLEM_ENUMERATOR)
#undef PROBLEM_ENUMERATOR
        PROBLEM_COUNT
} problem;

/* All static; out of the table gives those of internal-error. */
const char *problem_type(problem which);
const char *problem_title(problem which);
int problem_http_status(problem which);

/* What a failed library call (didi_status) becomes on the wire. */
problem problem_from_status(int status);
/* The same from a status's stable name ("models_differ"). */
problem problem_from_status_name(const char *name);
