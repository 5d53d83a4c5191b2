/* SPDX-License-Identifier: Apache-2.0 */
/* The way to the server: its resources as JSON, downloads, and signals that end both. */
#pragma once

#include "client/net/download.h"
#include "client/net/download_batch.h"
#include "client/net/event_stream.h"
#include "client/net/interrupt.h"
#include "client/net/service.h"
