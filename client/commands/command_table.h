/* SPDX-License-Identifier: Apache-2.0 */
/* Which commands there are. */
#pragma once

/* All commands, command_x for each row, in the order of the help text. */
#define COMMAND_TABLE(X)                                                                           \
    X(model_list)                                                                                  \
    X(model_show)                                                                                  \
    X(model_rescan)                                                                                \
    X(model_add)                                                                                   \
    X(model_push)                                                                                  \
    X(model_rm)                                                                                    \
    X(model_fetches)                                                                               \
    X(model_cancel)                                                                                \
    X(model_forget)                                                                                \
    X(methods)                                                                                     \
    X(submit)                                                                                      \
    X(extend)                                                                                      \
    X(plan)                                                                                        \
    X(jobs)                                                                                        \
    X(show)                                                                                        \
    X(watch)                                                                                       \
    X(wait)                                                                                        \
    X(cancel)                                                                                      \
    X(retry)                                                                                       \
    X(rm)                                                                                          \
    X(events)                                                                                      \
    X(ranks)                                                                                       \
    X(frontier)                                                                                    \
    X(similarity)                                                                                  \
    X(compare)                                                                                     \
    X(report)                                                                                      \
    X(pull)                                                                                        \
    X(webhook_add)                                                                                 \
    X(webhook_list)                                                                                \
    X(webhook_show)                                                                                \
    X(webhook_set)                                                                                 \
    X(webhook_remove)                                                                              \
    X(webhook_rotate)                                                                              \
    X(webhook_test)                                                                                \
    X(webhook_deliveries)                                                                          \
    X(webhook_delivery)                                                                            \
    X(webhook_redeliver)                                                                           \
    X(hook_add)                                                                                    \
    X(hook_list)                                                                                   \
    X(hook_show)                                                                                   \
    X(hook_rm)                                                                                     \
    X(hook_try)                                                                                    \
    X(hook_poll)                                                                                   \
    X(hook_deliveries)                                                                             \
    X(status)                                                                                      \
    X(backup)                                                                                      \
    X(doctor)                                                                                      \
    X(login)                                                                                       \
    X(logout)                                                                                      \
    X(context_list)                                                                                \
    X(context_use)                                                                                 \
    X(context_show)                                                                                \
    X(context_remove)                                                                              \
    X(token_create)                                                                                \
    X(token_list)                                                                                  \
    X(token_remove)                                                                                \
    X(version)                                                                                     \
    X(completion)
