/* SPDX-License-Identifier: Apache-2.0 */
/* A client of our own for the socket in the state directory. */
#include "daemon/access/control.h"

#include "daemon/access/access.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONTROL_SECONDS = 60, CONTROL_ANSWER_BYTES_MAX = 16 << 20 };

/* A path in the state directory may be longer than a socket's address; one through the descriptor
 * is not. */
#define CONTROL_PATH "/proc/self/fd/%d/control.sock"

void access_control_place(const state_dir *state, char ret_listen[ACCESS_CONTROL_BYTES])
{
    (void)snprintf(ret_listen, ACCESS_CONTROL_BYTES, "unix:" CONTROL_PATH, state_dir_fd(state));
}

typedef struct control_answer {
    char *text;
    size_t bytes;
} control_answer;

static size_t answer_arrived(char *bytes, size_t size, size_t count, void *context)
{
    control_answer *self = context;
    size_t more = size * count;
    if (more > CONTROL_ANSWER_BYTES_MAX - self->bytes)
        return 0;
    char *text = memory_resized(self->text, self->bytes + more + 1, 1);
    if (text == NULL)
        return 0;
    memcpy(text + self->bytes, bytes, more);
    self->text = text;
    self->bytes += more;
    return more;
}

static int read_answer(const control_answer *answer, long status, json_t **ret_document,
                       didi_error *error)
{
    json_t *document =
        answer->text != NULL ? json_load(answer->text, answer->bytes, 0, NULL, NULL) : NULL;
    if (status == 204) {
        json_decref(document);
        *ret_document = NULL;
        return DIDI_OK;
    }
    if (status >= 200 && status < 300 && document != NULL) {
        *ret_document = document;
        return DIDI_OK;
    }
    const char *detail = json_string_value(json_object_get(document, "detail"));
    didi_fail(error, DIDI_CONFLICT, NULL, "the daemon answered %ld: %s", status,
              detail != NULL ? detail : "no reason given");
    json_decref(document);
    return DIDI_CONFLICT;
}

int control_exchange(int state_fd, const char *method, const char *target, const char *body,
                     json_t **ret_document, didi_error *error)
{
    char path[ACCESS_CONTROL_BYTES];
    control_answer answer = {0};
    CURL *easy = curl_easy_init();
    char *url = memory_format("http://localhost%s", target);
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    CURLcode code = CURLE_OUT_OF_MEMORY;
    long http_status = 0;
    int status = DIDI_OK;
    (void)snprintf(path, sizeof path, CONTROL_PATH, state_fd);
    if (easy != NULL && url != NULL && headers != NULL) {
        curl_easy_setopt(easy, CURLOPT_URL, url);
        curl_easy_setopt(easy, CURLOPT_PROXY, "");
        curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, path);
        curl_easy_setopt(easy, CURLOPT_TIMEOUT, (long)CONTROL_SECONDS);
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, answer_arrived);
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, &answer);
        if (body != NULL) {
            curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
            curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
        }
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
        code = curl_easy_perform(easy);
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &http_status);
    }
    if (code == CURLE_COULDNT_CONNECT)
        status = didi_fail(error, DIDI_NOT_FOUND, NULL, "nobody answers on control.sock");
    else if (code != CURLE_OK)
        status = didi_fail(error, code == CURLE_OUT_OF_MEMORY ? DIDI_NO_MEMORY : DIDI_IO, NULL,
                           "control.sock: %s", curl_easy_strerror(code));
    else
        status = read_answer(&answer, http_status, ret_document, error);
    if (answer.text != NULL)
        explicit_bzero(answer.text, answer.bytes);
    free(answer.text);
    curl_slist_free_all(headers);
    curl_easy_cleanup(easy);
    free(url);
    return status;
}
