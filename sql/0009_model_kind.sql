-- SPDX-License-Identifier: Apache-2.0
-- Whether a model is a LoRA adapter or a checkpoint; the scan at start fills it in.
ALTER TABLE models ADD COLUMN is_adapter INTEGER NOT NULL DEFAULT 0 CHECK (is_adapter IN (0, 1));
