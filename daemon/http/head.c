/* SPDX-License-Identifier: Apache-2.0 */
/* Reading heads. Whatever RFC 9112 lets a server repair is refused here: two readers that repair
 * differently are what request smuggling lives on. */
#include "daemon/http/head.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

/* Fields of which a second line would change the meaning of the first. */
static const char *const singletons[] = {"Authorization", "Content-Type",    "Content-Range",
                                         "Range",         "If-Range",        "Origin",
                                         "Expect",        "Idempotency-Key", "traceparent"};
enum { SINGLETONS = sizeof singletons / sizeof singletons[0] };

/* What the fields say, one by one. */
typedef struct field_sums {
    unsigned hosts, lengths, codings;
    unsigned seen[SINGLETONS];
    bool close, keep_alive;
} field_sums;

static bool refuse(http_fault *fault, problem type, const char *detail, const char *parameter)
{
    *fault = (http_fault){type, detail, parameter};
    return false;
}

static bool malformed(http_fault *fault, const char *detail)
{
    return refuse(fault, PROBLEM_MALFORMED_REQUEST, detail, NULL);
}

static bool is_token_byte(unsigned char c)
{
    static const char marks[] = "!#$%&'*+-.^_`|~";
    bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    return plain || (c != '\0' && strchr(marks, c) != NULL);
}

bool http_is_token(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (!is_token_byte((unsigned char)text[i]))
            return false;
    return bytes > 0;
}

static bool is_control(unsigned char c)
{
    return (c < ' ' && c != '\t') || c == 0x7f;
}

bool http_is_field_value(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (is_control((unsigned char)text[i]))
            return false;
    return true;
}

size_t http_head_find(const char *bytes, size_t count, size_t *seen, http_fault *fault)
{
    fault->detail = NULL;
    for (size_t i = *seen; i < count; i++) {
        unsigned char c = (unsigned char)bytes[i];
        bool after_cr = i > 0 && bytes[i - 1] == '\r';
        if (c == '\n' && !after_cr)
            malformed(fault, "a line of the head ends without a CR");
        else if (c != '\n' && after_cr)
            malformed(fault, "the head has a CR that ends no line");
        else if (c == '\n' && i < 3)
            malformed(fault, "the request line is empty");
        else if (i >= HTTP_HEAD_BYTES_MAX)
            refuse(fault, PROBLEM_HEAD_TOO_LARGE, "the head is longer than 32768 bytes", NULL);
        else if (c != '\r' && c != '\n' && is_control(c))
            malformed(fault, "the head has a NUL or another control byte");
        if (fault->detail != NULL)
            return 0;
        if (c == '\n' && bytes[i - 2] == '\n')
            return i + 1;
    }
    *seen = count;
    return 0;
}

/* METHOD SP TARGET SP VERSION; `line` is NUL-terminated. */
static bool parse_request_line(char *line, http_head *head, http_fault *fault)
{
    char *target = strchr(line, ' ');
    char *version = target == NULL ? NULL : strchr(target + 1, ' ');
    if (version == NULL)
        return malformed(fault, "the request line is not METHOD TARGET VERSION");
    *target++ = '\0';
    *version++ = '\0';
    if (!http_is_token(line, strlen(line)))
        return malformed(fault, "the method is not a token");
    if (strlen(line) > HTTP_METHOD_BYTES_MAX)
        return refuse(fault, PROBLEM_NOT_IMPLEMENTED, "the method is longer than 32 bytes", NULL);
    if (target[0] == '\0')
        return malformed(fault, "the request line has no target");
    if (strlen(version) != 8 || memcmp(version, "HTTP/", 5) != 0 || version[6] != '.' ||
        version[5] < '0' || version[5] > '9' || version[7] < '0' || version[7] > '9')
        return malformed(fault, "the request line does not end in HTTP/1.1");
    if (version[5] != '1' || version[7] > '1')
        return refuse(fault, PROBLEM_VERSION_NOT_SUPPORTED, "only HTTP/1.0 and HTTP/1.1 are spoken",
                      NULL);
    head->method = line;
    head->target = target;
    head->is_1_0 = version[7] == '0';
    return true;
}

/* Content-Length: digits without leading zeros, 18 at most. */
static bool parse_length(const char *value, uint64_t *ret_length)
{
    uint64_t length = 0;
    size_t digits = strlen(value);
    if (digits == 0 || digits > 18 || (value[0] == '0' && digits > 1))
        return false;
    for (; *value != '\0'; value++) {
        if (*value < '0' || *value > '9')
            return false;
        length = length * 10 + (uint64_t)(*value - '0');
    }
    *ret_length = length;
    return true;
}

/* Connection: a list of tokens. */
static bool parse_connection(const char *value, field_sums *sums, http_fault *fault)
{
    while (*value != '\0') {
        size_t bytes = strcspn(value, ", \t");
        if (bytes > 0 && !http_is_token(value, bytes))
            return malformed(fault, "Connection is not a list of tokens");
        if (bytes == 5 && strncasecmp(value, "close", bytes) == 0)
            sums->close = true;
        if (bytes == 10 && strncasecmp(value, "keep-alive", bytes) == 0)
            sums->keep_alive = true;
        value += bytes;
        value += strspn(value, ", \t");
    }
    return true;
}

