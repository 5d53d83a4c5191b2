// SPDX-License-Identifier: Apache-2.0
// The page begins here: who is looking, then the view that the address names.
import { start } from "./app/shell.js";

start(document.body);
