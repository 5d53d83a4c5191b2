/* SPDX-License-Identifier: Apache-2.0 */
/* Settings of what comes from other servers and goes to them: rows of config_table.h. */
#pragma once

#include <stdint.h>

#define CONFIG_TRANSFER_TABLE(X)                                                                   \
    X(fetch_dir, PATH, "", "", 0, 0,                                                               \
      "model directory that models are fetched to, a hub's cache; none = fetch nothing")           \
    X(hub_endpoint, TEXT, "", "", 0, 0, "URL of the hub that hf:ORG/NAME is fetched from")         \
    X(hub_token_file, PATH, "", "", 0, 0,                                                          \
      "file with the token (or credential:NAME) that the hub gets, no other host")                 \
    X(fetch_hosts, TEXT, "", "", 0, 0,                                                             \
      "HOST,... files may come from besides the hub; .HOST stands for all below it")               \
    X(fetch_private, INTEGER, "", "0", 0, 1,                                                       \
      "1 = also fetch from private addresses, and over http")                                      \
    X(artifact_store, TEXT, "", "", 0, 0,                                                          \
      "s3://BUCKET[/PREFIX] that artifacts are stored at; none = in the state directory alone")    \
    X(s3_endpoint, TEXT, "", "", 0, 0, "URL of the server of S3; none = Amazon's of the region")   \
    X(s3_region, TEXT, "", "us-east-1", 0, 0, "region that requests to S3 are signed for")         \
    X(s3_credentials_file, PATH, "", "", 0, 0,                                                     \
      "file (or credential:NAME) with keys for S3; none = those in the environment")               \
    X(s3_ca_file, PATH, "", "", 0, 0,                                                              \
      "certificates that the server of S3 is trusted by instead of the system's")                  \
    X(s3_metadata, INTEGER, "", "0", 0, 1,                                                         \
      "1 = ask the metadata service of the instance for credentials (IMDSv2)")                     \
    X(s3_private, INTEGER, "", "0", 0, 1,                                                          \
      "1 = S3 may have a private address, and be spoken to over http")                             \
    X(s3_path_style, INTEGER, "", "1", 0, 1, "1 = HOST/BUCKET/KEY, 0 = BUCKET.HOST/KEY")           \
    X(s3_keep_local, INTEGER, "", "1", 0, 1,                                                       \
      "0 = of stored artifacts only the manifest stays in the state directory")                    \
    X(s3_part_bytes, INTEGER, "bytes", "64M", 5242880, 5368709120,                                 \
      "of a file at a time; a larger file is stored in parts")                                     \
    X(s3_redirect, INTEGER, "", "0", 0, 1,                                                         \
      "1 = downloads of stored artifacts are redirected to S3 by a signed URL")                    \
    X(s3_redirect_seconds, INTEGER, "seconds", "300", 1, 604800, "that such a URL is good for")    \
    X(s3_retry_seconds, INTEGER, "seconds", "120", 1, 86400,                                       \
      "for one request to S3 with all its attempts")