static bool parse_host(const char *value, http_head *head, http_fault *fault)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "-._~!$&'()*+;=:[]%";
    if (value[strspn(value, allowed)] != '\0')
        return refuse(fault, PROBLEM_MALFORMED_REQUEST, "Host is not a host name", "Host");
    head->host = value;
    return true;
}

static bool visit_field(const char *name, const char *value, http_head *head, field_sums *sums,
                        http_fault *fault)
{
    if (strcasecmp(name, "Host") == 0) {
        sums->hosts++;
        return parse_host(value, head, fault);
    }
    if (strcasecmp(name, "Content-Length") == 0) {
        sums->lengths++;
        head->has_length = true;
        return parse_length(value, &head->length) ||
               malformed(fault, "Content-Length is not a number");
    }
    if (strcasecmp(name, "Transfer-Encoding") == 0) {
        sums->codings++;
        head->chunked = true;
        return strcasecmp(value, "chunked") == 0 ||
               refuse(fault, PROBLEM_NOT_IMPLEMENTED, "the only transfer coding taken is chunked",
                      "Transfer-Encoding");
    }
    if (strcasecmp(name, "Connection") == 0)
        return parse_connection(value, sums, fault);
    for (size_t i = 0; i < SINGLETONS; i++)
        if (strcasecmp(name, singletons[i]) == 0 && ++sums->seen[i] > 1)
            return refuse(fault, PROBLEM_MALFORMED_REQUEST,
                          "a header that may be there once is there twice", singletons[i]);
    if (strcasecmp(name, "Origin") == 0)
        head->origin = value;
    if (strcasecmp(name, "Expect") == 0 && !head->is_1_0) {
        head->expects_continue = true;
        return strcasecmp(value, "100-continue") == 0 ||
               refuse(fault, PROBLEM_EXPECTATION_FAILED, "only 100-continue can be expected",
                      "Expect");
    }
    return true;
}

/* NAME ":" OWS VALUE OWS; `line` is NUL-terminated. */
static bool parse_field(char *line, http_head *head, field_sums *sums, http_fault *fault)
{
    char *colon = strchr(line, ':');
    if (line[0] == ' ' || line[0] == '\t')
        return malformed(fault, "a header is folded over lines");
    if (colon == NULL || !http_is_token(line, (size_t)(colon - line)))
        return malformed(fault, "a header has no name, or one that is not a token");
    if (head->field_count == HTTP_HEAD_FIELDS_MAX)
        return refuse(fault, PROBLEM_HEAD_TOO_LARGE, "there are more than 100 headers", NULL);
    *colon = '\0';
    char *value = colon + 1;
    value += strspn(value, " \t");
    char *end = value + strlen(value);
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *end = '\0';
    head->fields[head->field_count++] =
        (http_field){(uint16_t)(line - head->text), (uint16_t)(value - head->text)};
    return visit_field(line, value, head, sums, fault);
}

/* Framing as a whole, once all fields are known. */
static bool judge(http_head *head, const field_sums *sums, http_fault *fault)
{
    if (sums->lengths > 1 || sums->codings > 1)
        return malformed(fault, "Content-Length or Transfer-Encoding is there more than once");
    if (sums->lengths == 1 && sums->codings == 1)
        return malformed(fault, "Content-Length and Transfer-Encoding are there together");
    if (head->chunked && head->is_1_0)
        return malformed(fault, "HTTP/1.0 has no Transfer-Encoding");
    if (sums->hosts != 1)
        return malformed(fault, "there is not exactly one Host header");
    head->keep_alive = !sums->close && (!head->is_1_0 || sums->keep_alive);
    return true;
}

bool http_head_parse(char *text, size_t count, http_head *ret_head, http_fault *fault)
{
    http_head *head = ret_head;
    field_sums sums = {0};
    http_fault held = {0}; /* of a field; framing as a whole is judged first */
    bool first = true;
    assert(count >= 4 && count <= HTTP_HEAD_BYTES_MAX + 1);
    memset(head, 0, offsetof(http_head, fields));
    head->text = text;
    head->method = head->target = "";
    text[count] = '\0';
    char *line = text;
    char *last = text + count - 2; /* the empty line */
    while (line < last) {
        char *end = memchr(line, '\r', (size_t)(last + 1 - line));
        if (end == NULL || end[1] != '\n' || memchr(line, '\0', (size_t)(end - line)) != NULL)
            return malformed(fault, "the head has a control byte");
        *end = '\0';
        if (first && !parse_request_line(line, head, fault))
            return false;
        if (!first && !parse_field(line, head, &sums, fault)) {
            if (fault->type == PROBLEM_MALFORMED_REQUEST || fault->type == PROBLEM_HEAD_TOO_LARGE)
                return false;
            held = held.detail == NULL ? *fault : held;
        }
        first = false;
        line = end + 2;
    }
    if (!judge(head, &sums, fault))
        return false;
    if (held.detail != NULL)
        *fault = held;
    return held.detail == NULL;
}

const char *http_head_field(const http_head *head, const char *name)
{
    for (size_t i = 0; i < head->field_count; i++)
        if (strcasecmp(head->text + head->fields[i].name, name) == 0)
            return head->text + head->fields[i].value;
    return NULL;
}
