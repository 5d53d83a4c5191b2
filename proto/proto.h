/* SPDX-License-Identifier: Apache-2.0 */
/* The wire contract: what daemon and client agree on. openapi.yaml says the same. */
#pragma once

#include "proto/bakeoff_request.h"
#include "proto/budget.h"
#include "proto/document.h"
#include "proto/export_request.h"
#include "proto/extension_request.h"
#include "proto/fetch_request.h"
#include "proto/limits.h"
#include "proto/names.h"
#include "proto/problems.h"
#include "proto/specification.h"
#include "proto/states.h"
#include "proto/token_request.h"
#include "proto/upload_request.h"
#include "proto/webhook_request.h"
