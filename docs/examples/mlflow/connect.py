# SPDX-License-Identifier: Apache-2.0
"""connect.py SECRET_FILE: has MLflow tell didid of every alias that is set."""
import pathlib
import sys

from mlflow import MlflowClient

client = MlflowClient("http://127.0.0.1:5000")
webhook = client.create_webhook(
    name="didid", url="http://127.0.0.1:7878/v1/hooks/ocr",
    events=["model_version_alias.created"],
    secret=pathlib.Path(sys.argv[1]).read_text().strip())
print("webhook", webhook.name)
