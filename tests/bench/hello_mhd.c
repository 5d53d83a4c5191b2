/* SPDX-License-Identifier: Apache-2.0 */
/* The yardstick of bench_edge: a hello-world of libmicrohttpd, one epoll thread. Built by the bench
 * alone. Arguments: PORT [CERTIFICATE KEY]. Ends when its standard input does. */
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum MHD_Result answer(void *cls, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload_data,
                              size_t *upload_data_size, void **con_cls)
{
    static const char text[] = "{\"hello\":\"world\"}";
    (void)cls, (void)url, (void)method, (void)version, (void)upload_data, (void)upload_data_size;
    if (*con_cls == NULL) { /* as libmicrohttpd's own example does: reply at the second call */
        *con_cls = (void *)text;
        return MHD_YES;
    }
    struct MHD_Response *response =
        MHD_create_response_from_buffer(sizeof text - 1, (void *)text, MHD_RESPMEM_PERSISTENT);
    enum MHD_Result result = MHD_queue_response(connection, 200, response);
    MHD_destroy_response(response);
    return result;
}

static char *read_file(const char *path)
{
    static char texts[2][65536];
    static int used;
    FILE *file = fopen(path, "r");
    if (file == NULL || fread(texts[used], 1, sizeof texts[used] - 1, file) == 0)
        exit(EXIT_FAILURE);
    fclose(file);
    return texts[used++];
}

int main(int argc, char **argv)
{
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD;
    struct MHD_Daemon *daemon;
    if (argc == 4)
        daemon = MHD_start_daemon(flags | MHD_USE_TLS, (uint16_t)atoi(argv[1]), NULL, NULL, answer,
                                  NULL, MHD_OPTION_HTTPS_MEM_CERT, read_file(argv[2]),
                                  MHD_OPTION_HTTPS_MEM_KEY, read_file(argv[3]), MHD_OPTION_END);
    else if (argc == 2)
        daemon = MHD_start_daemon(flags, (uint16_t)atoi(argv[1]), NULL, NULL, answer, NULL,
                                  MHD_OPTION_END);
    else
        return EXIT_FAILURE;
    if (daemon == NULL)
        return EXIT_FAILURE;
    while (getchar() != EOF)
        ;
    MHD_stop_daemon(daemon);
    return EXIT_SUCCESS;
}
