/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's resources as JSON. */
#include "client/net/service.h"

#include "client/base/base.h"
#include "src/base/base.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct client_service {
    client_transport *transport;
    client_interrupt *interrupt;
    int timeout_seconds;
    int last_status;
    service_problem problem;
};

int service_open(const client_settings *settings, client_interrupt *interrupt,
                 client_service **ret_service, didi_error *error)
{
    assert(interrupt != NULL);
    client_service *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return client_fail_memory(error);
    self->interrupt = interrupt;
    self->timeout_seconds = settings->timeout_seconds;
    int status = transport_open(settings, interrupt, &self->transport, error);
    if (status != CLIENT_OK)
        free(self);
    else
        *ret_service = self;
    return status;
}

void service_close(client_service *service)
{
    if (service != NULL) {
        transport_close(service->transport);
        free(service);
    }
}

int service_last_status(const client_service *service)
{
    return service->last_status;
}

const service_problem *service_last_problem(const client_service *service)
{
    return &service->problem;
}

transport_failure service_last_failure(const client_service *service)
{
    return transport_last_failure(service->transport);
}

client_interrupt *service_interrupt(const client_service *service)
{
    return service->interrupt;
}

int service_timeout_seconds(const client_service *service)
{
    return service->timeout_seconds;
}

/* application/json, or application/anything+json, with or without parameters. */
static bool is_json(const char *content_type)
{
    size_t bytes = strcspn(content_type, "; \t");
    return (bytes == 16 && strncasecmp(content_type, "application/json", 16) == 0) ||
           (bytes > 5 && strncasecmp(content_type + bytes - 5, "+json", 5) == 0);
}

static json_t *parse(const transport_response *response)
{
    if (!is_json(response->content_type) || response->body == NULL)
        return NULL;
    return json_load(response->body, response->body_bytes, JSON_REJECT_DUPLICATES, NULL, NULL);
}

/* One line: "title: detail (at /pointer)". */
static int fail_problem(client_service *self, const transport_response *response, didi_error *error)
{
    int kind = response->status == 401 || response->status == 403 ? CLIENT_DENIED : CLIENT_FAILURE;
    json_t *problem = parse(response);
    const char *title = record_text(problem, "title");
    const char *detail = record_text(problem, "detail");
    const char *pointer = record_text(problem, "pointer");
    const char *at = "at";
    snprintf(self->problem.type, sizeof self->problem.type, "%s", record_text(problem, "type"));
    snprintf(self->problem.pointer, sizeof self->problem.pointer, "%s", pointer);
    if (pointer[0] == '\0')
        pointer = record_text(problem, "parameter");
    if (pointer[0] == '\0') {
        at = "about";
        pointer = record_text(problem, "subject");
    }
    if (title[0] == '\0' && detail[0] == '\0') {
        didi_fail(error, kind, NULL, "the server answered with status %d", response->status);
    } else {
        bool both = title[0] != '\0' && detail[0] != '\0' && strcasecmp(title, detail) != 0;
        bool place = pointer[0] != '\0' && strstr(detail, pointer) == NULL;
        didi_fail(error, kind, NULL, "%s%s%s%s%s%s%s%s", title, both ? ": " : "",
                  both || title[0] == '\0' ? detail : "", place ? " (" : "", place ? at : "",
                  place ? " " : "", place ? pointer : "", place ? ")" : "");
    }
    if (response->retry_after_seconds > 0)
        didi_fail(error, kind, NULL, "%s; it asks to come back in %d s", error->message,
                  response->retry_after_seconds);
    json_decref(problem);
    return kind;
}

static int exchange_json(client_service *self, const transport_request *request,
                         json_t **ret_document, didi_error *error)
{
    transport_response response = {0};
    int status = transport_exchange(self->transport, request, &response, error);
    if (status != CLIENT_OK)
        return status;
    self->last_status = response.status;
    json_t *document = NULL;
    if (response.status < 200 || response.status > 299) {
        status = fail_problem(self, &response, error);
    } else if (response.status != 204) {
        document = parse(&response);
        if (document == NULL) {
            status = didi_fail(error, CLIENT_FAILURE, NULL,
                               "the server's answer to %s %s is not JSON; is it a didid?",
                               request->method, request->target);
        }
    }
    transport_response_clear(&response);
    if (status == CLIENT_OK)
        *ret_document = document;
    return status;
}

int service_get(client_service *service, int extra_seconds, json_t **ret_document,
                didi_error *error, const char *format, ...)
{
    static const char *const headers[] = {"Accept: application/json", NULL};
    char *target = NULL;
    json_t *document = NULL;
    va_list values;
    va_start(values, format);
    if (vasprintf(&target, format, values) < 0)
        target = NULL;
    va_end(values);
    if (target == NULL)
        return client_fail_memory(error);
    transport_request request = {.method = "GET",
                                 .target = target,
                                 .headers = headers,
                                 .repeatable = true,
                                 .extra_seconds = extra_seconds};
    int status = exchange_json(service, &request, &document, error);
    if (status == CLIENT_OK && document == NULL)
        status = didi_fail(error, CLIENT_FAILURE, NULL, "the server's answer to GET %s is empty",
                           target);
    if (status == CLIENT_OK)
        *ret_document = document;
    free(target);
    return status;
}

