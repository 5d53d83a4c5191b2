# SPDX-License-Identifier: Apache-2.0
"""result.py MODEL: waits until a merge is registered under this name, and prints what it keeps."""
import sys
import time

from mlflow import MlflowClient

client = MlflowClient("http://127.0.0.1:5000")
while not (found := client.search_model_versions(f"name='{sys.argv[1]}'")):
    time.sleep(0.2)
figures = client.get_run(found[0].run_id).data.metrics
print(f"{found[0].name} version {found[0].version}, error {figures['error.relative']:.3f}")
