/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies that go elsewhere than into memory: a piece is gathered, then nothing is read until a
 * worker has written it. So the disk's pace becomes the sender's. */
#include "daemon/http/connection.h"

#include "src/base/base.h"

#include <assert.h>
#include <stdlib.h>

void http_take_body(http_request *request, const http_sink *sink, uint64_t bytes_max)
{
    assert(request->route->streams_body && request->sink.close == NULL);
    if (request->reply.made) {
        sink->close(sink->context);
        return;
    }
    request->sink = *sink;
    request->sink_bytes_max = bytes_max;
    if (request->head.length > bytes_max) {
        char *detail =
            memory_format("%llu bytes; at most %llu are taken",
                          (unsigned long long)request->head.length, (unsigned long long)bytes_max);
        http_reply_problem(request,
                           &(http_problem){.type = PROBLEM_BODY_TOO_LARGE, .detail = detail});
        free(detail);
        return;
    }
    request->sink_error = memory_zeroed(1, sizeof *request->sink_error);
    if (request->sink_error == NULL)
        http_reply_problem(request, &(http_problem){.type = PROBLEM_OUT_OF_MEMORY,
                                                    .detail = "no memory for the body"});
}

/* The connection is quiet while a worker is at it. */
static void hand(http_request *request, http_task task)
{
    http_connection *connection = request->connection;
    connection->stage = HTTP_STAGE_RUN;
    http_connection_mark_idle(connection, false);
    http_connection_deadline(connection, 0);
    http_connection_poll(connection, 0);
    http_workers_hand(request, task);
}

void http_sink_run(http_request *request)
{
    hand(request, request->body_bytes > 0 ? HTTP_TASK_SINK_WRITE : HTTP_TASK_SINK_DONE);
}

void http_sink_resume(http_request *request)
{
    http_connection *connection = request->connection;
    if (request->task == HTTP_TASK_SINK_DONE) {
        http_reply_problem(
            request, &(http_problem){.type = PROBLEM_INTERNAL, .detail = "no reply was made"});
        http_exchange_resume(connection);
        return;
    }
    request->body_bytes = 0;
    if (request->sink_status != DIDI_OK || request->body_is_whole)
        hand(request, HTTP_TASK_SINK_DONE);
    else
        http_exchange_await(connection);
}