int service_send(client_service *service, const char *method, const char *target,
                 const json_t *body, const char *idempotency_key, json_t **ret_document,
                 didi_error *error)
{
    assert(strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 ||
           strcmp(method, "DELETE") == 0);
    char *key_line = NULL;
    char *text = NULL;
    const char *headers[4] = {"Accept: application/json"};
    size_t header_count = 1;
    int status = CLIENT_OK;
    if (body != NULL) {
        headers[header_count++] = "Content-Type: application/json";
        text = json_dumps(body, JSON_COMPACT);
    }
    if (idempotency_key != NULL) {
        key_line = memory_format("Idempotency-Key: \"%s\"", idempotency_key);
        headers[header_count] = key_line;
    }
    if ((body != NULL && text == NULL) || (idempotency_key != NULL && key_line == NULL)) {
        status = client_fail_memory(error);
        goto out;
    }
    transport_request request = {.method = method,
                                 .target = target,
                                 .headers = headers,
                                 .body = text,
                                 .body_bytes = text != NULL ? strlen(text) : 0,
                                 .repeatable =
                                     idempotency_key != NULL || strcmp(method, "POST") != 0};
    status = exchange_json(service, &request, ret_document, error);
out:
    free(text);
    free(key_line);
    return status;
}

static int check_page(const json_t *page, const char *target, didi_error *error)
{
    const json_t *data = json_object_get(page, "data");
    if (!json_is_array(data) || !json_is_boolean(json_object_get(page, "has_more")))
        return didi_fail(error, CLIENT_FAILURE, NULL, "the server's answer to GET %s is not a list",
                         target);
    for (size_t i = 0; i < json_array_size(data); i++) {
        if (!json_is_object(json_array_get(data, i)))
            return didi_fail(error, CLIENT_FAILURE, NULL,
                             "item %zu of the server's answer to GET %s is not an object", i,
                             target);
    }
    return CLIENT_OK;
}

/* Target of the page after `next` (NULL for the first), `limit` items long. */
static char *page_target(const char *target, const char *next, size_t limit)
{
    const char *joint = strchr(target, '?') != NULL ? "&" : "?";
    if (next == NULL)
        return memory_format("%s%slimit=%zu", target, joint, limit);
    char *escaped = transport_escape(next);
    char *page = escaped == NULL
                     ? NULL
                     : memory_format("%s%slimit=%zu&after=%s", target, joint, limit, escaped);
    free(escaped);
    return page;
}

static int take_items(json_t *items, const json_t *page, size_t limit, didi_error *error)
{
    const json_t *data = json_object_get(page, "data");
    for (size_t i = 0; i < json_array_size(data) && json_array_size(items) < limit; i++)
        if (json_array_append(items, json_array_get(data, i)) != 0)
            return client_fail_memory(error);
    return CLIENT_OK;
}

/* Reads one page into `items`; *next and *more tell about the one that follows. */
static int read_page(client_service *self, const char *target, size_t limit, json_t *items,
                     char **next, bool *more, didi_error *error)
{
    size_t wanted = limit - json_array_size(items);
    wanted = wanted < SERVICE_PAGE_ITEMS_MAX ? wanted : SERVICE_PAGE_ITEMS_MAX;
    char *path = page_target(target, *next, wanted);
    if (path == NULL)
        return client_fail_memory(error);
    json_t *page = NULL;
    int status = service_get(self, 0, &page, error, "%s", path);
    status = status != CLIENT_OK ? status : check_page(page, target, error);
    status = status != CLIENT_OK ? status : take_items(items, page, limit, error);
    if (status != CLIENT_OK)
        goto out;
    const char *follower = record_text(page, "next");
    *more = record_true(page, "has_more");
    if (*more && (*follower == '\0' || json_array_size(json_object_get(page, "data")) == 0 ||
                  (*next != NULL && strcmp(*next, follower) == 0))) {
        status =
            didi_fail(error, CLIENT_FAILURE, NULL, "the server's pages of %s do not end", target);
        goto out;
    }
    free(*next);
    *next = memory_string(follower);
out:
    json_decref(page);
    free(path);
    return status;
}

int service_list(client_service *service, const char *target, size_t limit, json_t **ret_items,
                 bool *ret_more, didi_error *error)
{
    assert(limit > 0);
    json_t *items = json_array();
    char *next = NULL;
    bool more = true;
    if (items == NULL)
        return client_fail_memory(error);
    int status = CLIENT_OK;
    limit = limit < SERVICE_LIST_ITEMS_MAX ? limit : SERVICE_LIST_ITEMS_MAX;
    while (status == CLIENT_OK && more && json_array_size(items) < limit)
        status = read_page(service, target, limit, items, &next, &more, error);
    free(next);
    if (status != CLIENT_OK) {
        json_decref(items);
        return status;
    }
    *ret_items = items;
    *ret_more = more;
    return CLIENT_OK;
}

int service_fetch(client_service *service, const transport_request *request,
                  transport_response *ret_response, didi_error *error)
{
    transport_response response = {0};
    int status = transport_exchange(service->transport, request, &response, error);
    if (status != CLIENT_OK)
        return status;
    service->last_status = response.status;
    if (response.status != 200 && response.status != 206 && response.status != 416) {
        status = fail_problem(service, &response, error);
        transport_response_clear(&response);
        return status;
    }
    *ret_response = response;
    return CLIENT_OK;
}
