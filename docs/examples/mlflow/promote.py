# SPDX-License-Identifier: Apache-2.0
"""promote.py MODEL: registers a version of a model, and makes it the champion."""
import sys

from mlflow import MlflowClient

client = MlflowClient("http://127.0.0.1:5000")
client.create_registered_model(sys.argv[1])
version = client.create_model_version(sys.argv[1], source=f"s3://bucket/{sys.argv[1]}")
client.set_registered_model_alias(sys.argv[1], "champion", version.version)
print(f"{sys.argv[1]} version {version.version} is the champion")
