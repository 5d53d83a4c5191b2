/* SPDX-License-Identifier: Apache-2.0 */
/* Object storage that speaks the protocol of Amazon S3, and the record of what a job stored there.
 */
#pragma once

#include "daemon/s3/client.h"
#include "daemon/s3/deposit.h"
